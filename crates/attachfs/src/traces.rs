//! Traces of mounts: what was read is recorded to files, and what earlier runs read is fetched ahead.
//!
//! ```text
//!     --record-trace FILE, --trace-dir DIR     reads --> attachfs_fetch::Recorder --> at the unmount, the files
//!     --prefetch-trace FILE, --trace-dir DIR   files --> attachfs_fetch::Plan --> prefetching.rs
//! ```
//!
//! A trace is written when the mount has ended, to a file with a name of its own, which then takes the place of the one that
//! was there: nobody sees half of one, and a mount that is killed leaves the one before. A trace that another mount has written there
//! meanwhile stays: two mounts that name one file keep the trace of the one that ends first, and the other says so.

mod dir;
mod reading;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attachfs_durable::{Facts, FileStamp, Kind};
use attachfs_fetch::{Fetcher, Prefetch, Recorder, Recording, Trace, looks_like_trace};
use attachfs_session::SessionMeta;
use tokio::task::JoinHandle;

use self::dir::{TraceDir, key_of};
pub use self::reading::ReadTraceError;
use self::reading::read_file;
use crate::error::{Doing as _, Error};
use crate::output_file::{OutputFile, check_is_elsewhere};
use crate::prefetching::Prefetching;

/// What is recorded of a mount, and fetched ahead because of earlier recordings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceOptions {
    /// The file that gets the trace of this mount.
    pub record: Option<PathBuf>,
    /// Traces of earlier mounts. What they name is fetched ahead.
    pub prefetch: Vec<PathBuf>,
    /// A directory that keeps traces by what is mounted: those that are there are fetched ahead, and the trace of this mount is
    /// added.
    pub dir: Option<PathBuf>,
    /// Fetch at most so many bytes ahead of all reads; as many as the cache has room for if `None`.
    pub most_bytes: Option<u64>,
    /// Fetch ahead for at most so long. `None`: an hour, or until all is there with [`Prefetch::All`].
    pub most_time: Option<Duration>,
}

impl TraceOptions {
    /// Whether every read has to be seen: such a mount lets the kernel read no file past it.
    pub fn records(&self) -> bool {
        self.record.is_some() || self.dir.is_some()
    }
}

/// How long ranges of traces are fetched ahead unless `--prefetch-time` says otherwise. A job that has not read a range by then may
/// never read it.
const USUAL_TIME: Duration = Duration::from_hours(1);
/// How long the end of a mount waits for its trace to be written.
const PATIENCE: Duration = Duration::from_secs(10);

/// Files with traces that a person asked for by name.
const OUTPUT: OutputFile = OutputFile {
    what: "trace",
    instead: "name a file",
    is_one: is_trace,
};

/// Whether a file begins as a trace does.
fn is_trace(path: &Path, _len: u64) -> io::Result<bool> {
    let mut beginning = Vec::new();
    File::open(path)?.take(64).read_to_end(&mut beginning)?;
    Ok(looks_like_trace(&beginning))
}

/// What traces are to do for a mount that is about to be made.
#[derive(Debug)]
pub(crate) struct OpenedTraces {
    options: TraceOptions,
    /// What earlier mounts read.
    earlier: Vec<Trace>,
    dir: Option<TraceDir>,
    /// What was in the place of the new trace before the mount.
    before: Option<FileStamp>,
}

/// A trace is to be written to this file, where this was before.
#[derive(Debug)]
struct Target {
    path: PathBuf,
    before: Option<FileStamp>,
}

impl Target {
    /// Fails if another trace has come there since, which nobody has named to be replaced.
    fn write(&self, text: &str) -> Result<(), Error> {
        let is_other = |now: FileStamp| {
            self.before
                .is_none_or(|before| is_written_since(before, now))
        };
        if stamp(&self.path).is_some_and(is_other) {
            let sentence = format!(
                "{} was written since the mount was made, probably by another mount that records to it",
                self.path.display()
            );
            return Err(Error::usage(sentence)
                .advise("let each mount record to a file of its own, or to --trace-dir"));
        }
        OUTPUT.write(&self.path, text.as_bytes())
    }
}

/// New permissions alone are no new trace.
fn is_written_since(before: FileStamp, now: FileStamp) -> bool {
    let of = |stamp: FileStamp| (stamp.dev, stamp.ino, stamp.size, stamp.mtime_ns);
    of(before) != of(now)
}

/// By what a file that takes the place of another is told from it. A device such as `/dev/null` keeps nothing to lose.
fn stamp(path: &Path) -> Option<FileStamp> {
    let facts = Facts::at(path).ok()?;
    (facts.kind == Kind::File).then_some(facts.stamp)
}

