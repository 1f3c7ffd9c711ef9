//! The hash cache of attachfs itself.
//!
//! A row says: the file at this path of this machine, in this state, has these hashes. The state is its
//! length, its modification and change times in nanoseconds, and its inode number. The change time is there
//! because no program can set it: a file that was overwritten by `cp -p` or unpacked from an archive may
//! have the length and the modification time of its predecessor, never the change time. It also changes
//! with `chmod`, which costs one more reading of the file. The device number is not there, since it changes
//! with each mount of network file systems.
//!
//! A row carries a checksum, its seal: a damaged one is a miss.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attachfs_durable::FileStamp;
use attachfs_manifest::{ChunkSize, ContentHash};
use parking_lot::Mutex;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::database::{self, BUSY_TIMEOUT, CacheError, Layout};
use super::writer::Writer;
use super::{Answer, ScannedFile};

const LAYOUT: Layout = Layout {
    // "aFhc"
    application: 0x6146_6863,
    version: 1,
    schema: "
        CREATE TABLE machines(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
        CREATE TABLE hashes(
            machine INTEGER NOT NULL, path BLOB NOT NULL, chunk INTEGER NOT NULL,
            size INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL,
            inode INTEGER NOT NULL, hashes BLOB NOT NULL, seal INTEGER NOT NULL,
            used INTEGER NOT NULL,
            PRIMARY KEY (machine, path, chunk)) WITHOUT ROWID;
        CREATE TABLE state(pruned INTEGER NOT NULL);
        INSERT INTO state VALUES (0);",
    probe: "SELECT h.machine, h.path, h.chunk, h.size, h.mtime, h.ctime, h.inode, h.hashes, h.seal,
        h.used, m.name, s.pruned FROM hashes h, machines m, state s",
};

/// How many days an unused row stays.
const KEPT_DAYS: u32 = 30;

/// How many unwanted rows are skipped one by one before the index is used to jump ahead.
const STEPS: u32 = 8;

/// A day, counted from 1970 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

impl Day {
    /// The day of a moment. The first one for moments before it.
    pub fn of(moment: SystemTime) -> Self {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u32::try_from(since.as_secs() / 86_400).unwrap_or(u32::MAX))
    }
}

/// Where a hash cache is, and how it is used.
#[derive(Debug, Clone)]
pub struct HashCacheOptions {
    /// The file.
    pub path: PathBuf,
    /// The name of this machine, for caches that several machines share: the same path is another
    /// file there. On Linux, the content of `/etc/machine-id`.
    pub machine: String,
    /// Today: rows that nobody used for 30 days are forgotten.
    pub today: Day,
    /// How long to wait while another process writes.
    pub busy_timeout: Duration,
}

impl HashCacheOptions {
    /// Options with the usual timeout.
    pub fn new(path: PathBuf, machine: String, today: Day) -> Self {
        Self {
            path,
            machine,
            today,
            busy_timeout: BUSY_TIMEOUT,
        }
    }
}

/// Remembers the hashes of files. Shared by threads and by processes.
///
/// After an error it logs a warning, and all later look-ups miss; a damaged file is set aside. Rows
/// are written in batches, the last of them when the cache is dropped.
pub struct HashCache {
    path: PathBuf,
    machine: (i64, String),
    today: Day,
    inode: Option<u64>,
    reader: Mutex<Option<Connection>>,
    writer: Writer<Pending>,
}

impl fmt::Debug for HashCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashCache")
            .field("path", &self.path)
            .field("machine", &self.machine)
            .field("today", &self.today)
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}

/// A change that waits to be written.
#[derive(Debug)]
enum Pending {
    Put(Entry),
    /// A row that was used today.
    Used {
        machine: i64,
        path: Vec<u8>,
        chunk: i64,
        day: u32,
    },
}

#[derive(Debug)]
struct Entry {
    machine: i64,
    path: Vec<u8>,
    chunk: i64,
    state: State,
    hashes: Vec<u8>,
    seal: i64,
    day: u32,
}

/// The state of a file, which must be unchanged for a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    size: i64,
    mtime: i64,
    ctime: i64,
    inode: i64,
}

impl State {
    /// `None` for what SQLite's integers cannot hold: times beyond the year 2262.
    fn of(stamp: &FileStamp) -> Option<Self> {
        Some(Self {
            size: i64::try_from(stamp.size).ok()?,
            mtime: i64::try_from(stamp.mtime_ns).ok()?,
            ctime: i64::try_from(stamp.ctime_ns).ok()?,
            inode: stamp.ino.cast_signed(),
        })
    }
}

