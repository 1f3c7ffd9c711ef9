//! Listings against plain models, over a store that has keys and a clock that tests turn.

mod choosing;
mod known;
mod ranges;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use attachfs_store::{Folder, ListStore, Listed, Page, StoreError};

/// Digits of an id that begins with one number and ends with zeros.
fn digits(number: u64) -> String {
    format!("{:032x}", u128::from(number) << 64)
}

fn farm() -> String {
    format!("farm-{}", digits(1))
}

fn queue() -> String {
    format!("Manifests/{}/queue-{}", farm(), digits(2))
}

/// A root's hash and the end of an output's key.
fn output(root: u64) -> String {
    format!("{root:032x}_output")
}

/// A time in seconds as a folder of a session action has it, in 2023.
fn began(seconds: u64) -> String {
    let time = crate::ActionTime::from_micros((1_700_000_000 + seconds as i64) * 1_000_000);
    time.unwrap().to_string()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

/// A store of keys alone, which gives pages of some length after some time.
#[derive(Debug, Default)]
struct Keys {
    all: BTreeMap<String, (u64, Option<SystemTime>)>,
    page: usize,
    takes: Duration,
    requests: AtomicUsize,
    /// The next request fails.
    fails: AtomicBool,
}

impl Keys {
    fn of(page: usize) -> Self {
        Self {
            page,
            ..Self::default()
        }
    }

    fn put(&mut self, key: impl Into<String>, modified: Option<SystemTime>) {
        let key = key.into();
        let len = key.len() as u64;
        self.all.insert(key, (len, modified));
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl ListStore for Keys {
    async fn list(&self, folder: &Folder, after: Option<&str>) -> Result<Page, StoreError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.takes).await;
        if self.fails.swap(false, Ordering::Relaxed) {
            return Err(StoreError::Unreachable {
                what: "a test".to_owned(),
                source: "it fails once".into(),
            });
        }
        let start = folder.key_start();
        let after = after.unwrap_or_default();
        let from = std::cmp::max(after, start.as_str()).to_owned();
        let found = self.all.range(from..);
        let found = found.filter(|(key, _)| key.as_str() > after);
        let mut entries: Vec<_> = found
            .take_while(|(key, _)| key.starts_with(&start))
            .take(self.page + 1)
            .map(|(key, &(len, modified))| Listed::new(key.clone(), len, modified))
            .collect();
        let is_last = entries.len() <= self.page;
        entries.truncate(self.page);
        let next = entries.last().filter(|_| !is_last);
        Ok(Page {
            next: next.map(|last| last.key.clone()),
            entries,
        })
    }
}
