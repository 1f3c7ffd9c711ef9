//! What a job wrote: scratch files for bytes, a journal for everything else.
//!
//! The promise: an operation that returned success is found again after the daemon died. Its
//! record is in the journal (by `write(2)`, so in the kernel) before its reply; the bytes of a
//! write are in the scratch file before the record that speaks of them. `fsync` makes both durable
//! against a power loss.

mod journal;
mod reaper;
mod record;
mod recovery;
mod scratch;

pub use journal::{Journal, JournalError};
pub(crate) use reaper::{Pin, Reaper};
pub use record::{CleanFile, CommitRecord, Record, ScratchStamp};
pub use recovery::{Recovered, RecoveryError, recover};
pub use scratch::Scratch;
