//! The account of a mount's use: what was noted while it was used (`inputs.rs`, `missing.rs`), by name.

mod inputs;
mod missing;

pub use inputs::{FileTotal, InputAccount, ReadInput, UnreadInput};
pub use missing::{MissingAccount, MissingName};
