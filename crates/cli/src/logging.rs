//! The log goes to standard error, which for a mount in the background is a file.
//!
//! ```text
//!     tracing::warn!(..)  ->  filter    the levels that the user wants (-v, ATTACHFS_LOG)
//!                         ->  Floods    one line about one thing a minute, then counts
//!                         ->  Lines     one event is one line, also if its text has several
//!                         ->  Rolling   the file has a bound: `log`, before that `log.1`
//! ```
//!
//! So nobody who writes to the log has to ask how often. Writing to it never fails: on a full disk lines are
//! lost, and nothing else. What panics and libraries print goes to the same file, past all this.

mod flood;
mod lines;
mod rolling;

use std::fs::File;
use std::path::{Path, PathBuf};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::flood::Floods;
use self::lines::Lines;

const VARIABLE: &str = "ATTACHFS_LOG";

/// The filter of what is logged. Fails if the variable `ATTACHFS_LOG` is invalid; empty is unset.
fn filter(verbose: u8) -> Result<EnvFilter, String> {
    if let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
        let shown = text.to_string_lossy();
        let wrong = |why: &dyn std::fmt::Display| {
            format!("{VARIABLE} is {shown:?}, which cannot be used: {why}")
        };
        let text = text
            .to_str()
            .ok_or_else(|| wrong(&"it is not UTF-8 text"))?;
        return EnvFilter::try_new(text).map_err(|error| wrong(&error));
    }
    let usual = match verbose {
        0 => "warn,aws_config=error,aws_runtime=error,aws_sdk_s3=error,aws_smithy_runtime=error",
        1 => "info,aws_config=warn,aws_smithy_runtime=warn",
        _ => "debug,hyper=info,hyper_util=info,aws_smithy_runtime=info",
    };
    Ok(EnvFilter::new(usual))
}

/// The name that means the system's journal.
pub(crate) const JOURNALD: &str = "journald";

/// Starts logging to standard error, or to the journal if that is asked for and there. `ATTACHFS_LOG`
/// overrides `-v`, in the syntax of `RUST_LOG`; what is wrong with it is the error.
pub(crate) fn start(verbose: u8, to: Option<&Path>) -> Result<(), String> {
    let registry = tracing_subscriber::registry()
        .with(filter(verbose)?)
        .with(Floods);
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || Lines { is_terminal })
        .with_ansi(is_terminal)
        .with_target(false);
    if to == Some(Path::new(JOURNALD)) {
        match tracing_journald::layer() {
            Ok(journal) => {
                registry.with(journal).init();
                return Ok(());
            }
            Err(error) => {
                registry.with(lines).init();
                tracing::warn!(%error, "there is no journal to write to");
                return Ok(());
            }
        }
    }
    registry.with(lines).init();
    Ok(())
}

/// Bounds the log. Standard error is the file `log` at `path`, which is this program's own: when it is
/// full, it becomes `log.1`, in the place of an older one.
pub(crate) fn bound(path: PathBuf, log: File) {
    rolling::start(path, log);
}

/// Logs the counts that were not logged yet. For the end of the program.
pub(crate) fn finish() {
    flood::tell_all();
}
