//! What was sent before a commit: the hashes of files that have not changed since, for the commit, and numbers for people.
//!
//! Only memory has it. A commit takes nothing on trust but that a file with the same stamp has the same hashes, as it does of the
//! files of the commit before; each object it asks the store for. So a process that takes a session over loses some hashing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use attachfs_manifest::ContentHash;
use attachfs_transfer::UploadReport;
use attachfs_tree::Ino;
use attachfs_vfs::overlay::{CleanFile, ScratchStamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How long a commit waits for what is being hashed or sent to be given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was sent before a commit.
#[derive(Debug, Default)]
pub struct SentEarly {
    state: Mutex<State>,
    /// Whether nothing is to be hashed or sent now; for who hashes.
    halted: Arc<AtomicBool>,
    wanted: watch::Sender<Wanted>,
    /// Whether something is being hashed or sent.
    working: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<Ino, SentFile>,
    /// Files that were written to and are as the last commit has them: it published nothing of them, and recorded nothing.
    same: HashMap<Ino, CleanFile>,
    counts: EarlyCounts,
}

#[derive(Debug)]
struct SentFile {
    clean: CleanFile,
    bytes: u64,
    /// Whether it counts as sent and not committed: it is as it was sent as far as is known, and a commit would take it.
    counts: bool,
}

/// What is wanted of who sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wanted {
    /// So many commits want it to be quiet.
    pauses: usize,
    stopped: bool,
}

/// The numbers of what is sent before a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyCounts {
    /// Files that are not committed and whose bytes were sent as they are now. Of those that wait, none.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were sent.
    pub objects: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Files that wait until they have not changed for some time, or for the store.
    pub waiting: u64,
    /// Why the store does not take any now.
    pub trouble: Option<String>,
}

/// For a commit.
impl SentEarly {
    /// The files whose hashes are known although no commit recorded them, and the stamps that they had. Of two of one file the
    /// later is the newer.
    pub(crate) fn files(&self) -> Vec<CleanFile> {
        let state = self.state.lock();
        let sent = state.files.values().map(|file| &file.clean);
        state.same.values().chain(sent).cloned().collect()
    }

    /// Their objects.
    pub(crate) fn objects(&self) -> HashSet<ContentHash> {
        let state = self.state.lock();
        let files = state.files.values();
        files
            .flat_map(|file| file.clean.content.hashes().iter().copied())
            .collect()
    }

    /// A commit has these files now, and remembers them.
    pub(crate) fn committed(&self, files: impl IntoIterator<Item = Ino>) {
        let mut state = self.state.lock();
        for ino in files {
            state.forget(ino);
            state.same.remove(&ino);
        }
    }

    /// These files are as the last commit has them, so that it had nothing to publish of them.
    pub(crate) fn nothing_new(&self, files: Vec<CleanFile>) {
        let mut state = self.state.lock();
        for file in files {
            let sent = state.files.get(&file.ino);
            if sent.is_some_and(|sent| sent.clean.stamp != file.stamp) {
                state.forget(file.ino);
            }
            state.count(file.ino, false);
            state.same.insert(file.ino, file);
        }
    }

    /// Has nothing be hashed or sent until the guard is dropped. Waits for what is under way to be given up; what does not within
    /// some seconds, because a disk hangs, does no harm either.
    pub(crate) async fn pause(&self) -> Paused<'_> {
        self.want(|wanted| wanted.pauses += 1);
        let paused = Paused(self);
        self.rest().await;
        paused
    }
}

impl SentEarly {
    /// Lets it go on while a commit waits that had it pause.
    pub(crate) async fn meanwhile(&self, waiting: impl Future<Output = ()>) {
        struct Resumed<'a>(&'a SentEarly);
        impl Drop for Resumed<'_> {
            fn drop(&mut self) {
                self.0.want(|wanted| wanted.pauses += 1);
            }
        }
        if self.wanted.borrow().pauses == 0 {
            return waiting.await;
        }
        self.want(|wanted| wanted.pauses -= 1);
        let resumed = Resumed(self);
        waiting.await;
        drop(resumed);
        self.rest().await;
    }
}

/// As long as it exists, nothing is sent before the commit.
#[derive(Debug)]
pub(crate) struct Paused<'a>(&'a SentEarly);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.want(|wanted| wanted.pauses -= 1);
    }
}

