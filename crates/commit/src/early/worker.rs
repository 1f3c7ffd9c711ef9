//! The thread that hashes, and the tasks that send.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_manifest::{ChunkSize, Content};
use attachfs_store::ChunkStore;
use attachfs_transfer::{
    ChunkSource, Silent, TransferError, UploadOptions, UploadReport, Uploader, error_chain,
    hash_file_until,
};
use attachfs_tree::{FileContent, Ino, Kind, Namespace};
use attachfs_vfs::overlay::{CleanFile, ScratchStamp};
use attachfs_vfs::{Frozen, NotQuiescent};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};

use super::options::EarlyOptions;
use super::sent::SentEarly;
use super::settling::Settling;
use super::trouble::Trouble;
use crate::hash::chunks;
use crate::history::last_clean;
use crate::open::OpenSession;
use crate::quiet::{quiesce, whole};
use crate::states::CommitStep;
use crate::tainted::taints;

/// Files that are sent at once.
const AT_ONCE: usize = 32;
/// Files that are looked at with one copy of the namespace.
const BATCH: usize = 256;
/// How often changes are taken up while files wait.
const LOOK: Duration = Duration::from_millis(500);
/// How often all files are looked at, at most.
const LOOK_AT_ALL: Duration = Duration::from_secs(10);
/// The rate lets one file rest no longer than this.
const LONGEST_REST: Duration = Duration::from_hours(24);
/// Longer files, in chunks, are left to the commit: the list of their hashes is long.
const MOST_CHUNKS: u64 = 1 << 20;
/// How long reads go first that wait for the store, for each file.
const AFTER_YOU: Duration = Duration::from_secs(1);
const AFTER_YOU_TICK: Duration = Duration::from_millis(50);
/// Few requests at once: others need the store and the processors more.
fn upload_options() -> UploadOptions {
    UploadOptions {
        max_in_flight: 8,
        max_in_flight_far: AT_ONCE,
        max_large_in_flight: 2,
        ..UploadOptions::default()
    }
}

/// Hashes the files of a session that have settled, and has them sent.
#[derive(Debug)]
pub(super) struct Worker {
    session: OpenSession,
    options: EarlyOptions,
    sent: Arc<SentEarly>,
    uploader: Uploader,
    /// Where tasks that send run.
    runtime: Handle,
    settling: Settling,
    /// The files that the last commit has, and the stamps that they had.
    committed: HashMap<Ino, ScratchStamp>,
    under_way: JoinSet<Ended>,
    /// The files that these send.
    sending: HashSet<Ino>,
    /// When the next file may be sent, by the rate.
    free_at: Instant,
    /// When all files are to be looked at.
    look_at_all_at: Option<Instant>,
    trouble: Trouble,
}

/// A file that is hashed.
#[derive(Debug)]
struct Hashed {
    clean: CleanFile,
    chunks: Vec<ChunkSource>,
    bytes: u64,
}

/// How the sending of a file ended.
#[derive(Debug)]
struct Ended {
    clean: CleanFile,
    bytes: u64,
    sent: Result<UploadReport, TransferError>,
}

impl Worker {
    pub(super) fn new(
        session: OpenSession,
        store: Arc<dyn ChunkStore>,
        options: EarlyOptions,
        runtime: Handle,
    ) -> Self {
        let now = Instant::now();
        // A store that cannot be slowed gets whole files at the rate, on average.
        let slowed = options.max_rate.and_then(|rate| store.slowed(rate));
        let store = slowed.unwrap_or(store);
        Self {
            sent: Arc::clone(session.early()),
            session,
            uploader: Uploader::new(store, upload_options()),
            runtime,
            settling: Settling::new(options.quiet),
            options,
            committed: HashMap::new(),
            under_way: JoinSet::new(),
            sending: HashSet::new(),
            free_at: now,
            // What an earlier process of the session wrote is sent, too.
            look_at_all_at: Some(now),
            trouble: Trouble::default(),
        }
    }

