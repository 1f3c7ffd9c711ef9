//! Looking after whole stores: what `attachfs store` does.
//!
//! ```text
//!     store --stat--> how much is in it
//!     store, manifests --verify--> the objects that are damaged or missing
//!     store, manifests --sync--> another store that has them too
//!     store --gc--> what no manifest needs; nothing is ever deleted here
//! ```
//!
//! Stores are listed page by page, so memory does not grow with the number of objects, except for 16 bytes of each that
//! a manifest refers to.

mod gc;
mod listing;
mod stat;
mod sync;
mod verify;

pub use gc::{Garbage, GcOptions, GcPlan, LEAST_DAYS, UnreadManifest, plan_gc};
pub use stat::{StoreStat, stat_store};
pub use sync::{SyncReport, SyncRequest, SyncedManifest, sync_store};
pub use verify::{StoreTrouble, VerifyReport, verify_store};
