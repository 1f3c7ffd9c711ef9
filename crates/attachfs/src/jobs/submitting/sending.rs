//! Roots into a store: data, then manifests, then the document that names them.

use std::path::PathBuf;

use attachfs_durable::{path_of_bytes, random_bytes};
use attachfs_jobs::{
    Attachments, FarmId, FileSystemKind, InputKey, QueueId, RootAttachment, SubmissionId,
};
use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{ChunkSize, ContentHash, ManifestPath, Node, Snapshot};
use attachfs_paths::{AssetRoot, ForeignPath, PathFormat};
use attachfs_scan::{CrossMounts, FileList, Scan, SymlinkPolicy};
use attachfs_store::Metadata;
use attachfs_transfer::{
    HashOptions, HashReport, Progress, TransferError, UploadOptions, snapshot,
};
use tokio_util::sync::CancellationToken;

use super::gathering::{GatheredAssets, GatheredRoot};
use super::report::{Submission, SubmittedRoot};
use crate::cancel::Cancellable;
use crate::error::{Doing as _, Error};
use crate::exposed::Exposed;
use crate::manifest::{Hashing, PlacedManifest, Selection, find};
use crate::snapshot::Announce;
use crate::store::OpenStore;
use crate::uploading::{Uploading, uploader};

/// Whose job it will be.
#[derive(Debug, Clone, Copy)]
pub struct SubmitPlace {
    /// The farm.
    pub farm: FarmId,
    /// The queue.
    pub queue: QueueId,
}

/// How files are submitted.
#[derive(Debug, Clone)]
pub struct SubmitOptions {
    /// Whose job it will be: the keys of its manifests have this.
    pub place: SubmitPlace,
    /// How workers see the inputs.
    pub file_system: FileSystemKind,
    /// How files are hashed.
    pub hashing: Hashing,
    /// What earlier uploads remember of the store.
    pub uploading: Uploading,
}

