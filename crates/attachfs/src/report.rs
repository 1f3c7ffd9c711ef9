//! `report`: what a mount's programs used of its inputs, what they missed, and what that cost.
//!
//! ```text
//!     Vfs::input_account, Vfs::missing_names, MountCounts
//!          |   by the process that serves the mount                     serving.rs
//!          v
//!     UseReport, JSON     content.rs; with prices: money.rs
//!          |-- one HTML page with charts                                page.rs, charts.rs
//!          |-- to a client that asks through the control socket
//!          `-- into files when the mount ends                           ending.rs, file.rs
//! ```
//!
//! The lists are bounded, in entries and in bytes: a report of any mount is a few megabytes at most.

mod charts;
mod content;
mod ending;
mod file;
mod money;
mod page;
mod serving;
#[cfg(test)]
mod tests;
mod written;

pub use self::content::{
    Files, InputSums, MissingFile, MissingSums, ReadFile, Saved, Timeline, Transfer, UnreadFile,
    UseReport,
};
pub use self::ending::Reports;
pub(crate) use self::ending::{ReportAtEnd, check_files};
pub use self::file::{
    check_page_is_elsewhere, check_place_of_page, check_place_of_report, write_report_page,
};
pub use self::money::{Money, Prices};
pub use self::page::report_page;
pub use self::serving::report;
pub use self::written::WrittenReport;
