//! Options of `add` and `layers`.

use std::ffi::OsString;

use clap::Args as ClapArgs;

/// Show more manifests in a mount that is used, or another one in the place of one.
///
/// What a later step needs is added while the job runs: nothing is remounted, open files stay open, and what the job wrote
/// stays as the job left it. When `add` returns, every program that looks sees the new files, and the session
/// keeps the manifests: a commit, a mount after a crash and `status` know them.
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "attachfs add [OPTIONS] <MANIFEST[=SUBDIR]>... <MOUNTPOINT>",
    after_help = "Examples:
  attachfs add step2-inputs.manifest /mnt/scene
  attachfs add s3://bucket/DeadlineCloud/Manifests/…/output.manifest=frames /mnt/scene
  attachfs add --replace scene.manifest scene-v2.manifest /mnt/scene"
)]
pub(crate) struct Add {
    /// Manifests, the lowest first, and then the mount point, or the session's id or directory. With =SUBDIR a
    /// manifest is placed in that directory.
    #[arg(required = true, num_args = 2.., value_names = ["MANIFEST[=SUBDIR]", "MOUNTPOINT"])]
    pub(crate) paths: Vec<OsString>,
    /// Put them in the place of this manifest, which is not shown any more: its number or its name, as `layers` lists them.
    /// Default: they lie over all others.
    #[arg(long, value_name = "LAYER")]
    pub(crate) replace: Option<String>,
    /// Show them without asking the store first whether it has an object of theirs.
    #[arg(long)]
    pub(crate) no_probe: bool,
}
