//! What has been fetched of a queue, in one file.
//!
//! ```text
//!     done       by job: the hashes of the keys of manifests whose files are all placed, on the disk
//!     waiting    manifests that failed, with how often, and those whose root is unmapped, with the rules that said so
//!     jobs       what was said of jobs: names and storage profiles
//!     gone       keys that the store lists no more, since when: forgotten after a while, in case a listing was behind
//! ```
//!
//! The file is replaced as a whole, durably, so there is always a complete one; it says of a manifest that it is done only after its
//! files are. What it holds is bounded by what the store holds: about 40 bytes a manifest. One process at a time has it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use attachfs_durable::{FileLock, create_private_dir};
use attachfs_jobs::{FarmId, Job, JobId, QueueId, StorageProfileId};
use attachfs_manifest::ContentHash;
use attachfs_mount::Process;
use attachfs_session::FailureClass;
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error};

/// How long another run is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// So long a listing may be behind, and clocks may differ.
pub(crate) const OVERLAP: Duration = Duration::from_mins(2);

/// How often a manifest is tried.
pub(crate) const MOST_TRIES: u32 = 5;

/// Writing takes this part of the time at most, beside the first and the last write.
const RARELY: u32 = 20;

/// A longer file is no checkpoint: this length would be that of 100 million manifests.
const LONGEST: u64 = 4 << 30;

const FORMAT: u32 = 1;

/// Whose checkpoint it is. The file says it, so that one is never used for another store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) store: String,
    pub(crate) farm: FarmId,
    pub(crate) queue: QueueId,
}

/// What was said of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownJob {
    pub(crate) name: Option<String>,
    pub(crate) profile: Option<StorageProfileId>,
}

/// A manifest that is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) key: String,
    pub(crate) job: JobId,
    #[serde(flatten)]
    pub(crate) why: Why,
}

/// Why a manifest is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub(crate) enum Why {
    /// It could not be read, or a file of it not be placed.
    Failed { tries: u32, error: String },
    /// Files of it have no place here.
    Unmapped {
        root: String,
        location: Option<String>,
        /// What the rules made of the root: as long as they make the same of it, it is not read again.
        rules: String,
        files: u64,
        bytes: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    format: u32,
    #[serde(flatten)]
    owner: Owner,
    /// What was written earlier is left; microseconds since 1970.
    since: Option<i64>,
    jobs: BTreeMap<JobId, KnownJob>,
    done: BTreeMap<JobId, Vec<String>>,
    waiting: BTreeMap<String, Waiting>,
    /// Seconds since 1970.
    gone: BTreeMap<String, u64>,
}

/// The state of a queue, held for one run.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
    /// `None` for a run that changes nothing.
    lock: Option<FileLock>,
    owner: Owner,
    /// Whether there was no file, or it was to be begun anew.
    pub(crate) is_new: bool,
    pub(crate) since: Option<SystemTime>,
    jobs: BTreeMap<JobId, KnownJob>,
    done: HashMap<ContentHash, JobId>,
    waiting: HashMap<ContentHash, Waiting>,
    gone: HashMap<ContentHash, u64>,
    is_changed: bool,
    written: Instant,
    took: Duration,
}

impl Checkpoint {
    /// Takes the lock, which another run may have for a while, and reads the file. `anew` forgets what is in it. Without `may_write` nothing is made,
    /// locked or changed.
    pub(crate) async fn open(
        dir: &Path,
        name: &str,
        owner: Owner,
        anew: bool,
        may_write: bool,
    ) -> Result<Self, Error> {
        let path = dir.join(format!("{name}.json"));
        let mut lock = None;
        if may_write {
            create_private_dir(dir)?;
            lock = Some(locked(&dir.join(format!("{name}.lock"))).await?);
        }
        let found = if anew { None } else { read(&path, &owner)? };
        let is_new = found.is_none();
        let mut opened = Self {
            path,
            lock,
            owner,
            is_new,
            since: None,
            jobs: BTreeMap::new(),
            done: HashMap::new(),
            waiting: HashMap::new(),
            gone: HashMap::new(),
            is_changed: is_new,
            written: Instant::now(),
            took: Duration::ZERO,
        };
        if let Some(found) = found {
            opened.take(found)?;
        }
        Ok(opened)
    }

