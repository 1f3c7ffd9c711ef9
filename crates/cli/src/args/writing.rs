//! How a mount is written to: options of `mount` and `run`.

use clap::Args;

#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Writing")]
pub(crate) struct Writing {
    /// Let the kernel keep what is written, and hand it to the process that serves the mount later: several times as fast for short
    /// writes where that process gets each of them otherwise, as without CAP_SYS_ADMIN. What was written survives that process
    /// only once it was synced or the file closed (otherwise as soon as write(2) has returned). A file that could not be
    /// written after all, on a full disk for example, is an error of fsync(2) or close(2). Writing a part of an input's page fetches the rest. The
    /// kernel then gets no local files to read and write by itself (see --no-passthrough), which is faster still: as root
    /// leave this out. Ignored where nothing can be written.
    #[arg(long)]
    pub(crate) writeback_cache: bool,
}
