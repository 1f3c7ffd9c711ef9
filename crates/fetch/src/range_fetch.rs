//! [`Engine::fetch_range`]: one range of an object from the store. Its bytes are handed on as they come; where a body breaks
//! off, the rest is asked for again.
//!
//! ```text
//!     a turn of the store's requests  ->  stream(hash, rest of the range)  ->  RangeSink::begins, take, take, ..
//!         ^                                          |
//!         '------ after a pause, from where it ------'  the body broke off
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_manifest::ContentHash;
use attachfs_store::{StoreError, data_key};
use bytes::Bytes;
use futures::StreamExt as _;

use crate::FetchError;
use crate::budget::SharedPriority;
use crate::fetcher::Engine;
use crate::patience::{Patience, TooLate};

/// How often in a row a body may break off without having brought a byte.
const MOST_FAILURES: u32 = 3;
/// The pause before a body is asked for again; doubled with each failure in a row.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A range of an object.
#[derive(Debug, Clone)]
pub(crate) struct ObjectRange {
    pub(crate) hash: ContentHash,
    pub(crate) object_len: u64,
    pub(crate) range: Range<u64>,
}

/// Receives the bytes of a range, in order.
pub(crate) trait RangeSink: Send {
    /// The store begins to answer, with this version of the object: at first, and again whenever the rest is asked for.
    /// `false` stops the fetch.
    fn begins(&mut self, version: Option<Arc<str>>) -> bool;
    /// The next bytes of the range.
    fn take(&mut self, bytes: Bytes);
}

/// How the fetch of a range ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeEnd {
    /// The sink has all bytes.
    Complete,
    /// The sink stopped the fetch.
    Stopped,
}

/// Why one answer of the store did not come to its end.
enum AnswerError {
    /// The body broke off.
    Body(StoreError),
    /// The range cannot be fetched.
    Failed(FetchError),
}

impl From<FetchError> for AnswerError {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

impl Engine {
    /// Fetches a range into `sink`, when requests of this priority have their turn. Fails if the store refuses, gives an
    /// object of another length, or moves fewer bytes than `patience` allows.
    pub(crate) async fn fetch_range(
        &self,
        wanted: &ObjectRange,
        priority: &SharedPriority,
        patience: &mut Patience<'_>,
        sink: &mut impl RangeSink,
    ) -> Result<RangeEnd, FetchError> {
        let ObjectRange { hash, range, .. } = wanted;
        let late = |_: TooLate| self.timed_out(*hash);
        let mut at = range.start;
        let mut failures = 0;
        loop {
            let turn = patience.in_line(self.turns.take(priority)).await;
            let turn = turn.map_err(late)?;
            let before = at;
            let error = match self.answer(wanted, &mut at, patience, sink).await {
                Ok(end) => return Ok(end),
                Err(AnswerError::Failed(error)) => return Err(error),
                Err(AnswerError::Body(error)) => error,
            };
            drop(turn);
            failures = if at > before { 1 } else { failures + 1 };
            if failures > MOST_FAILURES || !error.is_transient() {
                return Err(self.store_failed(*hash, error));
            }
            self.counts.broken_off.add(1);
            tracing::debug!(
                key = %data_key(*hash),
                at,
                error = &error as &dyn std::error::Error,
                "a body broke off; the rest is asked for"
            );
            let wait = FIRST_WAIT * 2_u32.pow(failures - 1);
            patience
                .on_its_way(tokio::time::sleep(wait))
                .await
                .map_err(late)?;
        }
    }

    /// Asks the store once for the range from `at` on, and moves `at` with the bytes that come.
    async fn answer(
        &self,
        wanted: &ObjectRange,
        at: &mut u64,
        patience: &mut Patience<'_>,
        sink: &mut impl RangeSink,
    ) -> Result<RangeEnd, AnswerError> {
        let ObjectRange {
            hash,
            object_len,
            ref range,
        } = *wanted;
        let late = |_: TooLate| self.timed_out(hash);
        let asked = Instant::now();
        let stream = self.store.stream(hash, *at..range.end);
        let stream = patience.on_its_way(stream).await.map_err(late)?;
        self.counts.first_byte.add(asked.elapsed());
        let mut stream = stream.map_err(|error| self.store_failed(hash, error))?;
        self.outage.over();
        self.pulse.beat();
        if stream.object_len != object_len {
            let found = stream.object_len;
            return Err(self.wrong_length(hash, object_len, found).into());
        }
        if !sink.begins(stream.version) {
            return Ok(RangeEnd::Stopped);
        }
        while *at < range.end {
            let next = patience.on_its_way(stream.pieces.next()).await;
            let Some(piece) = next.map_err(late)? else {
                return Err(self.wrong_length(hash, object_len, *at).into());
            };
            let mut piece = piece.map_err(AnswerError::Body)?;
            piece.truncate((range.end - *at) as usize);
            *at += piece.len() as u64;
            patience.moved(piece.len());
            self.link.came(piece.len());
            self.counts.bytes_from_store.add(piece.len() as u64);
            sink.take(piece);
        }
        Ok(RangeEnd::Complete)
    }

    /// How long a fetch that begins now may take: see `patience.rs`.
    pub(crate) fn patience(&self) -> Patience<'_> {
        let options = &self.options;
        Patience::new(&self.pulse, options.deadline, options.least_rate)
    }

    /// The error of a fetch whose bytes did not come in time.
    pub(crate) fn timed_out(&self, hash: ContentHash) -> FetchError {
        let after = self.options.deadline;
        FetchError::TimedOut { hash, after }
    }
}