impl OpenedTraces {
    /// Reads the traces that were named, and looks whether the new one can be written, which is not in the mount itself nor in
    /// the directory of its session.
    pub(crate) fn open(
        options: TraceOptions,
        mount_point: &Path,
        session: &Path,
    ) -> Result<Self, Error> {
        if let Some(path) = &options.dir {
            check_is_elsewhere("trace directory", path, mount_point, session)?;
        }
        if let Some(path) = &options.record {
            check_is_elsewhere("trace", path, mount_point, session)?;
            OUTPUT.check_place(path)?;
        }
        let before = options.record.as_deref().and_then(stamp);
        let earlier = options.prefetch.iter().map(|path| read_file(path));
        Ok(Self {
            earlier: earlier.collect::<Result<_, _>>()?,
            options,
            dir: None,
            before,
        })
    }

    /// Fails if one of these files, which are written at the end of the mount too, is that of the trace.
    pub(crate) fn check_others(&self, files: &[PathBuf]) -> Result<(), Error> {
        let record = self.options.record.as_ref();
        match record.filter(|record| files.contains(record)) {
            None => Ok(()),
            Some(file) => {
                let file = file.display();
                let sentence = format!("{file} is to be both the trace and a report");
                Err(Error::usage(sentence).advise("name two files"))
            }
        }
    }

    /// Reads the traces that the directory has of mounts like this one.
    pub(crate) fn look_in_dir(&mut self, meta: &SessionMeta) -> Result<(), Error> {
        if let Some(path) = &self.options.dir {
            let dir = TraceDir::open(path, key_of(meta), &meta.id)?;
            self.earlier.extend(dir.traces()?);
            self.dir = Some(dir);
        }
        Ok(())
    }

    /// Begins to record, if that was asked for. Nothing is written before [`MountTraces::end`].
    pub(crate) fn begin(&mut self, fetcher: &Fetcher) -> Result<MountTraces, Error> {
        let recording = if self.options.records() {
            let before = self.before.take();
            let file = self.options.record.clone();
            let file = file.map(|path| Target { path, before });
            let dir = self.dir.take();
            let write = move |trace: &Trace| write_all(trace, file.as_ref(), dir.as_ref());
            let recording = Recorder::start(write)
                .doing(|| "cannot start the thread that records a trace".to_owned())?;
            fetcher.record(recording.recorder());
            Some(recording)
        } else {
            None
        };
        Ok(MountTraces(Mutex::new(Running {
            recording,
            file: self.options.record.clone(),
            prefetching: None,
        })))
    }

    /// What is to be fetched ahead of all reads, if anything is.
    pub(crate) fn prefetching(self, prefetch: Prefetch) -> Option<Prefetching> {
        let all = prefetch == Prefetch::All;
        (all || !self.earlier.is_empty()).then(|| Prefetching {
            traces: self.earlier,
            all,
            most_bytes: self.options.most_bytes,
            most_time: self.options.most_time.or((!all).then_some(USUAL_TIME)),
        })
    }
}

/// Writes a trace wherever it is to be. Both are tried.
fn write_all(trace: &Trace, file: Option<&Target>, dir: Option<&TraceDir>) -> io::Result<()> {
    let text = trace.encode();
    let to_file = file.map_or(Ok(()), |file| file.write(&text));
    // A run that read nothing would take the place of one that did.
    let dir = dir.filter(|_| !trace.ranges.is_empty());
    let to_dir = dir.map_or(Ok(()), |dir| dir.add(&text));
    to_file.and(to_dir).map_err(io::Error::other)
}

/// What goes on beside a mount because of traces.
#[derive(Debug)]
pub(crate) struct MountTraces(Mutex<Running>);

#[derive(Debug)]
struct Running {
    recording: Option<Recording>,
    /// Where the recording goes, if a person named a file.
    file: Option<PathBuf>,
    prefetching: Option<JoinHandle<()>>,
}

impl MountTraces {
    /// Nothing panics while this is held.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what fetches ahead, to be ended with the mount.
    pub(crate) fn prefetching(&self, task: JoinHandle<()>) {
        self.running().prefetching = Some(task);
    }

    /// Reads that were not recorded because too many came at once; `None` if nothing is recorded.
    pub(crate) fn dropped(&self) -> Option<u64> {
        self.running().recording.as_ref().map(Recording::dropped)
    }

