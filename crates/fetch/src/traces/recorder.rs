//! The recording of a trace: reads are noted on the threads that serve them, and put together on another.
//!
//! A read costs the push onto a list. It never waits: if the list is full because the thread that puts reads together is
//! behind, the read is dropped and counted. That thread sleeps until the list is half full, or the recording ends.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use attachfs_manifest::Piece;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::format::Trace;
use super::runs::Runs;

/// How many reads wait to be put together, at most.
const CAPACITY: usize = 1 << 16;

/// Notes which bytes are read.
#[derive(Debug)]
pub struct Recorder {
    begun: Instant,
    queue: Mutex<Queue>,
    wake: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Queue {
    reads: Vec<(Piece, Duration)>,
    dropped: u64,
    end: Option<End>,
}

/// What becomes of a recording that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Written,
    GivenUp,
}

/// A recording that goes on. Dropping it gives it up: nothing is written.
#[derive(Debug)]
pub struct Recording {
    recorder: Arc<Recorder>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Recorder {
    fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            capacity,
        })
    }

    /// Begins a recording, with the thread that `write`s the trace at its end.
    pub fn start(
        write: impl FnOnce(&Trace) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Recording> {
        let recorder = Self::new(CAPACITY);
        let (tell, done) = oneshot::channel();
        let ours = Arc::clone(&recorder);
        thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || {
                if let Some(trace) = ours.put_together() {
                    // Nobody waits any more if that takes too long.
                    let _ = tell.send(write(&trace));
                }
            })?;
        Ok(Recording { recorder, done })
    }

    /// Notes a read. Never waits.
    pub(crate) fn note(&self, piece: &Piece) {
        let after = self.begun.elapsed();
        let mut queue = self.queue.lock();
        if queue.end.is_some() {
            return;
        }
        if queue.reads.len() >= self.capacity {
            queue.dropped += 1;
            return;
        }
        queue.reads.push((piece.clone(), after));
        if queue.reads.len() == self.capacity / 2 {
            drop(queue);
            self.wake.notify_one();
        }
    }

    /// Reads that were dropped so far.
    fn dropped(&self) -> u64 {
        self.queue.lock().dropped
    }

    /// The first end counts.
    fn end(&self, end: End) {
        self.queue.lock().end.get_or_insert(end);
        self.wake.notify_one();
    }

    /// Takes what is noted until the end. `None` if the recording is given up.
    fn put_together(&self) -> Option<Trace> {
        let mut runs = Runs::default();
        let mut reads = Vec::new();
        loop {
            let mut queue = self.queue.lock();
            while queue.reads.len() < self.capacity / 2 && queue.end.is_none() {
                self.wake.wait(&mut queue);
            }
            let end = queue.end;
            let dropped = queue.dropped;
            // Both lists keep their memory, so that a push does not take any.
            std::mem::swap(&mut queue.reads, &mut reads);
            drop(queue);
            if end == Some(End::GivenUp) {
                return None;
            }
            for (piece, after) in reads.drain(..) {
                runs.add(piece.hash, piece.range, after);
            }
            if end == Some(End::Written) {
                return Some(runs.into_trace(dropped));
            }
        }
    }
}

impl Recording {
    /// What notes the reads.
    pub fn recorder(&self) -> Arc<Recorder> {
        Arc::clone(&self.recorder)
    }

    /// Reads that were not recorded, since too many came at once.
    pub fn dropped(&self) -> u64 {
        self.recorder.dropped()
    }

    /// Ends it, and waits until the trace was written; fails with [`io::ErrorKind::TimedOut`] if that takes longer than
    /// `patience`. Needs a tokio runtime with time enabled, and none of its blocking threads.
    pub async fn end(mut self, patience: Duration) -> io::Result<()> {
        self.recorder.end(End::Written);
        match tokio::time::timeout(patience, &mut self.done).await {
            Ok(Ok(written)) => written,
            Err(_elapsed) => {
                let text = format!("it is not written after {} seconds", patience.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
            Ok(Err(_gone)) => Err(io::Error::other("the thread that writes it ended early")),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.recorder.end(End::GivenUp);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use attachfs_manifest::ContentHash;

    use super::*;

    fn piece(object: u8, range: std::ops::Range<u64>) -> Piece {
        Piece {
            hash: ContentHash::from_bytes([object; 16]),
            object_len: 1 << 30,
            range,
        }
    }

    #[tokio::test]
    async fn what_was_noted_is_given_to_be_written_when_the_recording_ends() {
        let (tell, told) = mpsc::channel();
        let recording =
            Recorder::start(move |trace| tell.send(trace.clone()).map_err(io::Error::other));
        let recording = recording.unwrap();
        let recorder = recording.recorder();
        // More than fits into the list at once, from several threads.
        let threads: Vec<_> = (0..4)
            .map(|object| {
                let recorder = Arc::clone(&recorder);
                thread::spawn(move || {
                    for at in 0..CAPACITY as u64 / 8 {
                        recorder.note(&piece(object, at * 10..at * 10 + 10));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        recording.end(Duration::from_mins(1)).await.unwrap();
        let trace = told.recv().unwrap();
        assert_eq!((trace.ranges.len(), trace.dropped), (4, 0));
        for of in &trace.ranges {
            assert_eq!(of.range, 0..CAPACITY as u64 / 8 * 10);
        }
        // Nothing is kept of what comes later.
        recorder.note(&piece(1, 0..1));
        assert!(recorder.queue.lock().reads.is_empty());
    }

    #[test]
    fn reads_that_come_while_the_list_is_full_are_dropped_and_counted() {
        // Nobody takes what is noted.
        let recorder = Recorder::new(4);
        for at in 0..10 {
            recorder.note(&piece(1, at * 10..at * 10 + 1));
        }
        assert_eq!(recorder.dropped(), 6);
        recorder.end(End::Written);
        let trace = recorder.put_together().unwrap();
        assert_eq!((trace.ranges.len(), trace.dropped), (4, 6));
    }

    #[test]
    fn a_recording_that_is_dropped_writes_nothing() {
        let (tell, told) = mpsc::channel::<()>();
        let recording = Recorder::start(move |_| tell.send(()).map_err(io::Error::other));
        let recording = recording.unwrap();
        recording.recorder().note(&piece(1, 0..10));
        drop(recording);
        // The thread has ended, and its end of the channel with it.
        told.recv().unwrap_err();
    }

    #[tokio::test]
    async fn the_end_is_not_waited_for_longer_than_it_may_take() {
        let (_go_on, wait) = mpsc::channel::<()>();
        let recording = Recorder::start(move |_| {
            // Until the test ends.
            let _ = wait.recv();
            Ok(())
        });
        let error = recording.unwrap().end(Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let broken = Recorder::start(|_| Err(io::ErrorKind::StorageFull.into()));
        let error = broken
            .unwrap()
            .end(Duration::from_mins(1))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
