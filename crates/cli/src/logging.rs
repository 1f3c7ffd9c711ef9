//! The log goes to standard error, which for a mount in the background is a file.

use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const VARIABLE: &str = "ATTACHFS_LOG";

/// What is logged. Fails if the variable for it makes no sense; empty is unset.
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
    let registry = tracing_subscriber::registry().with(filter(verbose)?);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
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
