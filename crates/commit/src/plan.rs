//! Planning a commit: everything except the hashes of the written files.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use attachfs_manifest::{Content, EscapedBytes, File, LinkTarget, ManifestPath, Mtime, Node};
use attachfs_tree::{
    ChangedPath, Changes, FileContent, Ino, Kind, Namespace, PathChange, Timestamp,
};
use attachfs_vfs::Frozen;
use attachfs_vfs::overlay::{CleanFile, ScratchStamp};

use crate::account::Account;
use crate::error::{CommitError, OpenFile, OutgoingLink};
use crate::history::last_published;
use crate::node::base_node;
use crate::open::OpenSession;
use crate::states::{Commit, CommitOptions, Links, Terms};

/// The interval for checking files that are open for writing.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A file whose hashes are not known yet.
#[derive(Debug)]
pub(crate) struct Unhashed {
    pub(crate) paths: Vec<(ManifestPath, Option<Node>)>,
    pub(crate) ino: Ino,
    pub(crate) content: FileContent,
    /// The time of a mapped file; a scratch file has its own.
    pub(crate) mtime: Option<Mtime>,
    /// The last change of a mapped file, of any kind.
    pub(crate) changed: Option<Timestamp>,
    pub(crate) runnable: bool,
    /// The hashes of an earlier commit, valid if the scratch file has not changed since.
    pub(crate) clean: Option<CleanFile>,
}

impl Unhashed {
    /// The file's names.
    pub(crate) fn paths(&self) -> impl Iterator<Item = ManifestPath> {
        self.paths.iter().map(|(path, _)| path.clone())
    }

    /// The hashes of an earlier commit, if the file was not written to since.
    pub(crate) fn known(&self, stamp: ScratchStamp) -> Option<&Content> {
        let clean = self.clean.as_ref()?;
        (clean.stamp == stamp && clean.changed == self.changed).then_some(&clean.content)
    }
}

/// Changed paths that are not committed: in the result they stay as the last commit left them.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Single paths.
    pub(crate) paths: Vec<ManifestPath>,
    /// If not empty, everything outside of these.
    output_dirs: Vec<ManifestPath>,
}

impl Left {
    /// Whether a path lies outside of the output directories.
    pub(crate) fn is_outside(&self, path: &ManifestPath) -> bool {
        !is_in(&self.output_dirs, path)
    }
}

/// Leaves out a file that is being written to.
pub(crate) fn leave_out(paths: Vec<ManifestPath>, left: &mut Left, account: &mut Account) {
    account.open.extend(paths.iter().map(Account::name));
    left.paths.extend(paths);
}

/// The state of a commit that knows the changes.
#[derive(Debug)]
pub struct Planned {
    /// Changes that need no hashing.
    pub(crate) changes: Vec<(ManifestPath, Option<Node>)>,
    pub(crate) files: Vec<Unhashed>,
    pub(crate) left: Left,
    pub(crate) account: Account,
}

impl Commit<Planned> {
    /// Freezes the session and finds its changes since the base.
    pub async fn plan(session: OpenSession, options: &CommitOptions) -> Result<Self, CommitError> {
        Self::plan_on(session, &Terms::new(options)).await
    }

    /// Plans, and waits for open files for the remaining time.
    pub(crate) async fn plan_on(session: OpenSession, terms: &Terms) -> Result<Self, CommitError> {
        let vfs = session.vfs();
        let options = &terms.options;
        let (frozen, changed, open, long) = loop {
            let frozen = vfs.freeze().ok_or(CommitError::ReadOnly)?;
            let Changes {
                paths: changed,
                too_long,
            } = frozen.namespace().changes();
            let (too_long, long_outside): (Vec<_>, Vec<_>) = too_long
                .into_iter()
                .partition(|path| holds(&options.output_dirs, path));
            if !(too_long.is_empty() || options.skip_long) {
                return Err(CommitError::TooLong(too_long));
            }
            let left: Vec<OpenFile> = changed
                .iter()
                .filter(|changed| is_in(&options.output_dirs, &changed.path))
                .filter(|changed| left_ino(&frozen, changed).is_some())
                .map(|changed| changed.path.clone().into())
                .collect();
            if !(left.is_empty() || options.skip_open || options.accept_open) {
                // No process has the file open, so waiting would not help.
                return Err(CommitError::LeftOpen(left));
            }
            let (inos, open): (Vec<Ino>, Vec<OpenFile>) = changed
                .iter()
                .filter(|changed| is_in(&options.output_dirs, &changed.path))
                .filter_map(|changed| {
                    let path = changed.path.clone();
                    Some((open_ino(&frozen, changed)?, path.into()))
                })
                .unzip();
            if open.is_empty() || terms.leaves_out() {
                let long = LongPaths {
                    left_out: too_long,
                    outside: long_outside,
                };
                break (frozen, changed, open, long);
            }
            if terms.remaining().is_zero() {
                return Err(CommitError::Busy(open));
            }
            drop(frozen);
            while inos.iter().any(|&ino| vfs.has_writer(ino)) && !terms.remaining().is_zero() {
                tokio::time::sleep(LOOK_AGAIN.min(terms.remaining())).await;
            }
        };
        let (published, clean) = last_published(&vfs.commits());
        let generation = published + 1;
        let clean = clean.into_iter().map(|file| (file.ino, file)).collect();
        let mut accepted = Vec::new();
        let mut account = Account::default();
        account
            .open
            .extend(open.iter().map(|file| Account::name(&file.path)));
        account.too_long.extend(names_of(&long.left_out));
        account.left_out.extend(names_of(&long.outside));
        let mut plan = Planner {
            options,
            namespace: frozen.namespace(),
            clean,
            hard_linked: HashMap::new(),
            links: Vec::new(),
        };
        let left = Left {
            paths: open.into_iter().map(|file| file.path).collect(),
            output_dirs: options.output_dirs.clone(),
        };
        let leading = leading_there(&options.output_dirs, &changed);
        let mut planned = Planned {
            changes: Vec::new(),
            files: Vec::new(),
            left,
            account,
        };
        for changed in changed {
            let leads = || {
                leading.contains(&changed.path)
                    && matches!(changed.change, PathChange::Put { ino, .. }
                        if frozen.namespace().kind(ino) == Some(Kind::Dir))
            };
            if planned.left.is_outside(&changed.path) && !leads() {
                planned.account.left_out.push(Account::name(&changed.path));
            } else if open_ino(&frozen, &changed).is_none() {
                match left_ino(&frozen, &changed) {
                    Some(_) if !options.accept_open => {
                        leave_out(vec![changed.path], &mut planned.left, &mut planned.account);
                        continue;
                    }
                    Some(ino) => {
                        planned.account.accepted.push(Account::name(&changed.path));
                        accepted.push(ino);
                    }
                    None => {}
                }
                plan.add(changed, &mut planned);
            }
        }
        let links = plan.links;
        planned
            .left
            .paths
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
            session,
            frozen,
            generation,
            terms: terms.clone().accepting(accepted),
            state: planned,
        })
    }
}