    /// Works until it is stopped, with pauses for commits.
    pub(super) async fn run(mut self) {
        let sent = Arc::clone(&self.sent);
        while sent.until_wanted().await {
            let _working = sent.begin();
            let goes_on = self.work().await;
            // What is being sent is sent by the commit, or later.
            self.under_way.shutdown().await;
            let now = Instant::now();
            for ino in self.sending.drain() {
                self.settling.wait_until(ino, now);
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Works until it is to pause, and says whether it is to go on after that.
    async fn work(&mut self) -> bool {
        self.committed = last_clean(&self.session.vfs().commits());
        while !self.sent.is_halted() {
            self.take_changes();
            if !self.is_in_trouble() {
                let due = self.settling.take_due(Instant::now(), BATCH);
                if !due.is_empty() {
                    if self.is_tainted() {
                        return false;
                    }
                    let (chunk_size, files) = self.taken(due);
                    for ino in files {
                        self.send(ino, chunk_size).await;
                    }
                }
            }
            // One that changed while it is sent waits once.
            let sending = self.sending.iter();
            let only_sent = sending.filter(|&&ino| !self.settling.has(ino)).count();
            self.sent.note_waiting(self.settling.len() + only_sent);
            self.wait().await;
        }
        true
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self) {
        let sent = Arc::clone(&self.sent);
        let waits = self.settling.len() > 0 || self.look_at_all_at.is_some();
        let next = self.settling.next_due();
        let next = next.map_or(LOOK, |due| due.saturating_duration_since(Instant::now()));
        // Nothing is due before the store is tried again.
        let next = if self.is_in_trouble() { LOOK } else { next };
        tokio::select! {
            () = sent.until_halted() => {}
            Some(ended) = self.under_way.join_next() => self.ended(ended),
            () = tokio::time::sleep(next.min(LOOK)), if waits => {}
            () = self.session.vfs().some_changes(), if !waits => {}
        }
    }

    /// Takes up what changed.
    fn take_changes(&mut self) {
        let vfs = Arc::clone(self.session.vfs());
        let changes = vfs.take_changes();
        let now = Instant::now();
        let looks_at_all = self.look_at_all_at.is_some_and(|at| at <= now);
        if changes.is_empty() && !looks_at_all {
            return;
        }
        let Some(frozen) = vfs.glance() else { return };
        let namespace = frozen.namespace();
        let mut has_moved = false;
        for (ino, at) in changes {
            self.sent.doubt(ino);
            match namespace.kind(ino) {
                None => {
                    self.settling.gone(ino);
                    self.sent.forget(ino);
                }
                // What is in it has other paths.
                Some(Kind::Dir) => {
                    self.look_at_all_at.get_or_insert(now + LOOK_AT_ALL);
                    has_moved = true;
                }
                Some(_) if self.is_output(namespace, ino) => self.settling.changed(ino, at),
                Some(_) => self.settling.gone(ino),
            }
        }
        if has_moved {
            for ino in self.sent.known() {
                if !self.is_output(namespace, ino) {
                    self.sent.doubt(ino);
                } else if !self.settling.has(ino) {
                    // It may be back.
                    self.settling.changed(ino, now);
                }
            }
        }
        if looks_at_all {
            self.look_at_all_at = None;
            let touched = namespace.touched().map(|(ino, _)| ino);
            for ino in touched
                .filter(|&ino| self.is_output(namespace, ino))
                .collect::<Vec<_>>()
            {
                // Of a change of what was sent it is heard.
                let is_known = self.sent.knows(ino) || self.committed.contains_key(&ino);
                if !is_known && !self.settling.has(ino) && !self.sending.contains(&ino) {
                    self.settling.changed(ino, now);
                }
            }
        }
    }

    /// Those of some files that a commit would take now, and into chunks of which size. Of the others it is heard when that changes,
    /// but for those that an earlier process left open: of them a commit asks.
    fn taken(&self, due: Vec<Ino>) -> (ChunkSize, Vec<Ino>) {
        let Some(frozen) = self.session.vfs().glance() else {
            return (ChunkSize::WholeFile, Vec::new());
        };
        let is_taken = |ino: &Ino| self.is_taken(&frozen, *ino);
        let files = due.into_iter().filter(is_taken).collect();
        (frozen.namespace().base().chunk_size(), files)
    }

    fn is_taken(&self, frozen: &Frozen, ino: Ino) -> bool {
        self.is_output(frozen.namespace(), ino)
            && !frozen.writers().contains(&ino)
            && !frozen.left_open().contains(&ino)
    }

    /// Whether all bytes of a file are in its scratch file, and a commit takes it by its path.
    fn is_output(&self, namespace: &Namespace, ino: Ino) -> bool {
        let mut paths = namespace.paths(ino);
        is_all_scratch(namespace, ino)
            && paths.any(|path| self.options.commit.takes(path.as_bytes()))
    }

    /// Whether programs were given wrong bytes: then a commit stops, and nothing that they make of them is sent.
    fn is_tainted(&self) -> bool {
        match taints(&self.session) {
            Ok(taints) if taints.is_empty() => false,
            Ok(_) => {
                tracing::info!(
                    "no more outputs are sent before the commit: programs were given wrong bytes of inputs"
                );
                true
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "no more outputs are sent before the commit");
                true
            }
        }
    }

    /// Hashes a file, and has it sent.
    async fn send(&mut self, ino: Ino, chunk_size: ChunkSize) {
        self.take_place().await;
        if self.sent.is_halted() || self.is_in_trouble() {
            self.settling.wait_until(ino, Instant::now());
            return;
        }
        let Some(hashed) = self.hash(ino, chunk_size).await else {
            return;
        };
        self.step(CommitStep::EarlyHashed);
        if self.options.max_rate.is_some() {
            self.keep_rate(hashed.bytes).await;
        }
        let Hashed {
            clean,
            chunks,
            bytes,
        } = hashed;
        let uploader = self.uploader.clone();
        let sending = async move {
            let sent = uploader.upload_missing(chunks, &Silent).await;
            Ended { clean, bytes, sent }
        };
        self.under_way.spawn_on(sending, &self.runtime);
        self.sending.insert(ino);
    }

    /// Waits until one more file may be on its way, and for reads that wait for the store, for a moment.
    async fn take_place(&mut self) {
        let sent = Arc::clone(&self.sent);
        while self.under_way.len() >= AT_ONCE && !sent.is_halted() {
            tokio::select! {
                () = sent.until_halted() => {}
                Some(ended) = self.under_way.join_next() => self.ended(ended),
            }
        }
        while let Some(ended) = self.under_way.try_join_next() {
            self.ended(ended);
        }
        let since = Instant::now();
        let fetcher = self.session.vfs().fetcher();
        while fetcher.under_way().waiting > 0 && since.elapsed() < AFTER_YOU && !sent.is_halted() {
            tokio::time::sleep(AFTER_YOU_TICK).await;
        }
    }

    /// Waits until the rate lets so many bytes go.
    async fn keep_rate(&mut self, bytes: u64) {
        let Some(rate) = self.options.max_rate else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep_until(self.free_at.into()) => {}
            // Then it is given up at once.
            () = self.sent.until_halted() => {}
        }
        let takes = Duration::from_secs(bytes / rate.get())
            + Duration::from_secs_f64((bytes % rate.get()) as f64 / rate.get() as f64);
        let free_at = self.free_at.max(Instant::now());
        self.free_at = free_at
            .checked_add(takes.min(LONGEST_REST))
            .unwrap_or(free_at);
    }

    /// Hashes a file if nobody writes to it and it was not sent as it is.
    async fn hash(&mut self, ino: Ino, chunk_size: ChunkSize) -> Option<Hashed> {
        let vfs = Arc::clone(self.session.vfs());
        let quiescent = match quiesce(&vfs, ino).await {
            Ok(quiescent) => quiescent,
            // It is heard of when it is closed.
            Err(NotQuiescent::Open) => return None,
            Err(NotQuiescent::Elsewhere) => {
                self.settling.found_open(ino, Instant::now());
                return None;
            }
            Err(NotQuiescent::Failed(error)) => {
                left_to_commit(ino, &error);
                return None;
            }
        };
        let stamp = quiescent.stamp().into();
        if self.sent.has(ino, stamp) || self.committed.get(&ino) == Some(&stamp) {
            return None;
        }
        let source = whole(&quiescent);
        if chunk_size.ranges(source.size).len() as u64 > MOST_CHUNKS {
            return None;
        }
        let content = hash_file_until(Arc::clone(self.sent.halted()), &source, chunk_size);
        let is_still = quiescent.still();
        drop(quiescent);
        let content: Content = match (content, is_still) {
            (Ok(content), Ok(true)) => content,
            (Err(TransferError::Cancelled(_)), _) => {
                self.settling.wait_until(ino, Instant::now());
                return None;
            }
            (Ok(_), Ok(false)) | (Err(TransferError::Changed { .. }), _) => {
                self.settling.changed(ino, Instant::now());
                return None;
            }
            (Err(error), _) => {
                left_to_commit(ino, &error);
                return None;
            }
            (_, Err(error)) => {
                left_to_commit(ino, &error);
                return None;
            }
        };
        Some(Hashed {
            chunks: chunks(&content, chunk_size, &source),
            bytes: source.size,
            clean: CleanFile {
                ino,
                stamp,
                changed: None,
                content,
            },
        })
    }

    /// A file was sent, or not.
    fn ended(&mut self, ended: Result<Ended, JoinError>) {
        let Ended { clean, bytes, sent } = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // The runtime ends, or the task panicked: the file is left to the commit.
                tracing::debug!(%error, "an output was not sent before the commit");
                if self.under_way.is_empty() {
                    self.sending.clear();
                }
                return;
            }
        };
        let ino = clean.ino;
        self.sending.remove(&ino);
        match sent {
            Ok(report) => {
                self.trouble.is_over();
                if self.sent.note_trouble(None) {
                    tracing::info!("outputs are sent before the commit again");
                }
                self.settling.sent(ino);
                if self.session.vfs().has_content(ino, &FileContent::Scratch) {
                    self.sent.add(clean, bytes, &report);
                }
                self.step(CommitStep::EarlySent);
            }
            Err(TransferError::Changed { .. }) => self.settling.changed(ino, Instant::now()),
            Err(TransferError::Cancelled(_)) => {}
            Err(error @ (TransferError::Store { .. } | TransferError::Ask { .. })) => {
                self.note_trouble(&error);
                // It may be this file alone that the store does not take.
                self.settling.found_open(ino, Instant::now());
            }
            Err(error) => left_to_commit(ino, &error),
        }
    }

    /// The store failed: it is left alone for some time.
    fn note_trouble(&mut self, error: &TransferError) {
        self.trouble.failed(Instant::now());
        let error = error_chain(error);
        if self.sent.note_trouble(Some(error.clone())) {
            tracing::warn!(
                error,
                "outputs cannot be sent before the commit; it is tried again, and the commit sends what is missing"
            );
        }
    }

    fn is_in_trouble(&self) -> bool {
        self.trouble.is_on(Instant::now())
    }

    fn step(&self, step: CommitStep) {
        if let Some(observe) = self.options.step {
            observe(step);
        }
    }
}

/// Whether all bytes of a file are in its scratch file.
fn is_all_scratch(namespace: &Namespace, ino: Ino) -> bool {
    namespace.kind(ino) == Some(Kind::File) && namespace.content(ino) == Some(&FileContent::Scratch)
}

/// A file cannot be hashed: the commit says why, if it still cannot be then.
fn left_to_commit(ino: Ino, error: &dyn std::error::Error) {
    tracing::debug!(%ino, error = error_chain(error), "an output is left to the commit");
}
