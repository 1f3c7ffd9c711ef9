//! Options of `why`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Show why a mount has what it has at a path, or nothing.
///
/// Of what is there: which manifest it comes from, or that the job wrote it; its hashes, how much of it is on this machine, and
/// whether it is committed. Of what is missing: what each manifest says of it, and whether the job deleted or renamed
/// it. Nothing is read through the mount and nothing is fetched. Scripts get some of it as extended attributes:
/// user.attachfs.hash, user.attachfs.cached, user.attachfs.layer.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  attachfs why /mnt/scene/textures/wood.exr
  attachfs why --json /mnt/scene/missing.exr
  getfattr -n user.attachfs.hash /mnt/scene/textures/wood.exr")]
pub(crate) struct Why {
    /// A path in a mount. Links are not followed.
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
}