    /// Ends all of it, because the mount has ended: writes the trace, and logs what was fetched ahead. Gives the reason why the
    /// trace could not be written, which is logged, too; the mount has ended well all the same.
    pub(crate) async fn end(&self, fetcher: &Fetcher) -> Option<String> {
        let (recording, prefetching) = {
            let mut running = self.running();
            (running.recording.take(), running.prefetching.take())
        };
        if let Some(task) = prefetching {
            task.abort();
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(%error, "fetching ahead ended early");
            }
            let counters = fetcher.counters();
            let (fetched, read) = (counters.bytes_ahead, counters.bytes_ahead_read);
            let never_read = fetched - read;
            tracing::info!(
                fetched,
                read,
                never_read,
                "bytes were fetched ahead of all reads"
            );
        }
        let recording = recording?;
        let dropped = recording.dropped();
        if dropped > 0 {
            tracing::warn!(dropped, "reads came too fast to be recorded in the trace");
        }
        match recording.end(PATIENCE).await {
            Ok(()) => None,
            Err(error) => {
                let error = attachfs_transfer::error_chain(&error);
                tracing::error!(error, "the trace of the mount is not written");
                Some(error)
            }
        }
    }

    /// The file that was named for the trace. It has it once [`end`](Self::end) has given no reason.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.running().file.clone()
    }

    /// Gives all of it up: nothing is written.
    pub(crate) fn give_up(&self) {
        let mut running = self.running();
        running.recording = None;
        if let Some(task) = running.prefetching.take() {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use attachfs_fetch::FetchOptions;

    use super::*;

    #[test]
    fn a_trace_is_written_while_a_disk_holds_all_threads_that_may_block() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("t");
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().max_blocking_threads(1).build();
        let runtime = runtime.unwrap();
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        // Until the test ends.
        runtime.spawn_blocking(move || wait.recv());
        let written = runtime.block_on(async {
            let store = attachfs_store::MemoryStore::new();
            let fetcher = Fetcher::new(std::sync::Arc::new(store), None, FetchOptions::default());
            let options = TraceOptions {
                record: Some(path.clone()),
                ..TraceOptions::default()
            };
            let session = temp.path().join("session");
            let traces = OpenedTraces::open(options, &temp.path().join("mnt"), &session);
            let traces = traces.unwrap().begin(&fetcher).unwrap();
            tokio::time::timeout(2 * PATIENCE, traces.end(&fetcher)).await
        });
        drop(go_on);
        assert_eq!(written.unwrap(), None);
        assert_eq!(read_file(&path).unwrap(), Trace::default());
    }

    #[test]
    fn one_file_cannot_be_both_trace_and_report() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let options = TraceOptions {
            record: Some(at("x.json")),
            ..TraceOptions::default()
        };
        let traces = OpenedTraces::open(options, &at("mnt"), &at("session")).unwrap();
        traces.check_others(&[at("y.json")]).unwrap();
        let error = traces.check_others(&[at("y.json"), at("x.json")]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("both the trace and a report"), "{error}");
    }

    #[test]
    fn a_trace_is_not_written_into_the_mount_or_its_session() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = temp.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let (mount_point, session) = (at("mnt"), at("session"));
        for place in [
            at("mnt"),
            at("mnt/deep"),
            at("session"),
            at("session/traces"),
        ] {
            let to_file = TraceOptions {
                record: Some(place.join("t")),
                ..TraceOptions::default()
            };
            let to_dir = TraceOptions {
                dir: Some(place),
                ..TraceOptions::default()
            };
            for options in [to_file, to_dir] {
                let error = OpenedTraces::open(options, &mount_point, &session).unwrap_err();
                assert!(error.to_string().contains("the mount's own"), "{error}");
            }
        }
        let elsewhere = TraceOptions {
            record: Some(temp.path().join("t")),
            dir: Some(at("mnt2")),
            ..TraceOptions::default()
        };
        OpenedTraces::open(elsewhere, &mount_point, &session).unwrap();
    }

    #[test]
    fn the_trace_of_a_mount_takes_the_place_of_another_trace_and_of_no_other_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("t");
        let empty = Trace::default();
        let write = || write_all(&empty, Some(&target(&path)), None);
        write().unwrap();
        write().unwrap();
        assert_eq!(read_file(&path).unwrap(), empty);
        std::fs::write(&path, "mine").unwrap();
        write().unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    /// As a mount that begins now has it.
    fn target(path: &Path) -> Target {
        Target {
            path: path.to_owned(),
            before: stamp(path),
        }
    }

    #[test]
    fn of_two_mounts_that_record_to_one_file_the_first_that_ends_has_it_and_the_other_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("t");
        for _ in ["nothing is there", "a trace is there"] {
            let (one, other) = (target(&path), target(&path));
            write_all(&Trace::default(), Some(&one), None).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let trace = Trace {
                ranges: Vec::new(),
                dropped: 7,
            };
            let error = write_all(&trace, Some(&other), None).unwrap_err();
            assert!(error.to_string().contains("by another mount"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}
