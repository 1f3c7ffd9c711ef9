//! Traces: which bytes of objects were read, in the order in which they were read first.
//!
//! ```text
//!     a read --note--> a bounded queue --> a thread: Runs --at the end--> Trace --> a file         recorder.rs, runs.rs
//!                      full: dropped and counted                                   format.rs
//!     Trace, Trace, .. + the objects of the mount --> Plan: what to fetch, in which order          plan.rs
//! ```
//!
//! A trace names objects by their hashes and nothing else, so it is good for every mount that shows the same content, and
//! harmless for any other: what a mount does not show is not fetched. What a kernel answers from its page cache is not seen,
//! so a trace holds first reads.

mod format;
mod plan;
mod ranges;
mod recorder;
mod runs;
mod unread;

use attachfs_manifest::Piece;

use crate::fetcher::Engine;

pub use format::{LONGEST_TRACE, Trace, TraceError, TraceFault, TracedRange, looks_like_trace};
pub use plan::{Plan, PlanOptions};
pub use recorder::{Recorder, Recording};
pub(crate) use unread::Unread;

impl Engine {
    /// Notes that a program reads a piece, wherever its bytes are.
    pub(crate) fn note_read(&self, piece: &Piece) {
        if let Some(recorder) = self.recorder.get() {
            recorder.note(piece);
        }
        self.unread.note(piece);
    }
}
