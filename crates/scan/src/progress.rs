//! The one way in which long work tells how far it is, and is asked to stop.

use std::ops::ControlFlow;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reading directories.
    Scan,
    /// Reading and hashing files, uploading what the store lacks.
    Hash,
    /// Sending objects to a store.
    Upload,
}

/// How far the work is. Totals that are not known yet are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressEvent {
    /// What is being done.
    pub phase: Phase,
    /// Entries, files or objects finished in this phase.
    pub items_done: u64,
    /// How many there are.
    pub items_total: Option<u64>,
    /// Bytes finished in this phase.
    pub bytes_done: u64,
    /// How many there are.
    pub bytes_total: Option<u64>,
    /// What was finished last, as a person would call it; already escaped for a terminal.
    pub item: Option<String>,
}

/// Listens to long work. Called often (for each file, and a few times a second): be quick.
pub trait Progress: Send + Sync {
    /// Says how far the work is. `Break` cancels it.
    fn update(&self, event: &ProgressEvent) -> ControlFlow<()>;
}

/// Listens to nothing and never cancels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn update(&self, _: &ProgressEvent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
