//! What is found out is written down while the work goes on, so that whoever is killed loses the
//! findings of a second and not of the whole run.

use std::sync::Arc;
use std::time::Duration;

use attachfs_scan::cache::HashCaches;
use tokio::task::JoinHandle;

use crate::upload::SeenObjects;

/// How long what is found out may wait.
const EVERY: Duration = Duration::from_secs(1);

/// Writes down what caches were told, now and then, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Flushing(JoinHandle<()>);

impl Flushing {
    pub(crate) fn of(caches: Option<Arc<HashCaches>>, seen: Option<Arc<SeenObjects>>) -> Self {
        Self(tokio::spawn(async move {
            let mut next = tokio::time::interval(EVERY);
            loop {
                next.tick().await;
                let (caches, seen) = (caches.clone(), seen.clone());
                let flush = move || {
                    if let Some(caches) = caches {
                        caches.flush();
                    }
                    if let Some(seen) = seen {
                        seen.flush();
                    }
                };
                // Caches do not fail; a panic has been told of by then.
                if tokio::task::spawn_blocking(flush).await.is_err() {
                    return;
                }
            }
        }))
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        self.0.abort();
    }
}
