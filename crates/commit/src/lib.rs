//! A commit: what a session wrote becomes a diff manifest in the store, all or nothing.
//!
//! ```text
//!     freeze -> plan -> hash -> upload and confirm -> read back -> record the intent -> PUT -> record the end
//!               Planned  Hashed  Uploaded                                                      Published
//! ```
//!
//! Publishing exists only on [`Uploaded`], so no manifest is in the store before every chunk it
//! names was confirmed. The intent is durable before the PUT, with the manifest's bytes; after a
//! crash the same bytes go to the same key again, under `If-None-Match: *`. Then either that is
//! what the store has, or someone else's manifest is there and nothing is overwritten. Everything
//! before the intent is simply done again: hashing gives the same hashes, uploading finds the
//! objects there.
//!
//! A second commit of a session names as its parent what the first one made of the base.

mod account;
mod assemble;
mod error;
mod generations;
mod hash;
mod node;
mod open;
mod plan;
mod preview;
mod publish;
mod readback;
mod run;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod uncommitted;
mod upload;

pub use account::Account;
pub use error::{CommitError, OpenFile, OutgoingLink};
pub use hash::Hashed;
pub use open::{OpenSession, OpenSessionError};
pub use plan::{CommitOptions, Links, Planned};
pub use preview::{Changed, Preview};
pub use publish::{Committed, Finished, Published, commits, finished};
pub use run::{Outcome, commit, preview};
pub use uncommitted::{touched, uncommitted};
pub use upload::Uploaded;

use std::time::{Duration, Instant};

use attachfs_transfer::Progress;
use attachfs_tree::Ino;
use attachfs_vfs::Frozen;

/// The steps of a commit, as an [`Observer`] hears of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// It is known what changed.
    Planned,
    /// Everything has its hash.
    Hashed,
    /// Every chunk is confirmed to be in the store.
    Uploaded,
    /// The intent to publish is durable; the manifest was not sent.
    Intended,
    /// The store has the manifest; that is not yet recorded.
    Sent,
    /// Done.
    Published,
}

/// Who hears of a commit's steps, and of the progress of hashing and uploading.
pub trait Observer: Progress {
    /// A step was reached. The commit goes on when this returns.
    fn step(&self, step: Step);
}

/// A commit in one of its states.
#[derive(Debug)]
pub struct Commit<S> {
    session: OpenSession,
    frozen: Frozen,
    generation: u32,
    terms: Terms,
    state: S,
}

/// What a commit was asked to do, and since when it tries.
#[derive(Debug, Clone)]
struct Terms {
    options: CommitOptions,
    begun: Instant,
    /// What is published although it was open when an earlier process ended.
    accepted: Vec<Ino>,
}

impl Terms {
    fn new(options: &CommitOptions) -> Self {
        Self {
            options: options.clone(),
            begun: Instant::now(),
            accepted: Vec::new(),
        }
    }

    /// How much longer to wait for files that are written to.
    fn remaining(&self) -> Duration {
        self.options.wait.saturating_sub(self.begun.elapsed())
    }

    /// Whether files that are written to are left out now: nothing is waited for any more, and
    /// leaving them out was asked for.
    fn leaves_out(&self) -> bool {
        self.options.skip_open && self.remaining().is_zero()
    }
}
