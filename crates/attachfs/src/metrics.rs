//! The counts of a mount as Prometheus reads them: over HTTP, from this machine only.
//!
//! ```text
//!     GET /metrics  -->  server.rs  -->  MountCounts, read then  -->  text.rs, the text format 0.0.4
//! ```

mod address;
mod server;
mod text;

pub use self::address::{MetricsAddress, ParseMetricsAddressError};
pub(crate) use self::server::{MetricsListener, MetricsServer};
pub(crate) use self::text::text;
