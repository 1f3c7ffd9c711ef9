//! What changed since the last commit, without a store.

use attachfs_manifest::{ManifestPath, Node};

use crate::generations::{Before, Step};
use crate::{Account, Commit, CommitError, Hashed};

/// A path whose node is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Where.
    pub path: ManifestPath,
    /// What was there.
    pub before: Option<Node>,
    /// What is there.
    pub after: Option<Node>,
}

/// What a commit would publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Path by path.
    pub changes: Vec<Changed>,
    /// The counts.
    pub account: Account,
}

impl Commit<Hashed> {
    /// What this commit would publish.
    pub fn preview(self) -> Result<Preview, CommitError> {
        let session = self.vfs.session().ok_or(CommitError::ReadOnly)?;
        let tree = self.frozen.namespace().base();
        let before = Before::load(session, self.generation - 1)?;
        let now = before.keep(self.state.changes, &self.state.left);
        let mut account = self.state.account.clone();
        let mut changes = Vec::new();
        for Step {
            path,
            before,
            after,
        } in before.steps(tree, &now)
        {
            account.count(before.as_ref(), after.as_ref());
            changes.push(Changed {
                path,
                before,
                after,
            });
        }
        Ok(Preview { changes, account })
    }
}
