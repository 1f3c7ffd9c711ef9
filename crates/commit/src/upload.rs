//! Sending missing objects, and confirming all of them.

use std::collections::{HashMap, HashSet};

use attachfs_manifest::{ChunkSize, ContentHash, Node};
use attachfs_transfer::{ChunkSource, TransferError, Uploader};
use attachfs_vfs::overlay::CleanFile;

use crate::account::Account;
use crate::error::{CommitError, OpenFile};
use crate::generations::{Before, NodeChange};
use crate::hash::Hashed;
use crate::node::Changes;
use crate::plan::leave_out;
use crate::states::{Commit, Observer};

/// The state of a commit all of whose chunks are confirmed to be in the store. Only this can be
/// published.
#[derive(Debug)]
pub struct Uploaded {
    /// The result of the earlier commits.
    pub(crate) before: Before,
    /// Since the commit before.
    pub(crate) node_changes: Vec<NodeChange>,
    /// All changes relative to the base.
    pub(crate) total: Changes,
    pub(crate) account: Account,
    pub(crate) clean: Vec<CleanFile>,
}

impl Commit<Hashed> {
    /// Sends written objects that the store lacks, and confirms that the kept objects of the base
    /// are still there.
    pub async fn upload(
        self,
        uploader: &Uploader,
        observer: &dyn Observer,
    ) -> Result<Commit<Uploaded>, CommitError> {
        let Self {
            session,
            frozen,
            generation,
            terms,
            state,
        } = self;
        let Hashed {
            mut changes,
            mut left,
            mut account,
            mut clean,
            mut written,
            mut scratch,
            assemblies,
        } = state;
        let tree = frozen.namespace().base();
        let chunk_size = tree.chunk_size();
        let before = Before::load(session.session(), generation - 1, tree)?;
        let (total, node_changes, named, sent, report) = loop {
            let total = before.keep(tree, changes.clone(), &left);
            let node_changes = before.node_changes(tree, &total);
            let mut named: HashMap<ContentHash, u64> = HashMap::new();
            for change in &node_changes {
                if let Some(Node::File(file)) = &change.after {
                    named.extend(objects(file, chunk_size));
                }
            }
            let wanted = written
                .iter()
                .filter(|chunk| named.contains_key(&chunk.hash));
            let wanted: Vec<ChunkSource> = wanted.cloned().collect();
            let sent: HashSet<ContentHash> = wanted.iter().map(|chunk| chunk.hash).collect();
            let (file, path) = match uploader.upload_missing(wanted, observer).await {
                Ok(report) => break (total, node_changes, named, sent, report),
                Err(TransferError::Changed { path }) => match scratch.remove(&path) {
                    Some(file) => (file, path),
                    None => return Err(TransferError::Changed { path }.into()),
                },
                Err(error) => return Err(error.into()),
            };
            if !terms.leaves_out() {
                let open = file.paths.into_iter().map(|path| OpenFile { path });
                return Err(CommitError::Busy(open.collect()));
            }
            changes.retain(|(changed, _)| !file.paths.contains(changed));
            clean.retain(|clean| clean.ino != file.ino);
            written.retain(|chunk| chunk.source.path != path);
            leave_out(file.paths, &mut left, &mut account);
        };
        drop(assemblies);
        let kept = named.into_iter().filter(|(hash, _)| !sent.contains(hash));
        let kept: Vec<_> = kept.collect();
        uploader.confirm(&kept, observer).await?;
        account.uploaded_objects = report.uploaded.count;
        account.uploaded_bytes = report.uploaded.bytes;
        account.present_objects = report.already_there.count + kept.len() as u64;
        account.present_bytes =
            report.already_there.bytes + kept.iter().map(|&(_, len)| len).sum::<u64>();
        Ok(Commit {
            session,
            frozen,
            generation,
            terms,
            state: Uploaded {
                before,
                node_changes,
                total,
                account,
                clean,
            },
        })
    }
}

/// The objects of a file and their lengths.
pub(crate) fn objects(
    file: &attachfs_manifest::File,
    chunk_size: ChunkSize,
) -> impl Iterator<Item = (ContentHash, u64)> {
    let cut = if file.content.hashes().len() > 1 {
        chunk_size
    } else {
        ChunkSize::WholeFile
    };
    file.content
        .hashes()
        .iter()
        .copied()
        .zip(cut.ranges(file.size).map(|range| range.end - range.start))
}
