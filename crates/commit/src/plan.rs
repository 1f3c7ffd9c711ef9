//! Planning a commit: everything except the hashes of the written files.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use attachfs_manifest::{Content, EscapedBytes, File, LinkTarget, ManifestPath, Mtime, Node};
use attachfs_transfer::Silent;
use attachfs_tree::{
    ChangedPath, Changes, FileContent, Ino, Kind, Namespace, PathChange, Timestamp,
};
use attachfs_vfs::overlay::{CleanFile, ScratchStamp};
use attachfs_vfs::{Frozen, FsError};

use crate::account::Account;
use crate::error::{CommitError, OpenFile, OutgoingLink};
use crate::history::last_published;
use crate::node::base_node;
use crate::open::OpenSession;
use crate::states::{Commit, CommitOptions, Links, Observer, Terms, unless_stopped};

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
    /// The error if its bytes in scratch cannot be had: it names the file.
    pub(crate) fn not_read(&self, source: FsError) -> CommitError {
        match self.paths().next() {
            Some(path) => CommitError::Written { path, source },
            None => source.into(),
        }
    }

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

/// A link that leads out of the mount.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) link: OutgoingLink,
    pub(crate) ino: Ino,
    /// Who made it, as far as the mount knows; nobody if it is the base's.
    pub(crate) owner: Option<u32>,
    /// When it was made.
    pub(crate) changed: Option<Timestamp>,
    /// Whether the last commit put what it shows.
    is_shown: bool,
}

impl Outgoing {
    /// A link of the mount, and what the last commit that put what it shows knew of it, if one did.
    pub(crate) fn new(
        namespace: &Namespace,
        link: OutgoingLink,
        ino: Ino,
        shown: Option<&CleanFile>,
    ) -> Self {
        let attributes = namespace.attributes(ino);
        let changed = attributes.ctime;
        let is_input = namespace.base().kind(ino).is_some();
        Self {
            link,
            ino,
            owner: attributes.uid.filter(|_| !is_input),
            changed,
            is_shown: shown.is_some_and(|shown| shown.changed == changed),
        }
    }
}

/// Changed paths that are not committed: in the result they stay as the last commit left them.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Single paths.
    pub(crate) paths: Vec<ManifestPath>,
    /// Links; what an earlier commit put in their place, and in it, stays.
    links: HashSet<ManifestPath>,
    /// Everything that these do not take.
    options: CommitOptions,
}

impl Left {
    /// Whether a change at a path is not taken.
    pub(crate) fn is_outside(&self, path: &ManifestPath) -> bool {
        !self.options.takes(path.as_bytes())
            || !self.links.is_empty() && path.ancestors().any(|dir| self.links.contains(&dir))
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
    /// Links that are replaced by what they show.
    pub(crate) collapse: Vec<Outgoing>,
    pub(crate) left: Left,
    pub(crate) account: Account,
}

impl Commit<Planned> {
    /// Freezes the session and finds its changes since the base.
    pub async fn plan(session: OpenSession, options: &CommitOptions) -> Result<Self, CommitError> {
        Self::plan_on(session, &Terms::new(options), &Silent).await
    }

