//! What to scan, and what becomes of links.

use std::fmt;

use attachfs_manifest::PathFilter;

/// What becomes of symbolic links. A link *escapes* if its text leads out of what is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SymlinkPolicy {
    /// A link that escapes is replaced by what it points to, others stay links.
    #[default]
    CollapseEscaping,
    /// Every link is replaced by what it points to. The only choice for 2023-03-03 manifests.
    CollapseAll,
    /// A link that escapes is left out, others stay links.
    ExcludeEscaping,
    /// Every link is left out.
    ExcludeAll,
    /// Every link stays one, wherever it leads. For absolute manifests.
    Preserve,
    /// Every link stays one, and what it leads to is collected too. For absolute manifests.
    TransitiveIncludeTargets,
}

impl SymlinkPolicy {
    /// Whether links that lead anywhere stay links, which only an absolute manifest can say.
    pub fn needs_absolute(self) -> bool {
        match self {
            Self::Preserve | Self::TransitiveIncludeTargets => true,
            Self::CollapseEscaping
            | Self::CollapseAll
            | Self::ExcludeEscaping
            | Self::ExcludeAll => false,
        }
    }
}

impl fmt::Display for SymlinkPolicy {
    /// The name that the reference has for it (`openjd-snapshots` 0.3.2).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CollapseEscaping => "collapse_escaping",
            Self::CollapseAll => "collapse_all",
            Self::ExcludeEscaping => "exclude_escaping",
            Self::ExcludeAll => "exclude_all",
            Self::Preserve => "preserve",
            Self::TransitiveIncludeTargets => "transitive_include_targets",
        })
    }
}

/// How to scan.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// What becomes of symbolic links.
    pub symlinks: SymlinkPolicy,
    /// Which paths of the manifest are meant; everything if nothing is said. A directory is an entry
    /// if it is chosen itself or holds something that is. A link that is replaced by a directory is
    /// matched like that directory, so a walk follows it as Python's `glob` does.
    pub filter: PathFilter,
    /// Whether a file or directory that cannot be read, vanished or was replaced meanwhile is listed in
    /// [`Scan::skipped`](crate::Scan::skipped) in place of failing the scan. A root that cannot be read
    /// is an error all the same, and so is a lack of memory or file descriptors.
    pub skip_unreadable: bool,
}
