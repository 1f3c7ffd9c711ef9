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
use std::time::Duration;

use attachfs_manifest::ContentHash;
use attachfs_store::{StoreError, data_key};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::FetchError;
use crate::budget::SharedPriority;
use crate::fetcher::Engine;
use crate::patience::{Patience, TooLate};

/// How often in a row a body may break off without having brought a byte.
const MOST_FAILURES: u32 = 3;
/// Between two looks whether a sink has caught up.
const CATCH_UP: Duration = Duration::from_millis(1);
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
    /// Whether what it does with the bytes falls behind. Then it gets the next ones later: after as long as the ones so far took
    /// to come at most.
    fn is_behind(&self) -> bool {
        false
    }
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
        // How much longer the bytes took to come than their sink was waited for.
        let mut spare = Duration::ZERO;
        while *at < range.end {
            let asked = Instant::now();
            let next = patience.on_its_way(stream.pieces.next()).await;
            spare += asked.elapsed();
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
            while spare > CATCH_UP && sink.is_behind() {
                let begun = Instant::now();
                patience.aside(tokio::time::sleep(CATCH_UP)).await;
                spare = spare.saturating_sub(begun.elapsed());
            }
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

#[cfg(test)]
mod tests {
    use attachfs_store::fault::{Fault, FaultStore, Rule};
    use attachfs_store::{CallKind, MemoryStore};

    use super::*;
    use crate::{FetchOptions, Fetcher, Priority};

    struct Behind {
        is_behind: bool,
        taken: usize,
    }

    impl RangeSink for Behind {
        fn begins(&mut self, _version: Option<Arc<str>>) -> bool {
            true
        }

        fn take(&mut self, bytes: Bytes) {
            self.taken += bytes.len();
        }

        fn is_behind(&self) -> bool {
            self.is_behind
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_falls_behind_is_waited_for_as_long_as_its_bytes_took_to_come() {
        const PIECES: u32 = 4;
        let memory = Arc::new(MemoryStore::new());
        let hash = memory.insert(vec![7; PIECES as usize * 100]);
        let faults = Arc::new(FaultStore::new(memory as _));
        let every = Duration::from_secs(1);
        let trickle = Fault::Trickle { piece: 100, every };
        faults.add(Rule::on(CallKind::Get, trickle));
        let fetcher = Fetcher::new(faults as _, None, FetchOptions::default());
        let engine = fetcher.engine();
        let wanted = ObjectRange {
            hash,
            object_len: u64::from(PIECES) * 100,
            range: 0..u64::from(PIECES) * 100,
        };
        for is_behind in [false, true] {
            let mut sink = Behind {
                is_behind,
                taken: 0,
            };
            let begun = Instant::now();
            let priority = SharedPriority::new(Priority::Read);
            let mut patience = engine.patience();
            let end = engine.fetch_range(&wanted, &priority, &mut patience, &mut sink);
            assert_eq!(end.await.unwrap(), RangeEnd::Complete);
            assert_eq!(sink.taken, PIECES as usize * 100);
            let alone = every * PIECES;
            let expected = if is_behind { alone * 2 } else { alone };
            let took = begun.elapsed();
            // The first piece may come at once, and the last wait ends before all of its time is over.
            assert!(took <= expected, "{took:?}");
            assert!(took + every * 3 / 2 > expected, "{took:?}");
        }
    }
}
