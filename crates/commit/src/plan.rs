//! What is to be committed: everything but the hashes of what was written.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_manifest::{File, LinkTarget, ManifestPath, Mtime, Node};
use attachfs_tree::{ChangedPath, FileContent, Ino, Kind, Namespace, PathChange};
use attachfs_vfs::overlay::CleanFile;
use attachfs_vfs::{Frozen, Vfs};

use crate::node::base_node;
use crate::publish::last_published;
use crate::{Account, Commit, CommitError, OpenFile, OutgoingLink};

/// What to do with symbolic links that lead out of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Links {
    /// Stop and list them.
    #[default]
    Stop,
    /// Leave them out.
    Skip,
}

/// How to commit.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// How long to wait for files that are open for writing.
    pub wait: Duration,
    /// Leave out files that are still open then, instead of stopping.
    pub skip_open: bool,
    /// Symbolic links that lead out.
    pub links: Links,
    /// Only what is in or below these; everything if empty.
    pub output_dirs: Vec<ManifestPath>,
    /// Absolute links into this directory count as links below the root.
    pub mount_point: Option<PathBuf>,
}

/// How often a file that is open for writing is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A file whose hashes are not known yet.
#[derive(Debug)]
pub(crate) struct Unhashed {
    pub(crate) paths: Vec<(ManifestPath, Option<Node>)>,
    pub(crate) ino: Ino,
    pub(crate) content: FileContent,
    /// Of a mapped file; a scratch file has its own.
    pub(crate) mtime: Option<Mtime>,
    pub(crate) runnable: bool,
    /// The hashes of an earlier commit, good if the scratch file is what it was then.
    pub(crate) clean: Option<CleanFile>,
}

/// The state of a commit that knows what changed.
#[derive(Debug)]
pub struct Planned {
    /// Changes that are complete.
    pub(crate) changes: Vec<(ManifestPath, Option<Node>)>,
    pub(crate) files: Vec<Unhashed>,
    /// Changed paths that are not committed: they stay what the last commit made of them.
    pub(crate) left: Vec<ManifestPath>,
    pub(crate) account: Account,
}

impl Commit<Planned> {
    /// Freezes the session and finds out what changed since its base.
    pub async fn plan(vfs: Arc<Vfs>, options: &CommitOptions) -> Result<Self, CommitError> {
        let deadline = Instant::now() + options.wait;
        let (frozen, changed, open) = loop {
            let frozen = vfs.freeze().ok_or(CommitError::ReadOnly)?;
            let changed = frozen
                .namespace()
                .changes()
                .map_err(|(path, source)| CommitError::Path { path, source })?;
            let open: Vec<OpenFile> = changed
                .iter()
                .filter(|changed| is_wanted(options, &changed.path) && is_open(&frozen, changed))
                .map(|changed| OpenFile {
                    path: changed.path.clone(),
                })
                .collect();
            if open.is_empty() || (options.skip_open && Instant::now() >= deadline) {
                break (frozen, changed, open);
            }
            if Instant::now() >= deadline {
                return Err(CommitError::Busy(open));
            }
            drop(frozen);
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        let (published, clean) = last_published(&vfs.commits());
        let generation = published + 1;
        let clean = clean.into_iter().map(|file| (file.ino, file)).collect();
        let mut account = Account::default();
        account
            .open
            .extend(open.iter().map(|file| Account::name(&file.path)));
        let mut plan = Planner {
            options,
            namespace: frozen.namespace(),
            clean,
            links: Vec::new(),
        };
        let left = open.into_iter().map(|file| file.path).collect();
        let mut planned = Planned {
            changes: Vec::new(),
            files: Vec::new(),
            left,
            account,
        };
        for changed in changed {
            if !is_wanted(options, &changed.path) {
                planned.account.left_out.push(Account::name(&changed.path));
                planned.left.push(changed.path);
            } else if !(options.skip_open && is_open(&frozen, &changed)) {
                plan.add(changed, &mut planned);
            }
        }
        let links = plan.links;
        planned
            .left
            .extend(links.iter().map(|link| link.path.clone()));
        match options.links {
            Links::Stop if !links.is_empty() => return Err(CommitError::OutgoingLinks(links)),
            Links::Stop | Links::Skip => {
                planned
                    .account
                    .links
                    .extend(links.iter().map(|link| Account::name(&link.path)));
            }
        }
        Ok(Self {
            vfs,
            frozen,
            generation,
            state: planned,
        })
    }
}

fn is_wanted(options: &CommitOptions, path: &ManifestPath) -> bool {
    options.output_dirs.is_empty()
        || options
            .output_dirs
            .iter()
            .any(|dir| path == dir || path.is_below(dir))
}

fn is_open(frozen: &Frozen, changed: &ChangedPath) -> bool {
    matches!(changed.change, PathChange::Put { ino, .. } if frozen.writers().contains(&ino))
}

struct Planner<'a> {
    options: &'a CommitOptions,
    namespace: &'a Namespace,
    clean: HashMap<Ino, CleanFile>,
    links: Vec<OutgoingLink>,
}

