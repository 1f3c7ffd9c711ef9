//! Counts how often an adapter was given each node: the adapter knows the node until it has given
//! back as many references.
//!
//! A reference is counted for each entry that is answered and each name that is listed with attributes, a million of them when
//! somebody walks a large tree: a count is one number in a page of neighbours, and costs no allocation of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::NodeId;

/// Counts in a page.
const PAGE: u64 = 256;

#[derive(Debug)]
struct Page {
    counts: [AtomicU64; PAGE as usize],
    /// How many of them are not 0.
    used: AtomicUsize,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; PAGE as usize],
            used: AtomicUsize::new(0),
        }
    }
}

impl Page {
    fn count(&self, node: NodeId) -> &AtomicU64 {
        &self.counts[(node.0 % PAGE) as usize]
    }

    fn add(&self, node: NodeId) {
        if self.count(node).fetch_add(1, Ordering::Relaxed) == 0 {
            self.used.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The references that an adapter has.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// `None` while there is no adapter, and nothing is counted.
    pages: RwLock<Option<HashMap<u64, Box<Page>>>>,
}

impl References {
    /// Begins to count, from nothing.
    pub(crate) fn begin(&self) {
        *self.pages.write() = Some(HashMap::new());
    }

    /// Ends counting: there are no references any more.
    pub(crate) fn end(&self) {
        *self.pages.write() = None;
    }

    /// One more reference.
    pub(crate) fn add(&self, node: NodeId) {
        let number = node.0 / PAGE;
        match &*self.pages.read() {
            None => return,
            Some(pages) => {
                if let Some(page) = pages.get(&number) {
                    return page.add(node);
                }
            }
        }
        if let Some(pages) = &mut *self.pages.write() {
            pages.entry(number).or_default().add(node);
        }
    }

    /// Takes references back. Returns whether these were the last.
    pub(crate) fn take_back(&self, node: NodeId, count: u64) -> bool {
        let number = node.0 / PAGE;
        let empty = {
            let pages = self.pages.read();
            let Some(page) = pages.as_ref().and_then(|pages| pages.get(&number)) else {
                return false;
            };
            let taken =
                page.count(node)
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |had| {
                        (had > 0).then(|| had.saturating_sub(count))
                    });
            if !taken.is_ok_and(|had| had <= count) {
                return false;
            }
            page.used.fetch_sub(1, Ordering::Relaxed) == 1
        };
        if empty {
            let mut pages = self.pages.write();
            // No reference is counted while this lock is held.
            if let Some(pages) = &mut *pages
                && let Some(page) = pages.get(&number)
                && page.used.load(Ordering::Relaxed) == 0
            {
                pages.remove(&number);
            }
        }
        true
    }

    /// Whether there are references to a node.
    pub(crate) fn has(&self, node: NodeId) -> bool {
        let pages = self.pages.read();
        pages
            .as_ref()
            .and_then(|pages| pages.get(&(node.0 / PAGE)))
            .is_some_and(|page| page.count(node).load(Ordering::Relaxed) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_referred_to_until_all_references_are_given_back() {
        let references = References::default();
        references.begin();
        let (one, neighbour) = (NodeId(7), NodeId(8));
        references.add(one);
        references.add(one);
        references.add(neighbour);
        assert!(!references.take_back(one, 1) && references.has(one));
        assert!(references.take_back(one, 1) && !references.has(one));
        assert!(references.has(neighbour));
        assert!(references.take_back(neighbour, 5));
        assert!(!references.take_back(neighbour, 1), "there were none");
        references.add(neighbour);
        assert!(references.has(neighbour));
    }

    #[test]
    fn pages_without_references_go() {
        let references = References::default();
        references.begin();
        for number in 1..=10 * PAGE {
            references.add(NodeId(number));
        }
        for number in 1..=10 * PAGE {
            assert!(references.take_back(NodeId(number), 1));
        }
        assert!(references.pages.read().as_ref().unwrap().is_empty());
    }

    #[test]
    fn nothing_is_counted_without_an_adapter() {
        let references = References::default();
        references.add(NodeId::ROOT);
        assert!(!references.has(NodeId::ROOT));
        references.begin();
        references.add(NodeId::ROOT);
        references.end();
        assert!(!references.has(NodeId::ROOT));
    }

    #[test]
    fn counts_of_many_threads_add_up() {
        let references = References::default();
        references.begin();
        let node = NodeId(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        references.add(node);
                        references.add(node);
                        assert!(!references.take_back(node, 1));
                    }
                });
            }
        });
        assert!(references.take_back(node, 4000));
    }
}
