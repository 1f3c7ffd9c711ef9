//! What of manifests is shown, and how they are put together.

use clap::Args as ClapArgs;

/// How manifests are put together.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Layering {
    #[command(flatten)]
    pub(crate) shown: Showing,
    /// Apply diffs although they were not made from what lies below them.
    #[arg(long)]
    pub(crate) ignore_parent: bool,
}

impl From<Layering> for attachfs::LayerOptions {
    fn from(layering: Layering) -> Self {
        Self {
            root: layering.shown.root,
            ignore_parent: layering.ignore_parent,
        }
    }
}

/// The part of a manifest that is shown.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Showing {
    /// For manifests of absolute paths: the directory in them that is the root of what is shown. All
    /// that is in the manifests must lie below it; `/` shows everything.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<attachfs::Root>,
}
