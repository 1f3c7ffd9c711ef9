//! Manifests that are added to a mount while it is used, or take the place of one that it shows.
//!
//! The verb `add` hands the manifest's bytes in, as a file in the session, and asks the process that serves the mount. That process
//! composes the manifests as a new mount would, and lays the difference over what it shows. What is not added leaves no file: the client
//! takes back what it handed in, and the process removes what it kept and no stack names. No two of them have the same file.

use std::path::Path;
use std::sync::Arc;

use attachfs_manifest::{Change, ChunkLayout, ChunkSize, Diff, Node, OwnedChunkLayout};
use attachfs_session::{BaseManifest, Request, Session, SessionEntry, Stack};
use attachfs_store::S3Access;
use attachfs_tree::{Composed, compose};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::cancel::unless_cancelled;
use crate::client::ask;
use crate::error::Error;
use crate::index::check_hashed;
use crate::manifests::ManifestBytes;
use crate::message::value;
use crate::opened::OpenedSession;
use crate::places::Places;
use crate::probe::probe;
use crate::served::ServedMount;
use crate::session::{ask_if_served, look, serving};
use crate::sources::ShownManifest;

/// Files of an added manifest that may be asked for before it is shown.
const PROBED: usize = 4096;

/// The request to the process that serves the mount.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AddArguments {
    manifests: Vec<BaseManifest>,
    /// The names under which their bytes were handed in, in the same order.
    handed: Vec<String>,
    replace: Option<String>,
    probe: bool,
}

/// The manifests of a mount, the lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayersReport {
    /// The session.
    pub session: String,
    /// The lowest first.
    pub manifests: Vec<ShownManifest>,
}

/// What adding manifests did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddReport {
    /// The session.
    pub session: String,
    /// The manifests that were added.
    pub added: Vec<ShownManifest>,
    /// The manifests that are not shown any more.
    pub replaced: Option<ShownManifest>,
    /// Paths that are something else now, as far as the job did not change them itself.
    pub changed: u64,
}

/// Shows manifests over all others of a mount, or in the place of one: its number or name. When this returns, every look-up
/// sees them. With `probe`, the store is asked for an object of theirs first.
pub async fn add(
    found: &SessionEntry,
    manifests: &[ManifestBytes],
    replace: Option<&str>,
    probe: bool,
    cancel: &CancellationToken,
) -> Result<AddReport, Error> {
    unless_cancelled(cancel, try_to_add(found, manifests, replace, probe)).await
}

async fn try_to_add(
    found: &SessionEntry,
    manifests: &[ManifestBytes],
    replace: Option<&str>,
    probe: bool,
) -> Result<AddReport, Error> {
    let Some(client) = serving(found).await? else {
        let sentence = format!("session {} is not mounted", found.meta.id);
        return Err(Error::usage(sentence).advise("mount it first, with `mount --session`"));
    };
    let handed = HandedIn::new(&found.dir, manifests)?;
    let options = value(&AddArguments {
        manifests: manifests.iter().map(ManifestBytes::describe).collect(),
        handed: handed.names.clone(),
        replace: replace.map(str::to_owned),
        probe,
    })?;
    ask(found, client, Request::Add { options }, None).await
}

/// Manifests that this client handed in. Dropping it removes the files of those that the serving process did not keep.
struct HandedIn<'a> {
    dir: &'a Path,
    names: Vec<String>,
}

impl<'a> HandedIn<'a> {
    fn new(dir: &'a Path, manifests: &[ManifestBytes]) -> Result<Self, Error> {
        let mut handed = Self {
            dir,
            names: Vec::new(),
        };
        for manifest in manifests {
            let name = Session::hand_in(dir, &manifest.bytes)?;
            handed.names.push(name);
        }
        Ok(handed)
    }
}

impl Drop for HandedIn<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            if let Err(error) = Session::take_back(self.dir, name) {
                // The next process that takes the session over removes it.
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    name,
                    "a manifest that was not added stays in the session"
                );
            }
        }
    }
}

/// The manifests that a session shows.
pub async fn layers(
    found: &SessionEntry,
    places: &Places,
    access: &S3Access,
    cancel: &CancellationToken,
) -> Result<LayersReport, Error> {
    unless_cancelled(cancel, async {
        if let Some(layers) = ask_if_served(found, Request::Layers, None).await? {
            Ok(layers)
        } else if found.meta.read_only {
            // Manifests that were added to a read-only mount were gone when it ended.
            let first = Stack::first(&found.meta.manifests);
            Ok(report(found.meta.id.as_str(), &first))
        } else {
            look(found, places, access, cancel).await?.layers()
        }
    })
    .await
}

fn report(session: &str, stack: &Stack) -> LayersReport {
    LayersReport {
        session: session.to_owned(),
        manifests: stack.manifests.iter().map(ShownManifest::from).collect(),
    }
}

impl OpenedSession {
    /// The manifests that are shown now.
    pub(crate) fn stack(&self) -> Result<Stack, Error> {
        Ok(self.session.session().stack(self.vfs().layer_count())?)
    }

    pub(crate) fn layers(&self) -> Result<LayersReport, Error> {
        Ok(report(self.meta.id.as_str(), &self.stack()?))
    }

    /// The manifests of a stack, put together.
    fn composed(&self, stack: &Stack) -> Result<Composed, Error> {
        let session = self.session.session();
        let layers = stack.manifests.iter().map(|stacked| {
            let manifest = ManifestBytes {
                name: stacked.manifest.source.clone(),
                bytes: session.stacked_bytes(stacked)?,
                at: stacked.manifest.at.clone(),
            };
            manifest.layer()
        });
        let layers = layers.collect::<Result<_, Error>>()?;
        Ok(compose(layers, &self.meta.layers)?)
    }

