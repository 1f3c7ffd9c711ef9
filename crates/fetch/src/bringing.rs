//! A range of an object on its way from the store: its bytes are handed on as they come, and what broke off is asked
//! for again from there.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use attachfs_manifest::ContentHash;
use attachfs_store::{StoreError, data_key};
use bytes::Bytes;
use futures::StreamExt as _;

use crate::FetchError;
use crate::budget::SharedPriority;
use crate::fetcher::Core;
use crate::patience::{Patience, TooLate};

/// How often in a row a body may break off that brought nothing.
const MOST_FAILURES: u32 = 3;
/// Before a body is asked for again; doubled with each failure in a row.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Bytes of an object that are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) hash: ContentHash,
    pub(crate) object_len: u64,
    pub(crate) range: Range<u64>,
}

/// Takes what comes.
pub(crate) trait Taker: Send {
    /// An answer begins, and comes from this version of the object. Whether to go on.
    fn begins(&mut self, version: Option<Arc<str>>) -> bool;
    /// The next bytes of the range.
    fn take(&mut self, bytes: Bytes);
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brought {
    All,
    /// The taker stopped it.
    Stopped,
}

/// Why an answer did not come to its end.
enum Broken {
    /// The body broke off.
    Body(StoreError),
    Failed(FetchError),
}

impl From<FetchError> for Broken {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

impl Core {
    /// How long a fetch is waited for that begins now.
    pub(crate) fn patience(&self) -> Patience<'_> {
        let options = &self.options;
        Patience::new(&self.pulse, options.deadline, options.least_rate)
    }

    /// Brings a range to `taker`, in its turn.
    pub(crate) async fn bring(
        &self,
        wanted: &Wanted,
        priority: &SharedPriority,
        patience: &mut Patience<'_>,
        taker: &mut impl Taker,
    ) -> Result<Brought, FetchError> {
        let Wanted { hash, range, .. } = wanted;
        let late = |_: TooLate| self.late(*hash);
        let mut at = range.start;
        let mut failures = 0;
        loop {
            let turn = patience.in_line(self.turns.take(priority)).await;
            let turn = turn.map_err(late)?;
            let before = at;
            let error = match self.answer(wanted, &mut at, patience, taker).await {
                Ok(brought) => return Ok(brought),
                Err(Broken::Failed(error)) => return Err(error),
                Err(Broken::Body(error)) => error,
            };
            drop(turn);
            failures = if at > before { 1 } else { failures + 1 };
            if failures > MOST_FAILURES || !error.is_transient() {
                return Err(self.store_failed(*hash, error));
            }
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

    /// Asks once for what has not come.
    async fn answer(
        &self,
        wanted: &Wanted,
        at: &mut u64,
        patience: &mut Patience<'_>,
        taker: &mut impl Taker,
    ) -> Result<Brought, Broken> {
        let Wanted {
            hash,
            object_len,
            ref range,
        } = *wanted;
        let late = |_: TooLate| self.late(hash);
        let stream = self.store.stream(hash, *at..range.end);
        let stream = patience.on_its_way(stream).await.map_err(late)?;
        let mut stream = stream.map_err(|error| self.store_failed(hash, error))?;
        self.outage.over();
        self.pulse.beat();
        if stream.object_len != object_len {
            let found = stream.object_len;
            return Err(self.wrong_length(hash, object_len, found).into());
        }
        if !taker.begins(stream.version) {
            return Ok(Brought::Stopped);
        }
        while *at < range.end {
            let next = patience.on_its_way(stream.pieces.next()).await;
            let Some(piece) = next.map_err(late)? else {
                return Err(self.wrong_length(hash, object_len, *at).into());
            };
            let mut piece = piece.map_err(Broken::Body)?;
            piece.truncate((range.end - *at) as usize);
            *at += piece.len() as u64;
            patience.moved(piece.len());
            self.link.came(piece.len());
            self.counts.bytes_from_store.add(piece.len() as u64);
            taker.take(piece);
        }
        Ok(Brought::All)
    }

    /// That it did not come in time.
    pub(crate) fn late(&self, hash: ContentHash) -> FetchError {
        let after = self.options.deadline;
        FetchError::TimedOut { hash, after }
    }
}
