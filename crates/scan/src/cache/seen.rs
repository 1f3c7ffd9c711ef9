//! Which objects were seen in a bucket recently, `s3_check_cache.db`: the same file and table as that of
//! AWS's Python client (`deadline-job-attachments` 0.1.5, `caches/s3_check_cache.py`).
//!
//! An object may have been deleted from the bucket since. A caller that relies on the cache checks a sample
//! first, and deletes all rows of the bucket if an object of it is missing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::database::{self, CacheError};
use super::writer::Writer;

/// `S3CheckCache.CACHE_NAME`.
const FILE: &str = "s3_check_cache.db";

/// `S3CheckCache.__init__`, letter for letter.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS s3checkV1(s3_key text primary key, \
    last_seen_time timestamp)";

/// `S3CheckCache.ENTRY_EXPIRY_DAYS`.
const VALID: Duration = Duration::from_hours(30 * 24);

/// How far ahead another machine's clock may be.
const AHEAD: Duration = Duration::from_hours(24);

/// Remembers when objects were last seen. A key is `<bucket>/<key in the bucket>`. After an error it logs a
/// warning, and all later look-ups miss; the file is left as it is.
pub struct S3CheckCache {
    path: PathBuf,
    reader: Mutex<Option<Connection>>,
    writer: Writer<(String, f64)>,
}

impl fmt::Debug for S3CheckCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3CheckCache")
            .field("path", &self.path)
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}

impl S3CheckCache {
    /// Opens the cache in a directory, the client's (usually `~/.deadline/cache`) or another one, and
    /// creates what is missing.
    pub fn open(directory: &Path, busy: Duration) -> Result<Self, CacheError> {
        let path = directory.join(FILE);
        let failed = |error| CacheError::new("open", &path, error);
        let connection = database::open_shared(&path, CREATE, busy)?;
        let reader = database::connect(&path, busy).map_err(failed)?;
        Ok(Self {
            reader: Mutex::new(Some(reader)),
            writer: Writer::new(connection, write),
            path,
        })
    }

    /// Whether each of these objects was seen in the last 30 days, in their order. Blocks. Thousands at
    /// once are best: they are one transaction.
    pub fn look_up(&self, keys: &[String], now: SystemTime) -> Vec<bool> {
        let mut reader = self.reader.lock();
        let found = match &mut *reader {
            Some(connection) => find(connection, keys, now),
            None => Ok(vec![false; keys.len()]),
        };
        found.unwrap_or_else(|error| {
            *reader = None;
            self.warn("read", &error);
            vec![false; keys.len()]
        })
    }

    /// Notes that the object was seen now.
    pub fn remember(&self, key: &str, now: SystemTime) {
        if let Err(error) = self.writer.add([(key.to_owned(), unix_seconds(now))]) {
            self.warn("write", &error);
        }
    }

    /// Deletes every object of a bucket whose key lies below `prefix` (without a slash at its end; empty
    /// for the whole bucket). This is written at once.
    pub fn forget(&self, bucket: &str, prefix: &str) {
        let start = if prefix.is_empty() {
            bucket.to_owned()
        } else {
            format!("{bucket}/{prefix}")
        };
        let forgotten = self.writer.with(|connection| {
            // All texts that begin with "start/": '0' is what comes after '/'.
            let below = "DELETE FROM s3checkV1 WHERE s3_key >= ?1 || '/' AND s3_key < ?1 || '0'";
            connection.execute(below, [&start]).map(drop)
        });
        self.ended(forgotten);
    }

    /// Deletes one object. This is written at once.
    pub fn forget_one(&self, key: &str) {
        let forgotten = self.writer.with(|connection| {
            let one = "DELETE FROM s3checkV1 WHERE s3_key = ?1";
            connection.execute(one, [key]).map(drop)
        });
        self.ended(forgotten);
    }

    fn ended(&self, forgetting: rusqlite::Result<()>) {
        if let Err(error) = forgetting {
            // Rows that could not be deleted must not be used.
            *self.reader.lock() = None;
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
            "cannot {doing} the cache of seen objects; continuing without it");
    }
}

impl Drop for S3CheckCache {
    fn drop(&mut self) {
        self.flush();
    }
}

fn find(
    connection: &mut Connection,
    keys: &[String],
    now: SystemTime,
) -> rusqlite::Result<Vec<bool>> {
    let now = unix_seconds(now);
    let is_valid = |seen: f64| {
        let age = now - seen;
        age < VALID.as_secs_f64() && age > -AHEAD.as_secs_f64()
    };
    // One transaction, so that all look-ups see one state of the file.
    let reading = connection.transaction()?;
    let mut row =
        reading.prepare_cached("SELECT last_seen_time FROM s3checkV1 WHERE s3_key = ?1")?;
    keys.iter()
        .map(|key| {
            let seen = row.query_row([key], |row| Ok(seconds(row.get_ref(0)?)));
            Ok(seen.optional()?.flatten().is_some_and(is_valid))
        })
        .collect()
}

/// The client writes a number as text, which the column makes a number again. Anything else is a miss.
fn seconds(value: ValueRef<'_>) -> Option<f64> {
    let seconds = match value {
        ValueRef::Real(seconds) => seconds,
        ValueRef::Integer(seconds) => seconds as f64,
        _ => return None,
    };
    seconds.is_finite().then_some(seconds)
}

fn unix_seconds(moment: SystemTime) -> f64 {
    match moment.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

fn write(connection: &Connection, rows: &[(String, f64)]) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO s3checkV1 VALUES (?1, ?2)")?;
    for (key, seen) in rows {
        put.execute(params![key, seen])?;
    }
    Ok(())
}
