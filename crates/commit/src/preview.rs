//! The changes since the last commit, without a store.

use attachfs_manifest::{ManifestPath, Node};
use attachfs_vfs::Frozen;

use crate::account::Account;
use crate::error::CommitError;
use crate::generations::{Before, NodeChange};
use crate::hash::Hashed;
use crate::history::numbers;
use crate::open::OpenSession;
use crate::plan::Left;
use crate::states::Commit;

/// A path whose node changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The path.
    pub path: ManifestPath,
    /// Its node before.
    pub before: Option<Node>,
    /// Its node now.
    pub after: Option<Node>,
}

/// The changes that a commit would publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Path by path.
    pub changes: Vec<Changed>,
    /// The numbers.
    pub account: Account,
}

impl Commit<Hashed> {
    /// What this commit would publish.
    pub fn preview(self) -> Result<Preview, CommitError> {
        let Hashed {
            changes,
            left,
            account,
            ..
        } = self.state;
        preview_of(&self.session, &self.frozen, changes, &left, account)
    }
}

/// The changes since the last commit, of a state that is given relative to the base.
pub(crate) fn preview_of(
    open: &OpenSession,
    frozen: &Frozen,
    changes: Vec<(ManifestPath, Option<Node>)>,
    left: &Left,
    mut account: Account,
) -> Result<Preview, CommitError> {
    let tree = frozen.namespace().base();
    let before = Before::load(open.session(), &numbers(&open.vfs().commits()), tree)?;
    let now = before.keep(tree, changes, left);
    let mut changes = Vec::new();
    for change in before.node_changes(tree, &now) {
        account.count(&change);
        let NodeChange {
            path,
            before,
            after,
        } = change;
        changes.push(Changed {
            path,
            before,
            after,
        });
    }
    Ok(Preview { changes, account })
}
