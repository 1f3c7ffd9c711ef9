//! The states of a file on its way into the folder, each a type.
//!
//! ```text
//!     Partial                  bytes are coming
//!        |  Proof              all of them are here, and have the hashes that the manifest says
//!        v
//!     Verified <--. taken up
//!        |  |     |
//!        |  '-> Waiting        its place is taken until a swap; closed, under its made-up name
//!        v
//!     Placed                   under a name of its own
//! ```
//!
//! Only a [`Verified`] file can be given a name, and only a [`Proof`] makes one of a [`Partial`] file. Until it is
//! placed, a file lies under a name that nobody can guess ([`staged`]), where another run finds it ([`left`]).

mod left;
mod partial;
mod proof;
mod staged;
#[cfg(test)]
mod tests;
mod verified;
mod waiting;

pub(super) use left::{left_in, remove_left, room_of_left};
pub(super) use partial::Partial;
pub(super) use proof::{InOrder, Proof, READING};
pub(super) use verified::{Named, SETTING_TIME, Verified};
pub(super) use waiting::{Waiting, Waitlist};
