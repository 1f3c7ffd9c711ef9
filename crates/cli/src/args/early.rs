//! What is sent of the outputs while a job goes on: options of `mount` and `run`.

use std::num::NonZeroU64;

use attachfs::EarlyUploads;
use clap::Args;
use clap::builder::BoolishValueParser;

use super::values::parse_rate;

/// What is sent before the commit. Where output directories are declared (`--output-dir`), what is written there is sent
/// while the job goes on.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Early upload")]
pub(crate) struct EarlyUpload {
    /// Send nothing before the commit. Otherwise, where output directories are declared (--output-dir), files that were written
    /// there, closed, and not changed for some seconds are sent while the job goes on; the commit asks the store for them and
    /// sends the rest. What is sent and never committed stays in the store, where nothing refers to it. `status` tells how much
    /// was sent.
    #[arg(long, env = "ATTACHFS_NO_EARLY_UPLOAD", value_parser = BoolishValueParser::new())]
    no_early_upload: bool,
    /// Bytes a second that are sent before the commit, at most, such as 10MB or 1GiB; where output directories are declared
    /// (--output-dir). Default: as many as --max-bandwidth lets pass.
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    early_upload_rate: Option<NonZeroU64>,
}

impl EarlyUpload {
    /// Fails if a rate is given where nothing is sent before the commit.
    pub(crate) fn check(&self, has_outputs: bool) -> Result<(), attachfs::Error> {
        let why = if self.early_upload_rate.is_none() {
            return Ok(());
        } else if self.no_early_upload {
            "nothing is sent before the commit (--no-early-upload)"
        } else if !has_outputs {
            "without --output-dir nothing is sent before the commit"
        } else {
            return Ok(());
        };
        let sentence = format!("--early-upload-rate bounds nothing: {why}");
        Err(attachfs::Error::usage(sentence).advise("declare the outputs, or leave the rate out"))
    }
}

impl From<EarlyUpload> for EarlyUploads {
    fn from(said: EarlyUpload) -> Self {
        Self {
            off: said.no_early_upload,
            max_rate: said.early_upload_rate,
            ..Self::default()
        }
    }
}
