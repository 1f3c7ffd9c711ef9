//! Counts what is done on many threads, for one listener; tells those threads to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use attachfs_scan::{Cancelled, Phase, ProgressEvent};
use parking_lot::Mutex;

use crate::error::TransferError;

/// Shared by everything that works on one call. The numbers are for a person to look at, so no order
/// among them is kept.
#[derive(Debug)]
pub(crate) struct Meter {
    phase: Phase,
    began: Instant,
    items: AtomicU64,
    items_skipped: AtomicU64,
    items_total: u64,
    bytes: AtomicU64,
    bytes_skipped: AtomicU64,
    bytes_total: u64,
    last: Mutex<Option<String>>,
    /// Set when the work is to stop, by the progress or by another thread that shares this flag.
    stopped: Arc<AtomicBool>,
}

impl Meter {
    pub(crate) fn new(phase: Phase, items_total: u64, bytes_total: u64) -> Arc<Self> {
        Self::stopped_by(Arc::default(), phase, items_total, bytes_total)
    }

    /// As [`new`](Self::new), for work that ends when `stopped` is set.
    pub(crate) fn stopped_by(
        stopped: Arc<AtomicBool>,
        phase: Phase,
        items_total: u64,
        bytes_total: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            phase,
            began: Instant::now(),
            items: AtomicU64::new(0),
            items_skipped: AtomicU64::new(0),
            items_total,
            bytes: AtomicU64::new(0),
            bytes_skipped: AtomicU64::new(0),
            bytes_total,
            last: Mutex::new(None),
            stopped,
        })
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of an item that there was nothing to do for.
    pub(crate) fn skip_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes_skipped.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that were added, and were no good.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that were skipped, and were no good.
    pub(crate) fn take_back_skipped(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes_skipped.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn finished(&self, item: impl FnOnce() -> String) {
        self.items.fetch_add(1, Ordering::Relaxed);
        // Somebody who is just setting it has as good a name.
        if let Some(mut last) = self.last.try_lock() {
            *last = Some(item());
        }
    }

    /// An item of `bytes` is finished. There was something to do for `counted` of them only, which are
    /// counted already.
    pub(crate) fn known(&self, bytes: u64, counted: u64) {
        self.skip_bytes(bytes.saturating_sub(counted));
        self.items.fetch_add(1, Ordering::Relaxed);
        if counted == 0 {
            self.items_skipped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// For work that blocks a thread, between two steps of it.
    pub(crate) fn go_on(&self) -> Result<(), TransferError> {
        if self.stopped.load(Ordering::Relaxed) {
            Err(self.cancelled().into())
        } else {
            Ok(())
        }
    }

    /// The end before the end.
    pub(crate) fn cancelled(&self) -> Cancelled {
        Cancelled::after(self.event())
    }

    /// The same work, begun anew.
    pub(crate) fn anew(&self) -> Arc<Self> {
        Self::new(self.phase, self.items_total, self.bytes_total)
    }

    /// When the work began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn items_done(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }

    pub(crate) fn event(&self) -> ProgressEvent {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ProgressEvent {
            items_done: now(&self.items),
            items_skipped: now(&self.items_skipped),
            items_total: Some(self.items_total),
            bytes_done: now(&self.bytes),
            bytes_skipped: now(&self.bytes_skipped),
            bytes_total: Some(self.bytes_total),
            item: self.last.lock().clone(),
            ..ProgressEvent::of(self.phase)
        }
    }
}