/// Sends what the store lacks, publishes a manifest for each root with inputs, and gives the attachments document, which names them.
/// Fails before anything is sent if something cannot be used. Files that cannot be read or stored do not stop the others; then no
/// manifest is published, and the same call goes on.
pub async fn submit_assets(
    assets: &GatheredAssets,
    store: &OpenStore,
    announce: &dyn Announce,
    options: &SubmitOptions,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Submission, Error> {
    let progress = Cancellable::new(progress, cancel);
    let sent = send(assets, store, announce, options, &progress);
    progress.run(sent).await
}

impl GatheredAssets {
    /// What would be submitted, without looking into a file or asking a store: no more than this is sent.
    pub fn preview(&self) -> Submission {
        Submission {
            document: None,
            roots: self.roots.iter().map(unsent).collect(),
            skipped: self.left_out.clone(),
        }
    }
}

/// A root of which nothing is sent.
fn unsent(root: &GatheredRoot) -> SubmittedRoot {
    SubmittedRoot {
        root: root.root.clone(),
        location: root.of.location.clone(),
        files: root.files,
        bytes: root.bytes,
        outputs: root.outputs.clone(),
        manifest: None,
        manifest_hash: None,
        read_files: 0,
        uploaded_objects: 0,
        uploaded_bytes: 0,
        present_objects: 0,
        present_bytes: 0,
    }
}

async fn send(
    assets: &GatheredAssets,
    store: &OpenStore,
    announce: &dyn Announce,
    options: &SubmitOptions,
    progress: &dyn Progress,
) -> Result<Submission, Error> {
    assets.require_usable()?;
    let mut submission = assets.preview();
    let mut found = Vec::new();
    for root in &assets.roots {
        let inputs = Inputs::find(&root.of, progress)?;
        if let Some(exposed) = inputs.as_ref().and_then(|of| Exposed::among(&of.scan)) {
            announce.exposing(&exposed);
        }
        found.push(inputs);
    }
    let mut encoded = Vec::new();
    for (inputs, root) in found.iter().zip(&mut submission.roots) {
        let Some(inputs) = inputs else {
            encoded.push(None);
            continue;
        };
        // Each is an upload of its own: that one ended well says nothing of the next.
        let to = uploader(store, UploadOptions::default(), &options.uploading);
        let (snapshot, done) = inputs.hash(&options.hashing, Some(&to), progress).await?;
        root.bytes = snapshot.total_size();
        root.read_files = done.hashed.count;
        root.uploaded_objects = done.upload.uploaded.count;
        root.uploaded_bytes = done.upload.uploaded.bytes;
        root.present_objects = done.upload.already_there.count;
        root.present_bytes = done.upload.already_there.bytes;
        encoded.push(Some(encode_snapshot(&snapshot, Format::V2023_03_03)?));
    }
    let mut attachments = Attachments {
        roots: Vec::new(),
        file_system: options.file_system,
    };
    for ((bytes, gathered), root) in encoded
        .into_iter()
        .zip(&assets.roots)
        .zip(&mut submission.roots)
    {
        let mut attachment = RootAttachment {
            root: root.root.clone(),
            format: PathFormat::HOST,
            location: gathered.of.location.clone(),
            inputs: None,
            inputs_hash: None,
            outputs: root.outputs.clone(),
        };
        if let Some(bytes) = bytes {
            let manifest = placed(&options.place, &root.root, bytes)?;
            let hash = ContentHash::of(&manifest.bytes);
            manifest.put_now(store).await?;
            root.manifest = Some(manifest.key.to_string());
            root.manifest_hash = Some(hash.to_string());
            attachment.inputs = Some(manifest.key);
            attachment.inputs_hash = Some(hash);
        }
        attachments.roots.push(attachment);
    }
    submission.document = Some(attachments.to_json());
    Ok(submission)
}

/// A manifest under a key that no other has.
fn placed(place: &SubmitPlace, root: &str, bytes: Vec<u8>) -> Result<PlacedManifest, Error> {
    let SubmitPlace { farm, queue } = *place;
    let key = InputKey::new(farm, queue, new_id()?, PathFormat::HOST, root);
    Ok(PlacedManifest {
        key: key.manifest_key()?,
        bytes: bytes.into(),
        metadata: Metadata::new(),
    })
}

/// A random UUID (version 4), as the client makes one for each manifest.
fn new_id() -> Result<SubmissionId, Error> {
    let mut bytes = random_bytes::<16>().doing(|| "cannot make an id".to_owned())?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let id = format!("{:032x}", u128::from_be_bytes(bytes));
    let refused = |error| Error::usage("cannot make an id").because(error);
    id.parse().map_err(refused)
}

/// The inputs of a root as they are on the disk.
pub(super) struct Inputs {
    pub(super) scan: Scan,
    /// What is between the root and the directory that all inputs are in: so nothing above that has to be readable.
    prefix: Vec<u8>,
}

impl Inputs {
    /// Looks at them once more; nothing if the root has none.
    pub(super) fn find(root: &AssetRoot, progress: &dyn Progress) -> Result<Option<Self>, Error> {
        let parents: Vec<ForeignPath> = root.inputs.iter().map(ForeignPath::parent).collect();
        let Some(base) = ForeignPath::common(parents.iter()) else {
            return Ok(None);
        };
        let above = root.root.components().count();
        let mut prefix = Vec::new();
        for name in base.components().skip(above) {
            prefix.extend_from_slice(name);
            prefix.push(b'/');
        }
        let path = |path: &ForeignPath| -> PathBuf { path_of_bytes(path.as_bytes()) };
        let selection = Selection {
            files: Some(FileList {
                required: root.inputs.iter().map(path).collect(),
                optional: Vec::new(),
            }),
            cross_mounts: CrossMounts::All,
            ..Selection::default()
        };
        let scan = find(
            &path(&base),
            &selection,
            SymlinkPolicy::CollapseAll,
            progress,
        )?;
        Ok(Some(Self { scan, prefix }))
    }

    /// Hashes them, and sends them if there is a store.
    pub(super) async fn hash(
        &self,
        hashing: &Hashing,
        store: Option<&attachfs_transfer::Uploader>,
        progress: &dyn Progress,
    ) -> Result<(Snapshot, HashReport), Error> {
        let options = HashOptions {
            caches: hashing.caches.clone(),
            force_rehash: hashing.force_rehash,
            ..HashOptions::new(ChunkSize::WholeFile)
        };
        let (found, report) = snapshot(&self.scan, &options, store, progress).await?;
        if self.prefix.is_empty() {
            return Ok((found, report));
        }
        let mut entries = Vec::with_capacity(found.len());
        for (path, node) in found.entries() {
            if matches!(node, Node::File(_)) {
                let bytes = [&self.prefix[..], path.as_bytes()].concat();
                let path = ManifestPath::new(&bytes)
                    .doing(|| format!("no manifest can hold \"{path}\""))?;
                entries.push((path, node));
            }
        }
        let prefixed = Snapshot::new(ChunkSize::WholeFile, None, entries);
        Ok((prefixed.map_err(TransferError::from)?, report))
    }
}
