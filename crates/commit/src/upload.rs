//! Sending what the store lacks, and confirming all of it.

use std::collections::{HashMap, HashSet};

use attachfs_manifest::{ChunkSize, ContentHash, Node};
use attachfs_transfer::{TransferError, Uploader};
use attachfs_vfs::overlay::CleanFile;

use crate::generations::{Before, Changes, Step};
use crate::{Account, Commit, CommitError, Hashed, Observer, OpenFile};

/// The state of a commit all of whose chunks are confirmed to be in the store. Only this can be
/// published.
#[derive(Debug)]
pub struct Uploaded {
    /// Since the commit before.
    pub(crate) steps: Vec<Step>,
    /// All changes relative to the base.
    pub(crate) total: Changes,
    pub(crate) account: Account,
    pub(crate) clean: Vec<CleanFile>,
}

impl Commit<Hashed> {
    /// Sends what was written and the store lacks, and confirms that what was kept from the base is
    /// still there.
    pub async fn upload(
        self,
        uploader: &Uploader,
        observer: &dyn Observer,
    ) -> Result<Commit<Uploaded>, CommitError> {
        let Self {
            vfs,
            frozen,
            generation,
            state,
        } = self;
        let Hashed {
            changes,
            left,
            mut account,
            clean,
            written,
            assemblies,
        } = state;
        let session = vfs.session().ok_or(CommitError::ReadOnly)?;
        let tree = frozen.namespace().base();
        let before = Before::load(session, generation - 1)?;
        let total = before.keep(changes, &left);
        let steps = before.steps(tree, &total);
        let chunk_size = tree.chunk_size();
        let mut named: HashMap<ContentHash, u64> = HashMap::new();
        for step in &steps {
            if let Some(Node::File(file)) = &step.after {
                named.extend(objects(file, chunk_size));
            }
        }
        let mut written = written;
        written.retain(|chunk| named.contains_key(&chunk.hash));
        let sent: HashSet<ContentHash> = written.iter().map(|chunk| chunk.hash).collect();
        let report = match uploader.upload_missing(written, observer).await {
            Err(TransferError::Changed { path }) => {
                let open = steps.iter().filter_map(|Step { path, .. }| {
                    let ino = path
                        .components()
                        .try_fold(attachfs_tree::Ino::ROOT, |dir, name| {
                            frozen.namespace().lookup(dir, name)
                        })?;
                    vfs.has_writer(ino).then(|| OpenFile { path: path.clone() })
                });
                let open: Vec<OpenFile> = open.collect();
                let changed = || CommitError::Transfer(TransferError::Changed { path });
                return Err(if open.is_empty() {
                    changed()
                } else {
                    CommitError::Busy(open)
                });
            }
            result => result?,
        };
        drop(assemblies);
        let kept = named.into_iter().filter(|(hash, _)| !sent.contains(hash));
        let kept: Vec<_> = kept.collect();
        uploader.confirm(&kept).await?;
        account.uploaded_objects = report.uploaded.objects;
        account.uploaded_bytes = report.uploaded.bytes;
        account.present_objects = report.already_there.objects + kept.len() as u64;
        account.present_bytes =
            report.already_there.bytes + kept.iter().map(|&(_, len)| len).sum::<u64>();
        Ok(Commit {
            vfs,
            frozen,
            generation,
            state: Uploaded {
                steps,
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
