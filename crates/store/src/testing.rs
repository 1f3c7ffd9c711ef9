//! Stores for tests: one in memory, and two that wrap another store and record its calls or make them fail.
//! Also the suite of promises that every store runs. None of this is in a release.

mod call;
pub mod conformance;
pub mod fault;
mod memory;
pub mod record;

pub use call::{Call, CallKind};
pub use memory::MemoryStore;
