//! What the keys in a store tell of jobs, without reading a manifest.
//!
//! | question | type |
//! |---|---|
//! | which outputs of a job, step, task or session action are used | [`Outputs`] |
//! | which farms, queues, jobs and steps there are, how many tasks, from when to when | [`KnownJobs`] |
//! | which folders a folder has (queues, jobs, steps, tasks) | [`Folders`] |
//!
//! Each is asked for what is next, in the order of keys, and lists as far as that needs; long listings are listed in several
//! ranges at once. Memory is bounded. A folder that is not there is empty.

mod cuts;
mod folders;
mod known;
mod outputs;
mod ranges;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use attachfs_store::Folder;

pub use folders::Folders;
pub use known::{Known, KnownInputs, KnownJob, KnownJobs, KnownScope, KnownStep, Span};
pub use outputs::{
    Chosen, FoundOutputs, LatestBy, LatestDiffers, ListedOutput, Outputs, Which, choose,
};

/// What comes behind everything in a folder of manifests, in the order of keys: `0` follows `/`. It is the key of no manifest.
fn behind(folder: &Folder) -> String {
    let start = folder.key_start();
    format!("{}0", start.strip_suffix('/').unwrap_or(&start))
}

/// Keys in a folder of jobs that are not those of a job's manifests. Nothing is read of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignKeys {
    /// How many there are.
    pub count: u64,
    /// The first of them in the order of keys, ten at most, each with what is wrong.
    pub first: BTreeMap<String, String>,
}

impl ForeignKeys {
    const MOST: usize = 10;

    fn add(&mut self, key: String, why: String) {
        self.count += 1;
        self.first.insert(key, why);
        if self.first.len() > Self::MOST {
            self.first.pop_last();
        }
    }
}
