//! The hash cache of AWS's Python client, `hash_cache.db`, on request: both programs use the hashes
//! that either of them found. Both may have it open at once.
//!
//! Table, values and their types are those of `deadline-job-attachments` 0.1.5 (`caches/hash_cache.py`): a
//! row names a path and a range of bytes, (0, -1) for the whole file, and says the modification time as
//! text in local time (see [`super::local_time`]). It has neither the length nor the change time, so a row
//! may match a file that was replaced by another one with the same modification time.
//! [`HashCaches`](super::HashCaches) decides which rows to believe.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use attachfs_manifest::{ChunkSize, ContentHash};
use parking_lot::Mutex;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, Statement, params};

use super::ScannedFile;
use super::database::{self, CacheError};
use super::local_time::LocalZone;
use super::writer::Writer;

/// `HashCache.CACHE_NAME`.
const FILE: &str = "hash_cache.db";

/// `HashCache.__init__`, letter for letter: SQLite keeps the text.
pub(super) const CREATE: &str = "CREATE TABLE IF NOT EXISTS hashesV4(file_path blob, \
    hash_algorithm text, range_start integer, range_end integer, file_hash text, \
    last_modified_time timestamp, \
    PRIMARY KEY (file_path, hash_algorithm, range_start, range_end))";

/// `HashAlgorithm.XXH128`.
const ALGORITHM: &str = "xxh128";

/// `WHOLE_FILE_RANGE_END`.
const WHOLE_FILE_END: i64 = -1;

/// The Python client's hash cache. After an error it logs a warning, and all later look-ups miss; the file
/// is left as it is.
pub struct DeadlineHashCache {
    path: PathBuf,
    zone: LocalZone,
    reader: Mutex<Option<Connection>>,
    writer: Writer<Entry>,
}

impl fmt::Debug for DeadlineHashCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineHashCache")
            .field("path", &self.path)
            .field("zone", &self.zone)
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Entry {
    path: Vec<u8>,
    range: (i64, i64),
    hash: ContentHash,
    modified: String,
}

impl DeadlineHashCache {
    /// Opens the cache in the client's cache directory (usually `~/.deadline/cache`), and creates what is
    /// not there. `zone` must be the one that the client runs in.
    pub fn open(directory: &Path, zone: LocalZone, busy: Duration) -> Result<Self, CacheError> {
        let path = directory.join(FILE);
        let failed = |error| CacheError::new("open", &path, error);
        let connection = database::open_shared(&path, CREATE, busy)?;
        let reader = database::connect(&path, busy).map_err(failed)?;
        Ok(Self {
            zone,
            reader: Mutex::new(Some(reader)),
            writer: Writer::new(connection, write),
            path,
        })
    }

    /// The hashes of each file's chunks, if each of them is there for the file's modification time.
    pub(super) fn look_up(
        &self,
        files: &[&ScannedFile],
        chunk_size: ChunkSize,
    ) -> Vec<Option<Vec<ContentHash>>> {
        let mut reader = self.reader.lock();
        let Some(connection) = &*reader else {
            return vec![None; files.len()];
        };
        let find = || -> rusqlite::Result<Vec<_>> {
            // One transaction, so that the file is locked once and not for each row.
            let all = connection.unchecked_transaction()?;
            let mut row = all.prepare_cached(
                "SELECT file_hash, last_modified_time FROM hashesV4 WHERE file_path = ?1
                 AND hash_algorithm = ?2 AND range_start = ?3 AND range_end = ?4",
            )?;
            let found = files
                .iter()
                .map(|file| self.find(&mut row, file, chunk_size));
            found.collect()
        };
        find().unwrap_or_else(|error| {
            *reader = None;
            self.warn("read", &error);
            vec![None; files.len()]
        })
    }

    fn find(
        &self,
        row: &mut Statement<'_>,
        file: &ScannedFile,
        chunk_size: ChunkSize,
    ) -> rusqlite::Result<Option<Vec<ContentHash>>> {
        let Some(modified) = self.zone.python_text(file.stamp.mtime_ns) else {
            return Ok(None);
        };
        let path = python_bytes(&file.source());
        let mut hashes = Vec::new();
        for (start, end) in ranges(chunk_size, file.size) {
            let key = params![path, ALGORITHM, start, end];
            let found = row.query_row(key, |row| hash_of(row, &modified));
            match found.optional()?.flatten() {
                Some(hash) => hashes.push(hash),
                None => return Ok(None),
            }
        }
        Ok(Some(hashes))
    }

    /// Keeps the hashes of a file's chunks.
    pub(super) fn remember(
        &self,
        file: &ScannedFile,
        chunk_size: ChunkSize,
        hashes: &[ContentHash],
    ) {
        let Some(modified) = self.zone.python_text(file.stamp.mtime_ns) else {
            return;
        };
        let path = python_bytes(&file.source());
        let ranges = ranges(chunk_size, file.size);
        let entries = ranges.zip(hashes).map(|(range, &hash)| Entry {
            path: path.clone(),
            range,
            hash,
            modified: modified.clone(),
        });
        if let Err(error) = self.writer.add(entries) {
            self.warn("write", &error);
        }
    }

    /// Writes the rows that wait to be written.
    pub fn flush(&self) {
        if let Err(error) = self.writer.flush() {
            self.warn("write", &error);
        }
    }

    fn warn(&self, doing: &'static str, error: &rusqlite::Error) {
        tracing::warn!(cache = %self.path.display(), %error,
            "cannot {doing} the client's hash cache; continuing without it");
    }
}

impl Drop for DeadlineHashCache {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Values of types that the client does not write are a miss, and so are other times.
fn hash_of(row: &Row<'_>, modified: &str) -> rusqlite::Result<Option<ContentHash>> {
    let (hash, time) = (row.get_ref(0)?, row.get_ref(1)?);
    Ok(match (hash, time) {
        (ValueRef::Text(hash), ValueRef::Text(time)) if time == modified.as_bytes() => {
            let hash = std::str::from_utf8(hash).ok();
            hash.and_then(|hash| hash.parse().ok())
        }
        _ => None,
    })
}

fn write(connection: &Connection, rows: &[Entry]) -> rusqlite::Result<()> {
    let mut put = connection
        .prepare_cached("INSERT OR REPLACE INTO hashesV4 VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for row in rows {
        put.execute(params![
            row.path,
            ALGORITHM,
            row.range.0,
            row.range.1,
            row.hash.to_string(),
            row.modified
        ])?;
    }
    Ok(())
}

/// The ranges that the client knows a file's chunks by.
fn ranges(chunk_size: ChunkSize, size: u64) -> impl Iterator<Item = (i64, i64)> {
    let is_whole = chunk_size.count(size) == 1;
    chunk_size.ranges(size).map(move |range| {
        if is_whole {
            (0, WHOLE_FILE_END)
        } else {
            (range.start.cast_signed(), range.end.cast_signed())
        }
    })
}

/// `os.fsdecode(path).encode("utf-8", "surrogatepass")`: a byte that is not UTF-8 becomes the three
/// bytes of the lone surrogate that stands for it (U+DC80 to U+DCFF).
pub(super) fn python_bytes(path: &Path) -> Vec<u8> {
    let path = path.as_os_str().as_encoded_bytes();
    let mut bytes = Vec::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        bytes.extend_from_slice(chunk.valid().as_bytes());
        for &byte in chunk.invalid() {
            bytes.extend([0xed, 0xb0 | byte >> 6, 0x80 | byte & 0x3f]);
        }
    }
    bytes
}
