//! A session: one mount's writes, on disk, from the mount until they are committed or discarded.
//!
//! ```text
//!     <session>/               0700, one process at a time (lock)
//!         session.json         what is mounted where, from which store
//!         lock
//!         base/0, base/1 ...   the manifests, as they were given
//!         journal              see overlay::Journal
//!         scratch/             bytes; elsewhere if asked for
//!         commits/1.manifest   what commit 1 published or is about to publish
//!         commits/1.total      everything committed up to 1, relative to the base
//!         control.sock         while it is mounted
//!         log
//! ```
//!
//! Nothing here is deleted but by `discard`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use attachfs_durable::{DurableError, FileLock, create_private_dir, publish};
use attachfs_manifest::{ContentHash, ManifestPath};
use attachfs_store::S3Access;
use attachfs_tree::{LayerOptions, Timestamp};
use serde::{Deserialize, Serialize};

use crate::overlay::Scratch;

/// The version of the directory that this code writes and reads. It changes when the same manifests get
/// other inode numbers, too: a journal names files by them.
///
/// 1 numbered the nodes of the base by depth and path, and did not say how layers were put together;
/// 2 numbers them directory by directory.
const FORMAT: u32 = 2;

/// How often and how quickly a lock is tried that someone else has.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A session's name: 32 hexadecimal digits, random.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

/// The text is no session id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a session id has 32 hexadecimal digits")]
pub struct ParseSessionIdError;

impl SessionId {
    /// The id made of these random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(ContentHash::from_bytes(bytes).to_string())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = ParseSessionIdError;

    fn from_str(text: &str) -> Result<Self, ParseSessionIdError> {
        text.parse::<ContentHash>()
            .map(|_| Self(text.to_owned()))
            .map_err(|_| ParseSessionIdError)
    }
}

impl TryFrom<String> for SessionId {
    type Error = ParseSessionIdError;

    fn try_from(text: String) -> Result<Self, ParseSessionIdError> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One of the manifests that are mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseManifest {
    /// Where it came from, for people.
    pub source: String,
    /// The hash of its bytes.
    #[serde(with = "hex")]
    pub hash: ContentHash,
    /// The directory it is placed in; the root if `None`.
    #[serde(default, with = "path_text")]
    pub at: Option<ManifestPath>,
}

/// How to reach the store. No credentials: those come from the environment of whoever resumes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreSettings {
    /// A directory or `s3://bucket/prefix`.
    pub address: String,
    /// How to reach it if it is in S3.
    #[serde(flatten)]
    pub s3: S3Access,
}

impl StoreSettings {
    /// These settings, with what is said here instead.
    #[must_use]
    pub fn with(&self, access: &S3Access) -> Self {
        Self {
            address: self.address.clone(),
            s3: access.over(&self.s3),
        }
    }
}

/// What is written down of a session when it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionMeta {
    /// The version of the session's directory.
    pub format: u32,
    /// Its name.
    pub id: SessionId,
    /// The version of the program that made it.
    pub program: String,
    /// When it began; also the time of directories that nobody changed.
    pub created: Timestamp,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The uid of who mounted it.
    pub owner: u32,
    /// The manifests, the lowest first.
    pub manifests: Vec<BaseManifest>,
    /// The hash that the first diff names as its parent.
    #[serde(with = "hex")]
    pub parent: ContentHash,
    /// How the manifests are put together.
    pub layers: LayerOptions,
    /// Where chunks come from and go to.
    pub store: StoreSettings,
    /// Where scratch files are, if not in the session.
    #[serde(default)]
    pub scratch_dir: Option<PathBuf>,
    /// The directories whose changes are committed, relative to the root; all if empty.
    #[serde(default)]
    pub output_dirs: Vec<String>,
    /// Whether to commit when it is unmounted.
    #[serde(default)]
    pub commit_on_unmount: bool,
    /// Whether nobody can write to it. Then it has no journal, and goes with its mount.
    #[serde(default)]
    pub read_only: bool,
}

impl SessionMeta {
    /// The version to write in [`format`](Self::format).
    pub const FORMAT: u32 = FORMAT;
}

