//! What may become of symbolic links when a tree is collected or cut.

use std::fmt;

/// What becomes of symbolic links. A link *escapes* if its target lies outside of the part of the
/// tree that is kept.
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
    /// Every link stays as it is. Only an absolute manifest can hold that.
    Preserve,
    /// Every link stays as it is, and what it points to is kept too. Only an absolute manifest can
    /// hold that.
    TransitiveIncludeTargets,
}

impl SymlinkPolicy {
    /// Whether a manifest whose root is not `/` can hold what the policy leaves: links that escape
    /// have no place in it.
    pub const fn fits_below_a_root(self) -> bool {
        !matches!(self, Self::Preserve | Self::TransitiveIncludeTargets)
    }
}

impl fmt::Display for SymlinkPolicy {
    /// The names of the references (`openjd-snapshots` 0.3.2, `SymlinkPolicy`).
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
