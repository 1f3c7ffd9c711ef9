//! A commit: what a session wrote becomes a diff manifest in the store, all or nothing.
//!
//! ```text
//!     freeze -> plan -> hash -> upload and confirm -> read back -> record the intent -> PUT -> record the end
//!               Planned  Hashed  Uploaded                                                      Published
//! ```
//!
//! Publishing exists only on [`Uploaded`], so no manifest is in the store before every chunk it
//! names was confirmed. The intent is durable before the PUT, with the manifest's bytes; after a
//! crash, and once the store was asked for each chunk again and given what it had lost, the same bytes go to the same key again, under `If-None-Match: *`. Then either that is
//! what the store has, or someone else's manifest is there and nothing is overwritten. Everything
//! before the intent is simply done again: hashing gives the same hashes, uploading finds the
//! objects there.
//!
//! A second commit of a session names as its parent what the first one made of the base.

mod account;
mod assemble;
mod choice;
mod collapse;
mod early;
mod error;
mod generations;
mod handed;
mod hash;
mod history;
mod node;
mod open;
mod plan;
mod preview;
mod publish;
mod quiet;
mod readback;
mod rehearse;
mod resend;
mod run;
mod size;
mod states;
mod tainted;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod uncommitted;
mod unfinished;

pub use account::Account;
pub use choice::Patterns;
pub use collapse::CollapseError;
pub use early::{EarlyCounts, EarlyOptions, EarlyUpload, SentEarly};
pub use error::{CommitError, LostObject, OpenFile, OutgoingLink};
pub use generations::check_total;
pub use handed::handed_over;
pub use hash::Hashed;
pub use history::{Committed, Finished, commits, finished, last_clean};
pub use open::{OpenSession, OpenSessionError, overlay_files};
pub use plan::Planned;
pub use preview::{Changed, Preview};
pub use publish::{Published, Uploaded};
pub use rehearse::{Rehearsal, rehearse};
pub use run::{Outcome, commit, preview};
pub use size::LargeFile;
pub use states::{Commit, CommitOptions, CommitStep, HandedFormat, Links, Observer};
pub use tainted::taints;
pub use uncommitted::{Uncommitted, is_uncommitted, touched, uncommitted};