impl HashCache {
    /// Opens the cache and creates it if need be: the file for its owner alone (0600), and so its
    /// directory (0700). A file that is damaged or of another version is set aside with a warning,
    /// and created anew.
    pub fn open(options: &HashCacheOptions) -> Result<Self, CacheError> {
        let path = &options.path;
        let failed = |error| CacheError::new("open", path, error);
        let connection = database::open_own(path, &LAYOUT, options.busy_timeout)?;
        let machine = machine_id(&connection, &options.machine).map_err(failed)?;
        let reader = database::connect(path, options.busy_timeout).map_err(failed)?;
        Ok(Self {
            path: path.clone(),
            machine: (machine, options.machine.clone()),
            today: options.today,
            inode: database::inode(path),
            reader: Mutex::new(Some(reader)),
            writer: Writer::new(connection, write),
        })
    }

    /// Looks up these files, and returns the answers in their order. Fast if they are in the order
    /// of their paths; a few thousand at once are best.
    pub(super) fn look_up(&self, files: &[&ScannedFile], chunk_size: ChunkSize) -> Vec<Answer> {
        let mut found = Vec::new();
        found.resize_with(files.len(), || Answer::Unknown);
        let mut reader = self.reader.lock();
        let Some(connection) = &*reader else {
            return found;
        };
        let joined = self.join(connection, files, chunk_size, &mut found);
        if joined.is_err() {
            *reader = None;
        }
        drop(reader);
        match joined {
            Ok(used) => {
                if let Err(error) = self.writer.add(used) {
                    self.give_up("write", &error);
                }
            }
            Err(error) => {
                self.give_up("read", &error);
                found.fill_with(|| Answer::Unknown);
            }
        }
        found
    }

    /// Steps through the rows and the files side by side, both in the order of their paths. Returns
    /// the rows that were used, so that their day can be written.
    fn join(
        &self,
        connection: &Connection,
        files: &[&ScannedFile],
        chunk_size: ChunkSize,
        found: &mut [Answer],
    ) -> rusqlite::Result<Vec<Pending>> {
        let sources: Vec<PathBuf> = files.iter().map(|file| file.source()).collect();
        let path = |at: usize| sources[at].as_os_str().as_encoded_bytes();
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by(|&a, &b| path(a).cmp(path(b)));
        let mut used = Vec::new();
        let Some(&last) = order.last() else {
            return Ok(used);
        };
        let mut rows_from = connection.prepare_cached(
            "SELECT path, chunk, size, mtime, ctime, inode, hashes, seal, used FROM hashes
             WHERE machine = ?1 AND path >= ?2 AND path <= ?3 ORDER BY path",
        )?;
        let mut next = 0;
        'seek: while next < order.len() {
            let mut rows =
                rows_from.query(params![self.machine.0, path(order[next]), path(last)])?;
            let mut steps = 0;
            while let Some(row) = rows.next()? {
                let ValueRef::Blob(here) = row.get_ref(0)? else {
                    continue;
                };
                while next < order.len() && path(order[next]) < here {
                    next += 1;
                }
                if next == order.len() {
                    break 'seek;
                }
                if path(order[next]) != here {
                    steps += 1;
                    if steps == STEPS {
                        continue 'seek;
                    }
                    continue;
                }
                steps = 0;
                let same = order[next..].iter().take_while(|&&at| path(at) == here);
                for &at in same {
                    let file = files[at];
                    if row.get::<_, i64>(1)? != chunk_key(chunk_size, file.size) {
                        continue;
                    }
                    found[at] = self.judge(row, file, chunk_size)?;
                    if matches!(found[at], Answer::Hit(_)) && row.get::<_, u32>(8)? != self.today.0
                    {
                        used.push(Pending::Used {
                            machine: self.machine.0,
                            path: here.to_vec(),
                            chunk: row.get(1)?,
                            day: self.today.0,
                        });
                    }
                }
            }
            break;
        }
        Ok(used)
    }

    fn judge(
        &self,
        row: &Row<'_>,
        file: &ScannedFile,
        chunk_size: ChunkSize,
    ) -> rusqlite::Result<Answer> {
        let known = State {
            size: row.get(2)?,
            mtime: row.get(3)?,
            ctime: row.get(4)?,
            inode: row.get(5)?,
        };
        let Some(now) = State::of(&file.stamp) else {
            return Ok(Answer::Unknown);
        };
        if known != now {
            return Ok(if known.mtime == now.mtime {
                Answer::Altered
            } else {
                Answer::Unknown
            });
        }
        let ValueRef::Blob(bytes) = row.get_ref(6)? else {
            return Ok(Answer::Unknown);
        };
        let source = file.source();
        let path = source.as_os_str().as_encoded_bytes();
        let seal = self.seal(path, chunk_key(chunk_size, file.size), known, bytes);
        let (hashes, rest) = bytes.as_chunks::<16>();
        let fits = rest.is_empty() && hashes.len() as u64 == chunk_size.count(file.size);
        if row.get::<_, i64>(7)? != seal || !fits {
            tracing::warn!(cache = %self.path.display(), "a row of the cache is damaged");
            return Ok(Answer::Unknown);
        }
        let hashes = hashes.iter().map(|&hash| ContentHash::from_bytes(hash));
        Ok(Answer::Hit(hashes.collect()))
    }

    /// Keeps the hashes of a file's chunks. The caller makes sure that they are certain.
    pub(super) fn remember(
        &self,
        file: &ScannedFile,
        chunk_size: ChunkSize,
        hashes: &[ContentHash],
    ) {
        let Some(state) = State::of(&file.stamp) else {
            return;
        };
        let path = file.source().into_os_string().into_encoded_bytes();
        let chunk = chunk_key(chunk_size, file.size);
        let hashes: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        let entry = Entry {
            machine: self.machine.0,
            seal: self.seal(&path, chunk, state, &hashes),
            path,
            chunk,
            state,
            hashes,
            day: self.today.0,
        };
        if let Err(error) = self.writer.add([Pending::Put(entry)]) {
            self.give_up("write", &error);
        }
    }

    /// Writes what waits to be written.
    pub fn flush(&self) {
        if let Err(error) = self.writer.flush() {
            self.give_up("write", &error);
        }
    }

    /// The first half of a hash over everything in a row.
    fn seal(&self, path: &[u8], chunk: i64, state: State, hashes: &[u8]) -> i64 {
        let numbers = [chunk, state.size, state.mtime, state.ctime, state.inode];
        let mut bytes = Vec::with_capacity(128 + path.len() + hashes.len());
        bytes.extend_from_slice(self.machine.1.as_bytes());
        bytes.push(0);
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend_from_slice(hashes);
        bytes.extend_from_slice(path);
        let hash = ContentHash::of(&bytes);
        let (halves, _) = hash.as_bytes().as_chunks::<8>();
        i64::from_le_bytes(halves[0])
    }

    /// Deletes rows that were not used for long. At most once a day, because it reads the whole
    /// table.
    fn prune(&self) -> rusqlite::Result<()> {
        self.writer.with(|connection| {
            let today = self.today.0;
            let pruned: u32 =
                connection.query_row("SELECT pruned FROM state", [], |row| row.get(0))?;
            if pruned < today {
                let unused = "DELETE FROM hashes WHERE used < ?1";
                connection.execute(unused, [today.saturating_sub(KEPT_DAYS)])?;
                connection.execute("UPDATE state SET pruned = ?1", [today])?;
            }
            Ok(())
        })
    }

    /// Continues without a cache.
    fn give_up(&self, doing: &'static str, error: &rusqlite::Error) {
        tracing::warn!(cache = %self.path.display(), %error,
            "cannot {doing} the cache; continuing without it");
        if !database::is_damage(error) {
            return;
        }
        // SQLite must have closed the file before another one can take its name.
        self.writer.close();
        *self.reader.lock() = None;
        if let Err(error) = database::set_aside(&self.path, self.inode, "damaged") {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a damaged cache stays where it is"
            );
        }
    }
}

