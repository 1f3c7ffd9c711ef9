//! Rows wait until there are enough of them for one transaction.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};

/// Rows in a transaction: enough that the cost of the transaction does not matter, and few enough that
/// writing them takes a few milliseconds.
const BATCH: usize = 1024;

/// How many rows may wait while another thread writes, before the next thread waits for it.
const MOST_WAITING: usize = 16 * BATCH;

/// Takes rows from many threads. The one that makes a batch full writes it; the others go on.
pub(super) struct Writer<T> {
    /// The outer lock; `None` after a failure.
    connection: Mutex<Option<Connection>>,
    waiting: Mutex<Vec<T>>,
    is_closed: AtomicBool,
    write: fn(&Connection, &[T]) -> rusqlite::Result<()>,
}

impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("waiting", &self.waiting.lock().len())
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}

impl<T> Writer<T> {
    pub(super) fn new(
        connection: Connection,
        write: fn(&Connection, &[T]) -> rusqlite::Result<()>,
    ) -> Self {
        Self {
            connection: Mutex::new(Some(connection)),
            waiting: Mutex::new(Vec::new()),
            is_closed: AtomicBool::new(false),
            write,
        }
    }

    /// Adds rows. The first failure closes the writer: later rows are dropped.
    pub(super) fn add(&self, rows: impl IntoIterator<Item = T>) -> rusqlite::Result<()> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let waiting = {
            let mut waiting = self.waiting.lock();
            waiting.extend(rows);
            waiting.len()
        };
        if waiting < BATCH {
            return Ok(());
        }
        let connection = if waiting < MOST_WAITING {
            self.connection.try_lock()
        } else {
            Some(self.connection.lock())
        };
        match connection {
            Some(mut connection) => self.write_waiting(&mut connection),
            None => Ok(()),
        }
    }

    /// Writes the rows that wait.
    pub(super) fn flush(&self) -> rusqlite::Result<()> {
        self.write_waiting(&mut self.connection.lock())
    }

    /// Uses the connection, after writing all rows that were added before. Does nothing if the
    /// writer is closed.
    pub(super) fn with(
        &self,
        act: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let mut connection = self.connection.lock();
        self.write_waiting(&mut connection)?;
        let done = connection.as_ref().map_or(Ok(()), act);
        if done.is_err() {
            self.close_locked(&mut connection);
        }
        done
    }

    /// Closes the file.
    pub(super) fn close(&self) {
        self.close_locked(&mut self.connection.lock());
    }

    fn close_locked(&self, connection: &mut Option<Connection>) {
        self.is_closed.store(true, Ordering::Relaxed);
        *connection = None;
        self.waiting.lock().clear();
    }

    fn write_waiting(&self, connection: &mut Option<Connection>) -> rusqlite::Result<()> {
        let rows = mem::take(&mut *self.waiting.lock());
        let Some(open) = connection else {
            return Ok(());
        };
        let mut written = Ok(());
        for batch in rows.chunks(BATCH) {
            written = written.and_then(|()| {
                let transaction = open.transaction_with_behavior(TransactionBehavior::Immediate)?;
                (self.write)(&transaction, batch)?;
                transaction.commit()
            });
        }
        if written.is_err() {
            self.close_locked(connection);
        }
        written
    }
}
