//! [`Joiner`]: which files are joined next, when, and what is left to be removed afterwards.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_durable::ObjectWriter;

use super::joining::{Joining, Leftover, Stepped, Wanted};
use super::open_cache::OpenCache;

/// How long it leaves the disk alone after each step while somebody reads of the cache or something is written to it: so it goes on
/// with a few MiB in that time.
const ASIDE: Duration = Duration::from_millis(250);
/// So many files wait at most. What is left out is wanted again at its next open.
const MOST_WAITING: usize = 16;
/// How often it looks whether such a chunk can lose its file.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// So many chunks are remembered at most that have a file of their own still. The others go as what was not used for long.
const MOST_LEFTOVERS: usize = 4096;

/// Joins files one after the other, in steps between which its thread does other things.
pub(super) struct Joiner {
    waiting: VecDeque<Wanted>,
    now: Option<Joining>,
    leftovers: Vec<Leftover>,
    /// When they were looked at.
    looked: Instant,
    writer: Option<ObjectWriter>,
}

impl Joiner {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            now: None,
            leftovers: Vec::new(),
            looked: Instant::now(),
            writer: None,
        }
    }

    pub(super) fn add(&mut self, cache: &OpenCache, wanted: Wanted) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(wanted);
        } else {
            cache.end_joining(wanted.list.name());
        }
    }

    pub(super) fn has_work(&self) -> bool {
        self.now.is_some() || !self.waiting.is_empty()
    }

    /// How long the thread waits for other duties before the next step; `None` if no step is left.
    pub(super) fn waits(&self, cache: &OpenCache) -> Option<Duration> {
        let pause = || {
            if cache.is_busy() {
                ASIDE
            } else {
                Duration::ZERO
            }
        };
        self.has_work().then(pause)
    }

    /// Takes a step. Gives the shelves on which something changed.
    pub(super) fn step(&mut self, cache: &Arc<OpenCache>) -> Vec<u8> {
        let writer = self.writer.get_or_insert_with(|| cache.objects.writer());
        let Some(joining) = self.now.take() else {
            if let Some(wanted) = self.waiting.pop_front() {
                let name = wanted.list.name();
                self.now = Joining::begin(cache, writer, wanted);
                if self.now.is_none() {
                    cache.end_joining(name);
                }
            }
            return Vec::new();
        };
        let (name, shelves) = (joining.name(), joining.shelves());
        let (rest, stepped) = joining.step(cache, writer);
        self.now = rest;
        match stepped {
            Stepped::More => Vec::new(),
            Stepped::Ended => {
                cache.end_joining(name);
                Vec::new()
            }
            Stepped::Joined(leftovers) => {
                self.leftovers.extend(leftovers);
                self.leftovers.truncate(MOST_LEFTOVERS);
                cache.end_joining(name);
                shelves
            }
        }
    }

    /// Removes what nobody has open any more. Gives the shelves on which something changed.
    pub(super) fn drop_leftovers(&mut self, cache: &OpenCache) -> Vec<u8> {
        if self.leftovers.is_empty() || self.looked.elapsed() < LOOK_AGAIN {
            return Vec::new();
        }
        self.looked = Instant::now();
        let mut changed = Vec::new();
        self.leftovers.retain(|leftover| {
            let stays = leftover.is_in_use(cache);
            if !stays {
                changed.push(leftover.shelf());
            }
            stays
        });
        changed
    }
}