/// Why a session's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Another process has the session.
    #[error("the session {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// There is a session already where a new one should go.
    #[error("there is a session in {} already; commit or discard it, or name another directory", .0.display())]
    Exists(PathBuf),
    /// No session there.
    #[error("there is no session in {}", .0.display())]
    Missing(PathBuf),
    /// The description cannot be understood.
    #[error("the description of the session {} cannot be read", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The session was made by a program of another time.
    #[error(
        "the session {} has format {found}, this program reads {FORMAT}: commit or discard it with \
         the attachfs {} that made it", path.display(), program.as_deref().unwrap_or("version")
    )]
    Format {
        /// The session.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// The version of the program that made it, if it says so.
        program: Option<String>,
    },
    /// One of the manifests is not what it was.
    #[error("the manifest {} of the session is damaged: its hash is {found}, not {expected}", path.display())]
    DamagedBase {
        /// The file.
        path: PathBuf,
        /// What the description says.
        expected: ContentHash,
        /// What the bytes have.
        found: ContentHash,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A durable file could not be written.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// What every version of the description has.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
    #[serde(default)]
    program: Option<String>,
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SessionError {
    let path = path.to_owned();
    move |source| SessionError::Io {
        doing,
        path,
        source,
    }
}

/// A session's directory, locked.
#[derive(Debug)]
pub struct Session {
    dir: PathBuf,
    meta: SessionMeta,
    _lock: FileLock,
}

impl Session {
    /// Makes a new session in `dir`, which may exist but may hold no session. The manifests are
    /// kept in it, so that it can be resumed without whoever gave them.
    pub fn create(
        dir: &Path,
        meta: SessionMeta,
        manifests: &[Vec<u8>],
    ) -> Result<Self, SessionError> {
        create_private_dir(dir)?;
        let lock = Self::lock(dir)?;
        if Self::description(dir).exists() {
            return Err(SessionError::Exists(dir.to_owned()));
        }
        let session = Self {
            dir: dir.to_owned(),
            meta,
            _lock: lock,
        };
        create_private_dir(&session.dir.join("base"))?;
        create_private_dir(&session.dir.join("commits"))?;
        for (number, bytes) in manifests.iter().enumerate() {
            write(&Self::base_path(dir, number), bytes)?;
        }
        session.describe()?;
        Ok(session)
    }

    /// Opens a session that another process left.
    pub fn open(dir: &Path) -> Result<Self, SessionError> {
        let meta = Self::read_meta(dir)?;
        let lock = Self::lock(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            meta,
            _lock: lock,
        })
    }

    /// What a session is, whoever has it.
    pub fn read_meta(dir: &Path) -> Result<SessionMeta, SessionError> {
        let path = Self::description(dir);
        let bytes = std::fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => SessionError::Missing(dir.to_owned()),
            _ => failed("read", &path)(source),
        })?;
        let unreadable = |source| SessionError::Description {
            path: path.clone(),
            source,
        };
        let Versioned { format, program } = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if format != FORMAT {
            return Err(SessionError::Format {
                path: dir.to_owned(),
                found: format,
                program,
            });
        }
        serde_json::from_slice(&bytes).map_err(unreadable)
    }

    /// Whether a process has the session.
    pub fn is_in_use(dir: &Path) -> Result<bool, SessionError> {
        Ok(FileLock::is_held(&dir.join("lock"))?)
    }

    fn lock(dir: &Path) -> Result<FileLock, SessionError> {
        for _ in 0..LOCK_TRIES {
            if let Some(lock) = FileLock::try_exclusive(&dir.join("lock"))? {
                return Ok(lock);
            }
            // Someone may only be looking.
            std::thread::sleep(LOCK_PAUSE);
        }
        Err(SessionError::InUse(dir.to_owned()))
    }

    fn description(dir: &Path) -> PathBuf {
        dir.join("session.json")
    }

    /// Writes down that it is mounted somewhere else from now on.
    pub fn move_to(&mut self, mount_point: &Path) -> Result<(), SessionError> {
        if self.meta.mount_point != mount_point {
            mount_point.clone_into(&mut self.meta.mount_point);
            self.describe()?;
        }
        Ok(())
    }

    fn describe(&self) -> Result<(), SessionError> {
        let path = Self::description(&self.dir);
        let failed = |source| SessionError::Description {
            path: path.clone(),
            source,
        };
        let description = serde_json::to_vec_pretty(&self.meta).map_err(failed)?;
        write(&path, &description)
    }

    /// The session's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was written down when it began.
    pub fn meta(&self) -> &SessionMeta {
        &self.meta
    }

    fn base_path(dir: &Path, number: usize) -> PathBuf {
        dir.join("base").join(number.to_string())
    }

    /// The manifests' bytes, the lowest first, checked against their hashes.
    pub fn manifests(&self) -> Result<Vec<Vec<u8>>, SessionError> {
        Self::read_manifests(&self.dir, &self.meta)
    }

    /// As [`manifests`](Self::manifests), of a session that may be in use: they never change.
    pub fn read_manifests(dir: &Path, meta: &SessionMeta) -> Result<Vec<Vec<u8>>, SessionError> {
        let read = |(number, manifest): (usize, &BaseManifest)| {
            read_checked(Self::base_path(dir, number), manifest.hash)
        };
        meta.manifests.iter().enumerate().map(read).collect()
    }

    /// The journal's place.
    pub fn journal_path(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// The scratch directory, made if need be.
    pub fn scratch(&self) -> Result<Scratch, SessionError> {
        let dir = match &self.meta.scratch_dir {
            Some(dir) => dir.join(self.meta.id.as_str()),
            None => self.dir.join("scratch"),
        };
        Ok(Scratch::open(&dir)?)
    }

    /// Where a commit keeps the bytes of its manifest.
    pub fn commit_manifest(&self, generation: u32) -> PathBuf {
        Self::commit_path(&self.dir, generation)
    }

    fn commit_path(dir: &Path, generation: u32) -> PathBuf {
        dir.join("commits").join(format!("{generation}.manifest"))
    }

    /// The bytes of a commit's manifest, which have this hash, out of a session that may be in use: they
    /// never change.
    pub fn read_commit(
        dir: &Path,
        generation: u32,
        hash: ContentHash,
    ) -> Result<Vec<u8>, SessionError> {
        read_checked(Self::commit_path(dir, generation), hash)
    }

    /// Where a commit keeps all changes up to it, as one diff against the base.
    pub fn commit_total(&self, generation: u32) -> PathBuf {
        self.dir.join("commits").join(format!("{generation}.total"))
    }

    /// A directory for what a commit puts together and then drops.
    pub fn commit_work_dir(&self) -> Result<PathBuf, SessionError> {
        let dir = self.dir.join("commits").join("work");
        create_private_dir(&dir)?;
        Ok(dir)
    }

    /// Writes a file of a commit, durably.
    pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), SessionError> {
        write(path, bytes)
    }

    /// Deletes the session and everything that was not committed. The journal goes first, so that what
    /// is half deleted is never taken for the whole; the description goes last, so that it can be
    /// deleted again.
    pub fn discard(&self) -> Result<(), SessionError> {
        remove_file(&self.journal_path())?;
        if let Some(scratch) = &self.meta.scratch_dir {
            remove_tree(&scratch.join(self.meta.id.as_str()))?;
        }
        for part in ["base", "commits", "scratch"] {
            remove_tree(&self.dir.join(part))?;
        }
        for part in ["control.sock", "log", "session.json", "lock"] {
            remove_file(&self.dir.join(part))?;
        }
        // Empty, unless something of the user's is in it.
        for part in ["mnt", ""] {
            let path = self.dir.join(part);
            match std::fs::remove_dir(&path) {
                Err(error)
                    if !matches!(
                        error.kind(),
                        std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::NotFound
                    ) =>
                {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn read_checked(path: PathBuf, expected: ContentHash) -> Result<Vec<u8>, SessionError> {
    let bytes = std::fs::read(&path).map_err(failed("read", &path))?;
    let found = ContentHash::of(&bytes);
    if found == expected {
        Ok(bytes)
    } else {
        Err(SessionError::DamagedBase {
            path,
            expected,
            found,
        })
    }
}

fn remove_file(path: &Path) -> Result<(), SessionError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn remove_tree(path: &Path) -> Result<(), SessionError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SessionError> {
    use std::io::Write as _;
    Ok(publish(path, |file| file.write_all(bytes))?)
}

mod hex {
    use attachfs_manifest::ContentHash;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(hash: &ContentHash, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(hash)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ContentHash, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Paths in JSON as lists of bytes would be unreadable, and as text would lose bytes: text where it
/// is UTF-8, which a directory that a person names always is.
mod path_text {
    use attachfs_manifest::ManifestPath;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _, ser};

    #[expect(clippy::ref_option, reason = "serde gives the field by reference")]
    pub(super) fn serialize<S: Serializer>(
        path: &Option<ManifestPath>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let text = path
            .as_ref()
            .map(|path| std::str::from_utf8(path.as_bytes()))
            .transpose();
        text.map_err(<S::Error as ser::Error>::custom)?
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<ManifestPath>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| ManifestPath::new(text.as_bytes()))
            .transpose()
            .map_err(D::Error::custom)
    }
}