    /// Plans, and waits for open files for the remaining time, unless who watches wants to stop.
    pub(crate) async fn plan_on(
        session: OpenSession,
        terms: &Terms,
        observer: &dyn Observer,
    ) -> Result<Self, CommitError> {
        let vfs = session.vfs();
        let options = &terms.options;
        let (frozen, changed, open, long) = loop {
            let frozen = vfs.freeze().ok_or(CommitError::ReadOnly)?;
            let Changes {
                paths: changed,
                too_long,
            } = frozen.namespace().changes();
            let (too_long, long_outside): (Vec<_>, Vec<_>) =
                too_long.into_iter().partition(|path| options.takes(path));
            if !(too_long.is_empty() || options.skip_long) {
                return Err(CommitError::TooLong(too_long));
            }
            let left: Vec<OpenFile> = changed
                .iter()
                .filter(|changed| options.takes(changed.path.as_bytes()))
                .filter(|changed| left_ino(&frozen, changed).is_some())
                .map(|changed| changed.path.clone().into())
                .collect();
            if !(left.is_empty() || options.skip_open || options.accept_open) {
                // No process has the file open, so waiting would not help.
                return Err(CommitError::LeftOpen(left));
            }
            let (inos, open): (Vec<Ino>, Vec<OpenFile>) = changed
                .iter()
                .filter(|changed| options.takes(changed.path.as_bytes()))
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
            let closed = async {
                while inos.iter().any(|&ino| vfs.has_writer(ino)) && !terms.remaining().is_zero() {
                    tokio::time::sleep(LOOK_AGAIN.min(terms.remaining())).await;
                }
            };
            unless_stopped(observer, session.early().meanwhile(closed)).await?;
        };
        let (published, clean) = last_published(&vfs.commits());
        let generation = published + 1;
        // What was sent since that commit is newer.
        let clean = clean.into_iter().chain(session.early().files());
        let clean = clean.map(|file| (file.ino, file)).collect();
        let mut accepted = Vec::new();
        let mut account = Account::default();
        account
            .open
            .extend(open.iter().map(|file| Account::name(&file.path)));
        account.too_long.extend(names_of(&long.left_out));
        for path in &long.outside {
            let name = EscapedBytes(path).to_string();
            account.leave_out(name, options.is_output(path));
        }
        let missing = |dir: &&ManifestPath| !exists(frozen.namespace(), dir);
        let missing = options.output_dirs.iter().filter(missing);
        account.missing_dirs.extend(missing.map(Account::name));
        let mut plan = Planner {
            options,
            namespace: frozen.namespace(),
            clean,
            hard_linked: HashMap::new(),
            links: Vec::new(),
        };
        let left = Left {
            paths: open.into_iter().map(|file| file.path).collect(),
            links: HashSet::new(),
            options: options.clone(),
        };
        let not_taken = options.not_taken(frozen.namespace(), &changed);
        let mut planned = Planned {
            changes: Vec::new(),
            files: Vec::new(),
            collapse: Vec::new(),
            left,
            account,
        };
        for (at, changed) in changed.into_iter().enumerate() {
            if not_taken.contains(&at) {
                let name = Account::name(&changed.path);
                let is_output = options.is_output(changed.path.as_bytes());
                planned.account.leave_out(name, is_output);
                planned.left.paths.push(changed.path);
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
        let all = || links.iter().map(|out| out.link.clone()).collect();
        let name = |out: &Outgoing| Account::name(&out.link.path);
        match options.links {
            Links::Stop if !links.is_empty() => return Err(CommitError::OutgoingLinks(all())),
            Links::Keep if !links.is_empty() => return Err(CommitError::UnheldLinks(all())),
            Links::Stop | Links::Skip | Links::Keep => {
                // What a link shows may have been committed: then it stays so.
                let left = links.iter().filter(|out| !out.is_shown);
                planned.account.links.extend(left.map(name));
                let paths = links.iter().map(|out| out.link.path.clone());
                planned.left.links.extend(paths.clone());
                planned.left.paths.extend(paths);
            }
            Links::Collapse => {
                planned.account.collapsed.extend(links.iter().map(name));
                planned.collapse = links;
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

/// Whether there is anything at a path.
fn exists(namespace: &Namespace, path: &ManifestPath) -> bool {
    let found = path
        .components()
        .try_fold(Ino::ROOT, |dir, name| namespace.lookup(dir, name));
    found.is_some()
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
    links: Vec<Outgoing>,
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
            None => {
                let shown = self.clean.get(&ino);
                let link = OutgoingLink { path, text };
                self.links
                    .push(Outgoing::new(self.namespace, link, ino, shown));
            }
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
