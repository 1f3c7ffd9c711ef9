//! The changes of a job: scratch files for bytes, a journal for everything else.
//!
//! The promise: an operation that returned success survives the death of the daemon. Its record is in
//! the journal (by `write(2)`, so in the kernel) before its reply; the bytes of a write are in the
//! scratch file before their record. `fsync` makes both survive a power loss, and no sync destroys what
//! was durable before: see `disk`. A journal that became long is replaced by a shorter one: see
//! `compaction`.

mod bound;
mod check;
pub(crate) mod compaction;
mod disk;
mod error;
mod files;
mod format;
mod journal;
mod layers;
mod leases;
mod reaper;
mod record;
mod recovery;
mod replay;
mod reserve;
mod salvage;
mod scratch;
pub(crate) mod successor;

pub use check::{Checked, check};
pub use disk::SyncError;
pub(crate) use disk::{Disk, SyncHold};
pub use error::JournalError;
pub use files::{OverlayFiles, ScratchDir};
pub use format::{Damage, Torn};
pub use journal::{Journal, JournalEnd, ReadJournal};
pub use layers::LayerFileError;
pub(crate) use layers::{BaseSource, LayerFiles};
pub(crate) use leases::Lease;
pub(crate) use reaper::{Pin, Reaper};
pub use record::{CleanFile, CommitRecord, Record, ScratchStamp};
pub use recovery::RecoveryError;
pub(crate) use recovery::look;
pub(crate) use replay::replacing;
pub(crate) use reserve::Reserve;
pub use salvage::{Salvaged, salvage};
pub(crate) use scratch::Leased;
pub use scratch::Scratch;