/// Paths that are too long for a manifest.
struct LongPaths {
    /// In the output directories.
    left_out: Vec<Vec<u8>>,
    /// Outside of them.
    outside: Vec<Vec<u8>>,
}

fn names_of(paths: &[Vec<u8>]) -> impl Iterator<Item = String> {
    paths.iter().map(|path| EscapedBytes(path).to_string())
}

fn is_in(output_dirs: &[ManifestPath], path: &ManifestPath) -> bool {
    holds(output_dirs, path.as_bytes())
}

/// Whether a path is one of these directories or below one; if there are none, it is.
fn holds(output_dirs: &[ManifestPath], path: &[u8]) -> bool {
    let is_in = |dir: &ManifestPath| {
        let rest = path.strip_prefix(dir.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    output_dirs.is_empty() || output_dirs.iter().any(is_in)
}

/// The directories above output directories in which something is put.
fn leading_there(output_dirs: &[ManifestPath], changed: &[ChangedPath]) -> HashSet<ManifestPath> {
    let puts = |dir: &&ManifestPath| {
        changed.iter().any(|ChangedPath { path, change }| {
            matches!(change, PathChange::Put { .. }) && (path == *dir || path.is_below(dir))
        })
    };
    let used = output_dirs.iter().filter(puts);
    used.flat_map(ManifestPath::ancestors).collect()
}

/// The inode that is put at a path, if it is open for writing.
fn open_ino(frozen: &Frozen, changed: &ChangedPath) -> Option<Ino> {
    match changed.change {
        PathChange::Put { ino, .. } => frozen.writers().contains(&ino).then_some(ino),
        PathChange::Delete { .. } => None,
    }
}

/// The inode that is put at a path, if it was open for writing when an earlier process ended, and is not
/// open now.
fn left_ino(frozen: &Frozen, changed: &ChangedPath) -> Option<Ino> {
    match changed.change {
        PathChange::Put { ino, .. } => {
            let left = frozen.left_open().contains(&ino) && !frozen.writers().contains(&ino);
            left.then_some(ino)
        }
        PathChange::Delete { .. } => None,
    }
}

struct Planner<'a> {
    options: &'a CommitOptions,
    namespace: &'a Namespace,
    clean: HashMap<Ino, CleanFile>,
    /// Files with several names, by their place in the plan.
    hard_linked: HashMap<Ino, usize>,
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
                    Some(Kind::Special(_)) => leave_out_special(path, base.is_some(), planned),
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
                // As if the link were in the root.
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
        // A file that was opened for writing and not written to is still the base's.
        let tree = self.namespace.base();
        let untouched = match &content {
            FileContent::Base => Some(ino),
            FileContent::Mapped(mapping) => tree
                .layout(mapping.base)
                .is_some_and(|base| {
                    base.size() == mapping.size && !mapping.touches(0..mapping.size)
                })
                .then_some(mapping.base),
            FileContent::Scratch => None,
        };
        if let Some(untouched) = untouched {
            if let Some(Node::File(file)) = base_node(tree, untouched) {
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
        if self.namespace.link_count(ino) > 1 {
            let next = planned.files.len();
            let at = *self.hard_linked.entry(ino).or_insert(next);
            if let Some(file) = planned.files.get_mut(at) {
                file.paths.push((path, base));
                return;
            }
        }
        let changed = match content {
            FileContent::Mapped(_) => attributes.ctime,
            FileContent::Base | FileContent::Scratch => None,
        };
        let clean = self.clean.remove(&ino);
        let paths = vec![(path, base)];
        planned.files.push(Unhashed {
            paths,
            ino,
            content,
            mtime,
            changed,
            runnable,
            clean,
        });
    }
}

/// Leaves out a FIFO or a socket. For readers of the manifest nothing is at its path, whatever was there.
fn leave_out_special(path: ManifestPath, is_in_base: bool, planned: &mut Planned) {
    planned.account.special.push(Account::name(&path));
    if is_in_base {
        planned.changes.push((path, None));
    }
}

/// Adds a node unless the base has the same.
pub(crate) fn put(planned: &mut Planned, path: ManifestPath, node: Node, base: Option<Node>) {
    if base.as_ref() != Some(&node) {
        planned.changes.push((path, Some(node)));
    }
}
