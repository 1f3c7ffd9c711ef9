//! Counts what is done on many threads, for one listener; tells those threads to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use attachfs_scan::{Phase, ProgressEvent};
use parking_lot::Mutex;

use crate::TransferError;

/// Shared by everything that works on one call. The numbers are for a person to look at, so no order
/// among them is kept.
#[derive(Debug)]
pub(crate) struct Meter {
    phase: Phase,
    items: AtomicU64,
    items_total: u64,
    bytes: AtomicU64,
    bytes_total: u64,
    last: Mutex<Option<String>>,
    stopped: AtomicBool,
}

impl Meter {
    pub(crate) fn new(phase: Phase, items_total: u64, bytes_total: u64) -> Arc<Self> {
        Arc::new(Self {
            phase,
            items: AtomicU64::new(0),
            items_total,
            bytes: AtomicU64::new(0),
            bytes_total,
            last: Mutex::new(None),
            stopped: AtomicBool::new(false),
        })
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn finished(&self, item: String) {
        self.items.fetch_add(1, Ordering::Relaxed);
        *self.last.lock() = Some(item);
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// For work that blocks a thread, between two steps of it.
    pub(crate) fn go_on(&self) -> Result<(), TransferError> {
        if self.stopped.load(Ordering::Relaxed) {
            Err(TransferError::Cancelled)
        } else {
            Ok(())
        }
    }

    pub(crate) fn event(&self) -> ProgressEvent {
        ProgressEvent {
            phase: self.phase,
            items_done: self.items.load(Ordering::Relaxed),
            items_total: Some(self.items_total),
            bytes_done: self.bytes.load(Ordering::Relaxed),
            bytes_total: Some(self.bytes_total),
            item: self.last.lock().clone(),
        }
    }
}
