//! Traces of mounts: what was read is recorded to files, and what earlier runs read is fetched ahead.
//!
//! ```text
//!     --record-trace FILE, --trace-dir DIR     reads --> attachfs_fetch::Recorder --> at the unmount, the files
//!     --prefetch-trace FILE, --trace-dir DIR   files --> attachfs_fetch::Plan --> prefetching.rs
//! ```
//!
//! A trace is written when the mount has ended, to a file with a name of its own, which then takes the place of the one that
//! was there: nobody sees half of one, and a mount that is killed leaves the one before.

mod dir;
mod reading;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
        let earlier = options.prefetch.iter().map(|path| read_file(path));
        Ok(Self {
            earlier: earlier.collect::<Result<_, _>>()?,
            options,
            dir: None,
        })
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
            let (file, dir) = (self.options.record.clone(), self.dir.take());
            let write = move |trace: &Trace| write_all(trace, file.as_deref(), dir.as_ref());
            let recording = Recorder::start(write)
                .doing(|| "cannot start the thread that records a trace".to_owned())?;
            fetcher.record(recording.recorder());
            Some(recording)
        } else {
            None
        };
        Ok(MountTraces(Mutex::new(Running {
            recording,
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
fn write_all(trace: &Trace, file: Option<&Path>, dir: Option<&TraceDir>) -> io::Result<()> {
    let text = trace.encode();
    let to_file = file.map_or(Ok(()), |path| OUTPUT.write(path, text.as_bytes()));
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
        write_all(&empty, Some(&path), None).unwrap();
        write_all(&empty, Some(&path), None).unwrap();
        assert_eq!(read_file(&path).unwrap(), empty);
        std::fs::write(&path, "mine").unwrap();
        write_all(&empty, Some(&path), None).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