    /// The manifests that are to be laid over those that are shown.
    fn addition(&self, arguments: &AddArguments) -> Result<Addition, Error> {
        let before = self.stack()?;
        let replaced = arguments
            .replace
            .as_deref()
            .map(|named| before.find(named).ok_or_else(|| not_found(&before, named)));
        let replaced = replaced.transpose()?;
        let number = self.vfs().layer_count() + 1;
        let after = before.with(&arguments.manifests, replaced, number);
        let was = self.composed(&before)?;
        let is = self.composed(&after)?;
        check_hashed(&is.snapshot)?;
        let diff = is.snapshot.diff(&was.snapshot, Some(was.hash));
        let diff = cut_as_mounted(diff, self.vfs().chunk_size());
        let replaced = replaced.map(|position| ShownManifest::from(&before.manifests[position]));
        Ok(Addition {
            number,
            after,
            replaced,
            diff,
        })
    }
}

/// The diff, saying that files are cut as the mounted ones are, if that makes no difference to any of its files.
fn cut_as_mounted(diff: Diff, mounted: ChunkSize) -> Diff {
    if diff.chunk_size() == mounted {
        return diff;
    }
    let changes = diff
        .changes()
        .map(|(path, change)| (path.to_owned(), change));
    Diff::new(mounted, diff.parent(), changes).unwrap_or(diff)
}

/// One layer, ready to be laid.
struct Addition {
    number: u32,
    after: Stack,
    replaced: Option<ShownManifest>,
    diff: Diff,
}

impl Addition {
    /// Where the bytes are of some of the files that come with it.
    fn files(&self) -> Arc<Vec<OwnedChunkLayout>> {
        let chunk_size = self.diff.chunk_size();
        let layouts = self.diff.changes().filter_map(|(_, change)| match change {
            Change::Put(Node::File(file)) => {
                let layout = ChunkLayout::new(file.size, chunk_size, &file.content);
                layout.ok().map(|layout| layout.to_owned())
            }
            _ => None,
        });
        Arc::new(layouts.take(PROBED).collect())
    }
}

/// The right to add manifests: one addition at a time. What was kept for one that failed is removed when it ends.
struct Adding {
    mount: Arc<ServedMount>,
    _alone: OwnedMutexGuard<()>,
    is_laid: bool,
}

impl Adding {
    async fn begin(mount: &Arc<ServedMount>) -> Self {
        Self {
            mount: Arc::clone(mount),
            _alone: Arc::clone(&mount.adding).lock_owned().await,
            is_laid: false,
        }
    }

    /// Keeps what was handed in, and finds out what is to be laid.
    fn prepare(&self, arguments: &AddArguments) -> Result<Addition, Error> {
        let AddArguments {
            manifests, handed, ..
        } = arguments;
        let opened = &self.mount.session;
        if manifests.len() != handed.len() {
            return Err(Error::usage(
                "not every manifest that is to be added was handed in",
            ));
        }
        for (manifest, handed) in manifests.iter().zip(handed) {
            let session = opened.session.session();
            session.keep_added(handed, manifest.hash)?;
        }
        opened.addition(arguments)
    }

    fn lay(mut self, addition: Addition) -> Result<AddReport, Error> {
        let OpenedSession { session, meta, .. } = &self.mount.session;
        let stack = session.session();
        stack.keep_stack(addition.number, &addition.after)?;
        session.vfs().add_layer(&addition.diff)?;
        self.is_laid = true;
        let stack = &addition.after.manifests;
        let added = stack.iter().filter(|one| one.layer == addition.number);
        Ok(AddReport {
            session: meta.id.to_string(),
            added: added.map(ShownManifest::from).collect(),
            replaced: addition.replaced,
            changed: addition.diff.len() as u64,
        })
    }
}

impl Drop for Adding {
    fn drop(&mut self) {
        if self.is_laid {
            return;
        }
        let OpenedSession { session, .. } = &self.mount.session;
        let layers = session.vfs().layer_count();
        if let Err(error) = session.session().remove_unnamed(layers) {
            // The next process that takes the session over removes it.
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "a manifest that was not added stays in the session");
        }
    }
}

impl ServedMount {
    /// Shows more manifests.
    pub(crate) async fn add(self: &Arc<Self>, arguments: AddArguments) -> Result<AddReport, Error> {
        // It goes with the work: a client that hangs up ends this, and not the thread that is adding.
        let adding = Adding::begin(self).await;
        let is_probed = arguments.probe;
        let (adding, addition) = blocking(move || {
            let addition = adding.prepare(&arguments)?;
            Ok((adding, addition))
        })
        .await?;
        if is_probed {
            let files = addition.files();
            if !files.is_empty() {
                probe(&self.session.store, self.session.vfs().fetcher(), &files).await?;
            }
        }
        blocking(move || adding.lay(addition)).await
    }
}

/// Runs work that reads and writes files on a thread for blocking work.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Why no manifest is meant by what `--replace` names.
fn not_found(stack: &Stack, named: &str) -> Error {
    let mut sources = stack.manifests.iter().map(|one| &one.manifest.source);
    let sentence = if sources.any(|source| source == named) {
        format!("several manifests of the mount are called {named}: name one by its number")
    } else if named.parse::<u32>().is_ok() {
        format!("the mount has no manifest with the number {named}")
    } else {
        format!("the mount has no manifest {named}")
    };
    Error::usage(sentence).advise("`attachfs layers` lists their numbers and names")
}