impl Planner<'_> {
    fn add(&mut self, changed: ChangedPath, planned: &mut Planned) {
        let ChangedPath { path, change } = changed;
        match change {
            PathChange::Delete { .. } => planned.changes.push((path, None)),
            PathChange::Put { ino, base } => {
                let base = base.and_then(|base| base_node(self.namespace.base(), base));
                match self.namespace.kind(ino) {
                    Some(Kind::Dir) | None => put(planned, path, Node::Dir, base),
                    Some(Kind::Symlink) => self.add_link(path, ino, base, planned),
                    Some(Kind::File) => self.add_file(path, ino, base, planned),
                }
            }
        }
    }

    fn add_link(
        &mut self,
        path: ManifestPath,
        ino: Ino,
        base: Option<Node>,
        planned: &mut Planned,
    ) {
        let text = self.namespace.link_text(ino).unwrap_or_default();
        match self.resolve(&path, &text) {
            Some(target) => put(planned, path, Node::Symlink(target), base),
            None => self.links.push(OutgoingLink { path, text }),
        }
    }

    fn resolve(&self, link: &ManifestPath, text: &[u8]) -> Option<LinkTarget> {
        let mount_point = self.options.mount_point.as_ref();
        let inside = mount_point.and_then(|dir| {
            let rest = text.strip_prefix(dir.as_os_str().as_encoded_bytes())?;
            if rest.is_empty() {
                Some(rest)
            } else {
                rest.strip_prefix(b"/")
            }
        });
        match inside {
            Some(rest) => {
                // As if it stood at the root.
                let at_root = ManifestPath::from_name(&link.name());
                LinkTarget::resolve(&at_root, if rest.is_empty() { b"." } else { rest })
            }
            None => LinkTarget::resolve(link, text),
        }
    }

    fn add_file(
        &mut self,
        path: ManifestPath,
        ino: Ino,
        base: Option<Node>,
        planned: &mut Planned,
    ) {
        let attributes = self.namespace.attributes(ino);
        let runnable = attributes
            .mode
            .map_or(attributes.runnable, |mode| mode & 0o111 != 0);
        let mtime = attributes.mtime.map(Mtime::from);
        let content = self
            .namespace
            .content(ino)
            .cloned()
            .unwrap_or(FileContent::Base);
        if content == FileContent::Base {
            if let Some(Node::File(file)) = base_node(self.namespace.base(), ino) {
                let file = File {
                    mtime: mtime.unwrap_or(file.mtime),
                    runnable,
                    ..file
                };
                put(planned, path, Node::File(file), base);
            }
            return;
        }
        // Several names of one file are hashed once.
        if self.namespace.link_count(ino) > 1
            && let Some(file) = planned.files.iter_mut().find(|file| file.ino == ino)
        {
            file.paths.push((path, base));
            return;
        }
        let clean = self.clean.remove(&ino);
        let paths = vec![(path, base)];
        planned.files.push(Unhashed {
            paths,
            ino,
            content,
            mtime,
            runnable,
            clean,
        });
    }
}

/// Adds a node unless the base says the same.
pub(crate) fn put(planned: &mut Planned, path: ManifestPath, node: Node, base: Option<Node>) {
    if base.as_ref() != Some(&node) {
        planned.changes.push((path, Some(node)));
    }
}