impl Drop for HashCache {
    fn drop(&mut self) {
        if let Err(error) = self.prune() {
            self.give_up("write", &error);
        }
    }
}

/// A file that is one object has the same hash whatever the chunk size.
fn chunk_key(chunk_size: ChunkSize, size: u64) -> i64 {
    match chunk_size {
        ChunkSize::Bytes(bytes) if chunk_size.count(size) > 1 => bytes.get().cast_signed(),
        _ => 0,
    }
}

fn machine_id(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let find = "SELECT id FROM machines WHERE name = ?1";
    let find = || {
        connection
            .query_row(find, [name], |row| row.get(0))
            .optional()
    };
    if let Some(id) = find()? {
        return Ok(id);
    }
    connection.execute("INSERT OR IGNORE INTO machines(name) VALUES (?1)", [name])?;
    find()?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn write(connection: &Connection, rows: &[Pending]) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT OR REPLACE INTO hashes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let mut used = connection.prepare_cached(
        "UPDATE hashes SET used = ?4 WHERE machine = ?1 AND path = ?2 AND chunk = ?3",
    )?;
    for row in rows {
        match row {
            Pending::Put(entry) => put.execute(params![
                entry.machine,
                entry.path,
                entry.chunk,
                entry.state.size,
                entry.state.mtime,
                entry.state.ctime,
                entry.state.inode,
                entry.hashes,
                entry.seal,
                entry.day,
            ])?,
            Pending::Used {
                machine,
                path,
                chunk,
                day,
            } => used.execute(params![machine, path, chunk, day])?,
        };
    }
    Ok(())
}

/// For messages and tests.
impl HashCache {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
