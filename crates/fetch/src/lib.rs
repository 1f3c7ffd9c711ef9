//! The read side: bytes of stored objects, from memory, from the disk cache, or from the store.
//!
//! ```text
//!     FileReader::read     memory, or under way already?         on any thread, never waits for the store
//!                          disk cache
//!     PendingRead::bytes   store                                 on the runtime, as a task of the scheduler
//! ```
//!
//! An object of up to [`FetchOptions::whole_object_limit`] bytes is fetched whole, and its length and
//! hash are verified before the first byte is given: it is *small*. A longer one, a *large* object, is fetched in aligned units of
//! [`FetchOptions::unit_len`], which are given as they come; it is verified when all of it has been read, and if it turns out to be
//! wrong, or the store replaces it, that is told ([`Fetcher::on_doubt`]). A reader that goes on in a way that can be foreseen has what follows
//! fetched ahead ([`Prefetch`]).
//!
//! A caller that takes all bytes of an object in order, as a download does, takes room of the budget ([`Fetcher::room`]), fetches
//! ranges that are not kept ([`Fetcher::fetch`]) and verifies them with a [`Verifier`].
//!
//! However many readers want the same object or unit at the same time, it is looked up and fetched once. One
//! budget ([`FetchOptions::memory_bytes`]) bounds what is kept and what is under way together.
//!
//! What is read can be recorded as a [`Trace`], and what such traces say can be fetched ahead ([`Plan`], [`Fetcher::fetch_behind`]).

mod ahead;
mod budget;
mod counters;
mod disk;
mod doubt;
mod error;
mod fetcher;
mod landed;
mod large_objects;
mod link;
mod options;
mod outage;
mod overdue;
mod patience;
mod prefetched;
mod presence;
mod quiet;
mod range_fetch;
mod reader;
mod scheduler;
mod small_objects;
#[cfg(test)]
mod testing;
mod traces;
mod verifier;
mod warming;

pub use budget::{ByteBudget, HeldBytes, Priority};
pub use counters::{FetchCounters, UnderWay};
pub use disk::{
    Collected, DiskCache, Goal, LargeFile, Survey, UNIT as CACHE_UNIT, Upkeep, Verdict, WrongObject,
};
pub use doubt::Doubt;
pub use error::FetchError;
pub use fetcher::Fetcher;
pub use options::{FetchOptions, Prefetch};
pub use prefetched::Prefetched;
pub use presence::WholeOnDisk;
pub use reader::{FileRead, FileReader, PendingRead};
pub use traces::{
    LONGEST_TRACE, Plan, PlanOptions, Recorder, Recording, Trace, TraceError, TraceFault,
    TracedRange, looks_like_trace,
};
pub use verifier::Verifier;
pub use warming::Warmed;