/// For who sends.
impl SentEarly {
    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        self.wanted.send_modify(|wanted| {
            change(wanted);
            let is_halted = wanted.pauses > 0 || wanted.stopped;
            self.halted.store(is_halted, Ordering::Relaxed);
        });
    }

    /// Ends it for good.
    pub(crate) fn stop(&self) {
        self.want(|wanted| wanted.stopped = true);
    }

    /// Waits until nothing is hashed or sent any more, for some seconds at most. Whether that is so.
    pub(crate) async fn rest(&self) -> bool {
        let mut working = self.working.subscribe();
        let rested = working.wait_for(|is_working| !is_working);
        tokio::time::timeout(PATIENCE, rested).await.is_ok()
    }

    /// Is set while nothing is to be hashed or sent.
    pub(crate) fn halted(&self) -> &Arc<AtomicBool> {
        &self.halted
    }

    /// Whether nothing is to be hashed or sent now.
    pub(crate) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    /// Waits until nothing is to be hashed or sent.
    pub(crate) async fn until_halted(&self) {
        self.until(|wanted| wanted.pauses > 0 || wanted.stopped)
            .await;
    }

    /// Waits until something may be hashed and sent again. Whether it ever may.
    pub(crate) async fn until_wanted(&self) -> bool {
        self.until(|wanted| wanted.pauses == 0 || wanted.stopped)
            .await;
        !self.wanted.borrow().stopped
    }

    async fn until(&self, is_so: impl Fn(&Wanted) -> bool) {
        // The sender is this one's own.
        let _ = self.wanted.subscribe().wait_for(is_so).await;
    }

    /// Work has begun; it ends when the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Working {
        self.working.send_replace(true);
        Working(Arc::clone(self))
    }

    /// Whether a file was sent, whatever became of it since.
    pub(crate) fn knows(&self, ino: Ino) -> bool {
        self.state.lock().files.contains_key(&ino)
    }

    /// The files that were sent.
    pub(crate) fn known(&self) -> Vec<Ino> {
        self.state.lock().files.keys().copied().collect()
    }

    /// Whether the objects of a file with this stamp were sent, which a commit would take. Then it counts again.
    pub(crate) fn has(&self, ino: Ino, stamp: ScratchStamp) -> bool {
        let mut state = self.state.lock();
        let sent = state.files.get(&ino);
        let has = sent.is_some_and(|sent| sent.clean.stamp == stamp);
        if has {
            state.count(ino, true);
        }
        has
    }

    /// A file that was sent has changed in some way, or a commit would not take it any more: it does not count.
    pub(crate) fn doubt(&self, ino: Ino) {
        self.state.lock().count(ino, false);
    }

    /// A file was sent.
    pub(crate) fn add(&self, clean: CleanFile, bytes: u64, report: &UploadReport) {
        let mut state = self.state.lock();
        state.forget(clean.ino);
        state.counts.files += 1;
        state.counts.bytes += bytes;
        state.counts.objects += report.uploaded.count;
        state.counts.sent_bytes += report.uploaded.bytes;
        let counts = true;
        let sent = SentFile {
            clean,
            bytes,
            counts,
        };
        state.files.insert(sent.clean.ino, sent);
    }

    /// A file changed, or is gone.
    pub(crate) fn forget(&self, ino: Ino) {
        self.state.lock().forget(ino);
    }

    /// So many files wait.
    pub(crate) fn note_waiting(&self, waiting: usize) {
        self.state.lock().counts.waiting = waiting as u64;
    }

    /// The store takes nothing for this reason, or does again. Whether that is news.
    pub(crate) fn note_trouble(&self, trouble: Option<String>) -> bool {
        let counts = &mut self.state.lock().counts;
        let is_news = counts.trouble.is_some() != trouble.is_some();
        counts.trouble = trouble;
        is_news
    }

    /// The numbers.
    pub fn counts(&self) -> EarlyCounts {
        self.state.lock().counts.clone()
    }
}

impl State {
    fn forget(&mut self, ino: Ino) {
        self.count(ino, false);
        self.files.remove(&ino);
    }

    /// Whether a file that was sent counts.
    fn count(&mut self, ino: Ino, counts: bool) {
        let Some(file) = self.files.get_mut(&ino) else {
            return;
        };
        match (std::mem::replace(&mut file.counts, counts), counts) {
            (true, false) => {
                self.counts.files -= 1;
                self.counts.bytes -= file.bytes;
            }
            (false, true) => {
                self.counts.files += 1;
                self.counts.bytes += file.bytes;
            }
            _ => {}
        }
    }
}

/// As long as it exists, something may be hashed or sent.
#[derive(Debug)]
pub(crate) struct Working(Arc<SentEarly>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.send_replace(false);
    }
}
