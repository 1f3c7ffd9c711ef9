//! How a mount looks names up, and what can be done with inputs: options of `mount` and `run`.

use clap::Args as ClapArgs;

#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct Names {
    /// Find a name that is not there under one that differs only in case, as Windows does: for scenes that were written there.
    ///
    /// The name as it is written always comes first; of several others the first in the order of their bytes. What is
    /// made under a name that is there in another case is that file. Each look-up of a name that is missing, or not
    /// written so, asks the mount's process. A session keeps this option.
    #[arg(long)]
    pub(crate) case_insensitive: bool,
    /// Keep what the manifests have as it is: inputs cannot be written, renamed, replaced or deleted (EPERM, as with `chattr +i`). New
    /// files and directories can be made everywhere. A session keeps this option.
    #[arg(long)]
    pub(crate) protect_inputs: bool,
}
