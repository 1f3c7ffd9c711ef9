//! Opening SQLite files that are caches: losing one does no harm, and a failing one must not stop
//! the program.
//!
//! All of them use a write-ahead log, so that readers and one writer can work at once, in this process and
//! in others; if the file is locked, the caller waits for a while. `synchronous` is NORMAL: a power loss
//! may take the last rows, it does not damage the file.
//!
//! A file of our own that is damaged, or made by another version, is set aside: renamed, so that it
//! can be examined, and created anew. A file that other programs own is left alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use attachfs_durable::{FileLock, FileStamp, check_database, create_private_dir, make_private};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

/// How long to wait for a cache that another process has locked.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The wait before a lock is tried again that SQLite does not wait for by itself.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// A cache that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} the cache {}", path.display())]
pub struct CacheError {
    /// What was being done, as it follows "cannot".
    pub doing: &'static str,
    /// The cache's file.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl CacheError {
    pub(super) fn new(
        doing: &'static str,
        path: &Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            doing,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// What a file of our own is made of.
#[derive(Debug)]
pub(super) struct Layout {
    /// SQLite's `application_id`: whose file it is.
    pub(super) application: i32,
    /// SQLite's `user_version`: what its tables mean.
    pub(super) version: i32,
    /// Makes the tables.
    pub(super) schema: &'static str,
    /// A query that fails if they are not as they should be.
    pub(super) probe: &'static str,
}

/// Why a file of our own cannot be opened.
enum OpenFailure {
    /// It is to be renamed with this ending.
    Unusable(&'static str, String),
    Failed(CacheError),
}

impl OpenFailure {
    fn of(self, path: &Path) -> CacheError {
        match self {
            Self::Unusable(_, why) => CacheError::new("use", path, why),
            Self::Failed(error) => error,
        }
    }
}

/// Opens a file of our own, and creates it (0600, in directories 0700) if need be.
pub(super) fn open_own(
    path: &Path,
    layout: &Layout,
    busy: Duration,
) -> Result<Connection, CacheError> {
    if let Some(dir) = path.parent() {
        create_private_dir(dir).map_err(|error| CacheError::new("create", path, error))?;
    }
    check_own(path)?;
    let found = inode(path);
    match patiently(busy, || prepare(path, layout, busy)) {
        Ok(connection) => return Ok(connection),
        Err(OpenFailure::Unusable(ending, why)) => {
            tracing::warn!(cache = %path.display(), why,
                "the cache cannot be used; it is set aside and created anew");
            set_aside(path, found, ending)?;
        }
        Err(OpenFailure::Failed(error)) => return Err(error),
    }
    patiently(busy, || prepare(path, layout, busy)).map_err(|trouble| trouble.of(path))
}

/// Opens a file that other programs use too, and creates it and this table if need be.
pub(super) fn open_shared(
    path: &Path,
    create_table: &str,
    busy: Duration,
) -> Result<Connection, CacheError> {
    if let Some(dir) = path.parent() {
        create_private_dir(dir).map_err(|error| CacheError::new("create", path, error))?;
    }
    // The directory may be a link to another place.
    let real = path.parent().and_then(|dir| dir.canonicalize().ok());
    check_own(&match (real, path.file_name()) {
        (Some(dir), Some(name)) => dir.join(name),
        _ => path.to_owned(),
    })?;
    let open = || -> Result<Connection, OpenFailure> {
        let failed = |error| OpenFailure::Failed(CacheError::new("open", path, error));
        let connection = connect(path, busy).map_err(failed)?;
        connection.execute_batch(create_table).map_err(failed)?;
        Ok(connection)
    };
    patiently(busy, open).map_err(|trouble| trouble.of(path))
}

/// A connection to a file, which is created (0600) if it is not there.
pub(super) fn connect(path: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    // Not created by us beforehand: closing a second descriptor of the file would drop the locks
    // that other connections of this process have on it.
    let is_new = !path.exists();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    if is_new && let Err(error) = make_private(path) {
        tracing::warn!(cache = %path.display(), %error, "cannot make the cache private");
    }
    connection.busy_timeout(busy)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

fn prepare(path: &Path, layout: &Layout, busy: Duration) -> Result<Connection, OpenFailure> {
    let failed = |error: rusqlite::Error| {
        if is_damage(&error) {
            OpenFailure::Unusable("damaged", error.to_string())
        } else {
            OpenFailure::Failed(CacheError::new("open", path, error))
        }
    };
    let mut connection = connect(path, busy).map_err(failed)?;
    if is_empty(&connection).map_err(failed)? {
        let create = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        // Another process may have been first.
        if is_empty(&create).map_err(failed)? {
            create.execute_batch(layout.schema).map_err(failed)?;
            for (name, value) in [
                ("application_id", layout.application),
                ("user_version", layout.version),
            ] {
                create.pragma_update(None, name, value).map_err(failed)?;
            }
        }
        create.commit().map_err(failed)?;
    }
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (
        number("application_id").map_err(failed)?,
        number("user_version").map_err(failed)?,
    );
    if application != layout.application {
        let why = format!("it belongs to another program (application {application:#x})");
        return Err(OpenFailure::Unusable("foreign", why));
    }
    if version != layout.version {
        let why = format!("it has version {version}, and {} is needed", layout.version);
        return Err(OpenFailure::Unusable("other-version", why));
    }
    let probed = connection.prepare(layout.probe).map(drop);
    match probed {
        Ok(()) => Ok(connection),
        Err(error) if is_busy(&error) => Err(failed(error)),
        Err(error) => Err(OpenFailure::Unusable("damaged", error.to_string())),
    }
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let count = "SELECT count(*) FROM sqlite_master";
    let tables: i64 = connection.query_row(count, [], |row| row.get(0))?;
    Ok(tables == 0)
}

/// Turning on the write-ahead log fails at once if another process is doing so, whatever the
/// timeout.
fn patiently<T>(
    busy: Duration,
    mut attempt: impl FnMut() -> Result<T, OpenFailure>,
) -> Result<T, OpenFailure> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(OpenFailure::Failed(error))
                if begun.elapsed() < busy
                    && error
                        .source
                        .downcast_ref::<rusqlite::Error>()
                        .is_some_and(is_busy) =>
            {
                std::thread::sleep(TRY_AGAIN);
            }
            done => return done,
        }
    }
}

/// Renames a file of our own, unless another process has done so since it was `found`. This process
/// must not have it open. An earlier file with the same ending is replaced, so these do not pile up.
pub(super) fn set_aside(
    path: &Path,
    found: Option<u64>,
    ending: &'static str,
) -> Result<(), CacheError> {
    const DOING: &str = "set aside";
    let failed = |error: io::Error| CacheError::new(DOING, path, error);
    let lock = FileLock::try_exclusive(&with_ending(path, ".lock"))
        .map_err(|error| CacheError::new(DOING, path, error))?;
    let Some(_lock) = lock else {
        return Err(CacheError::new(DOING, path, "another process is doing so"));
    };
    if inode(path) != found {
        return Ok(());
    }
    let aside = with_ending(path, &format!(".{ending}"));
    // The write-ahead log first, so that it is not taken for the new file's.
    for part in ["-wal", "-shm"] {
        match fs::rename(with_ending(path, part), with_ending(&aside, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    fs::rename(path, &aside).map_err(failed)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// The inode number of the file at the path, if there is one.
pub(super) fn inode(path: &Path) -> Option<u64> {
    FileStamp::at(path).ok().map(|found| found.ino)
}

/// A writer of the cache could forge hashes of files, so only this user may write to it.
fn check_own(path: &Path) -> Result<(), CacheError> {
    check_database(path).map_err(|error| CacheError::new("trust", path, error))
}

/// Whether the file itself is to blame.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}
