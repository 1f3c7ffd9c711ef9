//! The read side: bytes of stored objects, from memory, from the disk cache, or from the store.
//!
//! ```text
//!     read_cached   memory -> disk cache                      on any thread, never waits for the store
//!     read          memory -> in flight? -> disk cache -> store        on the runtime
//! ```
//!
//! An object of up to [`FetchOptions::whole_object_limit`] bytes is fetched whole, and its length and
//! hash are verified before the first byte is given. A longer one is fetched in aligned blocks of
//! [`FetchOptions::block_len`]; of these only the length of the object is checked, and that the store
//! still holds the same version of it. Verifying a long object once all of it has arrived belongs into
//! [`Fetcher`]'s module `ranged`, which sees every block.
//!
//! However many readers want the same object or block at the same time, it is fetched once. Memory is
//! bounded twice: what is kept ([`FetchOptions::memory_bytes`]) and what is under way
//! ([`FetchOptions::in_flight_bytes`]).

mod budget;
mod counters;
mod disk;
mod error;
mod fetcher;
mod memory;
mod options;
mod outage;
mod overdue;
mod ranged;
mod whole;

pub use budget::{ByteBudget, HeldBytes};
pub use counters::FetchCounters;
pub use disk::DiskCache;
pub use error::FetchError;
pub use fetcher::Fetcher;
pub use options::FetchOptions;
