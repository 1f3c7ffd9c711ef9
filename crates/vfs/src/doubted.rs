//! What is done about an object in the store that turns out to be wrong, or was replaced.

use attachfs_fetch::Doubt;
use attachfs_manifest::ContentHash;
use attachfs_tree::Ino;

use crate::ops::read::read_failed;
use crate::{FsError, Invalidation, Vfs};

/// The most files that are named.
const NAMED: usize = 10;

impl Vfs {
    /// Fails if an object of a file of the base is known to be wrong.
    pub(crate) fn refuse_wrong(&self, ino: Ino) -> Result<(), FsError> {
        let base = self.namespace.read().base().clone();
        let refused = base
            .layout(ino)
            .and_then(|layout| self.fetcher.refused(&layout));
        refused.map_or(Ok(()), |error| Err(read_failed(&self.describe(ino), error)))
    }

    /// Has the adapter drop what it has cached of the files that a doubted object is part of. What is still on its way to
    /// the adapter is dropped by a second call, a moment later. Looks through all layers of the base.
    pub fn drop_cached(&self, doubt: &Doubt) {
        let base = self.namespace.read().base().clone();
        let files = base.files_with(doubt.hash, doubt.len);
        let nodes = files.flat_map(|ino| self.nodes_of(ino));
        self.invalidate(nodes.map(|node| Invalidation::Pages {
            node,
            range: 0..u64::MAX,
        }));
    }

    /// Names files of the base that an object is part of, ten at most. Looks through all layers of the base.
    pub fn files_of(&self, object: ContentHash, len: u64) -> Vec<String> {
        let base = self.namespace.read().base().clone();
        let files = base.files_with(object, len).take(NAMED);
        files.map(|ino| self.describe(ino)).collect()
    }
}
