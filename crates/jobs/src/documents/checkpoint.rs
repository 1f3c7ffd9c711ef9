//! What AWS's client has fetched of a queue: the file in which `deadline queue sync-output` notes it.
//!
//! ```text
//!     {"localStorageProfileId":…,"downloadsStartedTimestamp":…,"downloadsCompletedTimestamp":…,"eventualConsistencyMaxSeconds":120,
//!      "jobs":[{"job":{"jobId":…},"sessionEndedTimestamp":…,"sessionCompletedIndexes":{"session-…":3}}]}
//! ```
//! Source: `incremental_download_state.py` of `deadline` 0.60.10. A session's actions are numbered, and have its digits.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::fields::{DocumentError, Field};
use super::service::{id, if_there};
use super::syntax::{self, Syntax};
use crate::{ActionTime, JobId, OutputKey, SessionId, StorageProfileId};

/// A checkpoint of AWS's client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCheckpoint {
    /// The storage profile of the machine; `None` if profiles were ignored.
    pub local_profile: Option<StorageProfileId>,
    /// Up to when all outputs were fetched, by the client's clock.
    pub completed: SystemTime,
    /// How much earlier something may have been written that was seen later.
    pub overlap: Duration,
    /// The jobs that it names. It forgets jobs that have ended.
    pub jobs: BTreeMap<JobId, ClientJob>,
}

/// What AWS's client has fetched of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientJob {
    /// Sessions that ended until then were fetched; none yet, if it is not said.
    pub ended: Option<SystemTime>,
    /// The number of the last action that was fetched, of sessions that had not ended.
    pub completed: BTreeMap<SessionId, u64>,
}

impl ClientCheckpoint {
    /// Reads the file.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        let document = "the checkpoint of AWS's client";
        syntax::read(document, Syntax::Json, bytes, |checkpoint| {
            let profile = if_there(
                checkpoint,
                "localStorageProfileId",
                "the id of a storage profile",
            );
            let seconds = checkpoint.get("eventualConsistencyMaxSeconds")?;
            let number = seconds.value("a number of seconds")?.as_u64();
            let jobs = checkpoint.get("jobs")?.list()?;
            Ok(Self {
                local_profile: profile?,
                completed: time(&checkpoint.get("downloadsCompletedTimestamp")?)?,
                overlap: Duration::from_secs(
                    number.ok_or_else(|| seconds.wrong("a number of seconds"))?,
                ),
                jobs: jobs.iter().map(job).collect::<Result<_, _>>()?,
            })
        })
    }

    /// Whether the client has fetched an output, as far as its file tells. Of jobs that it does not name it has fetched what was there when it
    /// ran last, or they had ended before it ran first; jobs that failed it does not name either.
    pub fn has(&self, key: &OutputKey, modified: Option<SystemTime>) -> bool {
        let written = modified.unwrap_or_else(|| key.time.system_time());
        let Some(job) = self.jobs.get(&key.place.job) else {
            let until = self.completed.checked_sub(self.overlap);
            return until.is_some_and(|until| written < until);
        };
        match job.completed.get(&key.action.session()) {
            Some(&last) => key.action.number() <= last,
            None => job.ended.is_some_and(|ended| written <= ended),
        }
    }
}

fn job(entry: &Field<'_>) -> Result<(JobId, ClientJob), DocumentError> {
    let ended = entry.get("sessionEndedTimestamp")?.if_there();
    let mut job = ClientJob {
        ended: ended.as_ref().map(time).transpose()?,
        completed: BTreeMap::new(),
    };
    if let Some(indexes) = entry.get("sessionCompletedIndexes")?.if_there() {
        for (name, index) in indexes.fields()? {
            let session = name.parse();
            let session =
                session.map_err(|_| index.wrong("in a field that is the id of a session"))?;
            let number = index.value("a number")?.as_u64();
            let number = number.ok_or_else(|| index.wrong("a number"))?;
            job.completed.insert(session, number);
        }
    }
    Ok((id(&entry.get("job")?, "jobId", "the id of a job")?, job))
}

/// A time as Python's `isoformat` writes it, with its distance to UTC.
fn time(field: &Field<'_>) -> Result<SystemTime, DocumentError> {
    let time: jiff::Timestamp = field.parse("a time with its distance to UTC")?;
    let time = ActionTime::from_micros(time.as_microsecond());
    let time = time.ok_or_else(|| field.wrong("a time with its distance to UTC"))?;
    Ok(time.system_time())
}