    fn take(&mut self, found: Written) -> Result<(), Error> {
        let wrong = || damaged(&self.path);
        let hash = |text: &String| {
            let parsed = text.parse::<ContentHash>();
            parsed.map_err(|error| wrong().because(error))
        };
        self.since = match found.since {
            None => None,
            Some(micros) => {
                let time = attachfs_jobs::ActionTime::from_micros(micros).ok_or_else(wrong)?;
                Some(time.system_time())
            }
        };
        for (job, keys) in &found.done {
            for key in keys {
                self.done.insert(hash(key)?, *job);
            }
        }
        for (key, waiting) in found.waiting {
            self.waiting.insert(hash(&key)?, waiting);
        }
        for (key, since) in &found.gone {
            self.gone.insert(hash(key)?, *since);
        }
        self.jobs = found.jobs;
        Ok(())
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a manifest is done.
    pub(crate) fn is_done(&self, key: &ContentHash) -> bool {
        self.done.contains_key(key)
    }

    /// What is known of a manifest that is not done.
    pub(crate) fn waiting(&self, key: &ContentHash) -> Option<&Waiting> {
        self.waiting.get(key)
    }

    /// What was said of a job, now or in an earlier run.
    pub(crate) fn job(&self, job: &JobId) -> Option<&KnownJob> {
        self.jobs.get(job)
    }

    /// Notes what a document says of a job.
    pub(crate) fn note_job(&mut self, job: &Job) {
        let known = KnownJob {
            name: job.name.clone(),
            profile: job.storage_profile,
        };
        if self.jobs.get(&job.job) != Some(&known) {
            self.jobs.insert(job.job, known);
            self.is_changed = true;
        }
    }

    /// A manifest is done: its files are placed, and on the disk.
    pub(crate) fn set_done(&mut self, key: ContentHash, job: JobId) {
        self.waiting.remove(&key);
        self.done.insert(key, job);
        self.is_changed = true;
    }

    /// A manifest is not done.
    pub(crate) fn set_waiting(&mut self, key: ContentHash, waiting: Waiting) {
        if self.waiting.get(&key) != Some(&waiting) {
            self.waiting.insert(key, waiting);
            self.is_changed = true;
        }
    }

    /// How often a manifest has failed.
    pub(crate) fn tries(&self, key: &ContentHash) -> u32 {
        match self.waiting.get(key).map(|waiting| &waiting.why) {
            Some(Why::Failed { tries, .. }) => *tries,
            _ => 0,
        }
    }

    /// Forgets manifests of these jobs that the store has not listed for [`OVERLAP`], and jobs of which nothing is left. `listed` is everything of these jobs
    /// that the store has now.
    pub(crate) fn forget(
        &mut self,
        listed: &HashSet<ContentHash>,
        is_meant: impl Fn(&JobId) -> bool,
        now: SystemTime,
    ) {
        let now = seconds(now);
        let known = self.done.iter().map(|(key, job)| (*key, *job));
        let known = known.chain(self.waiting.iter().map(|(key, of)| (*key, of.job)));
        let unlisted: Vec<ContentHash> = known
            .filter(|(key, job)| is_meant(job) && !listed.contains(key))
            .map(|(key, _)| key)
            .collect();
        let gone = std::mem::take(&mut self.gone);
        for (key, since) in gone {
            if listed.contains(&key) {
                self.is_changed = true;
            } else {
                self.gone.insert(key, since);
            }
        }
        for key in unlisted {
            let since = *self.gone.entry(key).or_insert(now);
            self.is_changed |= since == now;
            if since + OVERLAP.as_secs() < now {
                self.gone.remove(&key);
                self.done.remove(&key);
                self.waiting.remove(&key);
                self.is_changed = true;
            }
        }
    }

    /// Writes the file if something changed and it was not written just now.
    pub(crate) fn write_at_times(&mut self) -> Result<(), Error> {
        if self.written.elapsed() < self.took * RARELY {
            return Ok(());
        }
        self.write()
    }

    /// Writes the file if something changed. Blocks until it is on the disk.
    pub(crate) fn write(&mut self) -> Result<(), Error> {
        if !self.is_changed || self.lock.is_none() {
            return Ok(());
        }
        let began = Instant::now();
        let mut done: BTreeMap<JobId, Vec<String>> = BTreeMap::new();
        for (key, job) in &self.done {
            done.entry(*job).or_default().push(key.to_string());
        }
        let waiting = self.waiting.iter();
        let gone = self.gone.iter();
        let written = Written {
            format: FORMAT,
            owner: self.owner.clone(),
            since: self.since.map(micros),
            jobs: self.jobs.clone(),
            done,
            waiting: waiting
                .map(|(key, of)| (key.to_string(), of.clone()))
                .collect(),
            gone: gone.map(|(key, since)| (key.to_string(), *since)).collect(),
        };
        let doing = || format!("cannot note what was fetched in {}", self.path.display());
        let bytes = serde_json::to_vec(&written).doing(doing)?;
        attachfs_durable::publish(&self.path, |file| file.write_all(&bytes)).doing(doing)?;
        self.is_changed = false;
        self.written = Instant::now();
        self.took = began.elapsed();
        Ok(())
    }
}

/// The lock, for which another run is waited for a while.
async fn locked(path: &Path) -> Result<FileLock, Error> {
    let began = Instant::now();
    loop {
        if let Some(lock) = FileLock::try_exclusive(path)? {
            return Ok(lock);
        }
        if began.elapsed() >= PATIENCE {
            let who = Process::that_locks(path);
            let who = who.map_or_else(|| "another process".to_owned(), |who| who.to_string());
            return Err(Error::new(
                FailureClass::Busy,
                format!("the checkpoint of {} is used by {who}", path.display()),
            )
            .advise("the same command goes on when that has ended"));
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

fn damaged(path: &Path) -> Error {
    let sentence = format!("{} is not a checkpoint of this program", path.display());
    Error::new(FailureClass::Integrity, sentence).advise(
        "--force-bootstrap begins anew: what is in place already is compared and not fetched again",
    )
}

fn read(path: &Path, owner: &Owner) -> Result<Option<Written>, Error> {
    let doing = || format!("cannot read the checkpoint {}", path.display());
    let file = match attachfs_durable::open_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.doing(doing)?,
    };
    let mut bytes = Vec::new();
    let read = file.take(LONGEST + 1).read_to_end(&mut bytes);
    if read.doing(doing)? as u64 > LONGEST {
        return Err(damaged(path));
    }
    let found: Written =
        serde_json::from_slice(&bytes).map_err(|error| damaged(path).because(error))?;
    if found.format != FORMAT {
        return Err(damaged(path));
    }
    if found.owner != *owner {
        let Owner { store, queue, .. } = &found.owner;
        return Err(Error::usage(format!(
            "the checkpoint {} is of {queue} in {store}",
            path.display()
        ))
        .advise("--checkpoint-dir names another directory, --force-bootstrap begins anew"));
    }
    Ok(Some(found))
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn micros(time: SystemTime) -> i64 {
    let micros = |distance: Duration| i64::try_from(distance.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => -micros(before.duration()),
    }
}
