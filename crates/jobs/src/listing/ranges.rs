//! A listing in several ranges of keys at once, whose results come in the order of keys.
//!
//! ```text
//!     one request after another:   |1000 keys|1000 keys|1000 keys|...
//!     in ranges:                   |1000|1000|..   |1000|1000|..   |1000|..
//!                                  first range     second          third      each goes on by itself
//! ```
//!
//! A listing begins as one range. One that turns out to be long is cut ([`cuts`](super::cuts)) as long as requests may be
//! made. Each range reduces its entries to results as they come, and all but the first stop when many results wait: so the
//! memory is bounded, whatever the store holds. Nothing happens between two calls of [`next`](Ranges::next), and dropping
//! the listing ends it.

use std::collections::VecDeque;

use attachfs_store::{Folder, ListStore, Listed, Page, StoreError};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use super::ForeignKeys;
use super::cuts::cuts;

/// How many requests are under way at most. S3 takes thousands a second.
const AT_ONCE: usize = 16;

/// How many pages a range has to be long before it is cut: a short one is soon at its end.
const LONG: u32 = 2;

/// How many results may wait before only the first range goes on, whose results are next.
const MOST_READY: usize = 1 << 16;

/// What entries are made into. Each range has its own, which sees all entries between two cuts in the order of keys.
pub(super) trait Reduce: Send {
    /// A result.
    type Item: Send;

    /// Takes an entry.
    fn take(&mut self, entry: Listed, ready: &mut VecDeque<Self::Item>, foreign: &mut ForeignKeys);

    /// There are no more.
    fn end(&mut self, ready: &mut VecDeque<Self::Item>);
}

/// Keys behind `after`, up to and with `until`.
#[derive(Debug)]
struct Range<R: Reduce> {
    number: u64,
    after: Option<String>,
    until: Option<String>,
    reduce: R,
    ready: VecDeque<R::Item>,
    pages: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is more to list.
    Waits,
    /// A request is under way.
    Listed,
    /// All results are ready.
    Ended,
}

/// The answer to the request of a range.
type Answer = (u64, Result<Page, StoreError>);

/// A listing in ranges.
pub(super) struct Ranges<'a, R: Reduce> {
    store: &'a dyn ListStore,
    folder: Folder,
    /// How a range reduces its entries, to be cloned.
    reduce: R,
    /// In the order of keys.
    parts: VecDeque<Range<R>>,
    requests: FuturesUnordered<BoxFuture<'a, Answer>>,
    numbers: u64,
    foreign: ForeignKeys,
    listed: u64,
}

impl<'a, R: Reduce + Clone> Ranges<'a, R> {
    /// What a folder has behind `after`, up to and with `until`.
    pub(super) fn of(
        store: &'a dyn ListStore,
        folder: Folder,
        after: Option<String>,
        until: Option<String>,
        reduce: R,
    ) -> Self {
        let mut ranges = Self {
            store,
            folder,
            reduce,
            parts: VecDeque::new(),
            requests: FuturesUnordered::new(),
            numbers: 0,
            foreign: ForeignKeys::default(),
            listed: 0,
        };
        let first = ranges.range(after, until);
        ranges.parts.push_back(first);
        ranges
    }

    fn range(&mut self, after: Option<String>, until: Option<String>) -> Range<R> {
        self.numbers += 1;
        Range {
            number: self.numbers,
            after,
            until,
            reduce: self.reduce.clone(),
            ready: VecDeque::new(),
            pages: 0,
            state: State::Waits,
        }
    }

    /// Lists another folder from its beginning, once this one has ended.
    pub(super) fn go_to(&mut self, folder: Folder, until: Option<String>) {
        self.folder = folder;
        let first = self.range(None, until);
        self.parts.push_back(first);
    }

    /// Keys that are not what they should be, as far as the listing has come.
    pub(super) fn foreign(&self) -> &ForeignKeys {
        &self.foreign
    }

    /// How many keys were listed so far.
    pub(super) fn listed(&self) -> u64 {
        self.listed
    }

    /// The next results, at least one; `None` at the end. After a failure it can be called again: the request that failed
    /// is then repeated. May be cancelled.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<R::Item>>, StoreError> {
        loop {
            let Some(first) = self.parts.front_mut() else {
                return Ok(None);
            };
            if !first.ready.is_empty() {
                return Ok(Some(first.ready.drain(..).collect()));
            }
            if first.state == State::Ended {
                self.parts.pop_front();
                continue;
            }
            self.ask();
            let answer = self.requests.next().await;
            if let Some((number, page)) = answer {
                self.take(number, page)?;
            }
        }
    }

    /// Makes the requests that may be made.
    fn ask(&mut self) {
        let mut free = AT_ONCE.saturating_sub(self.requests.len());
        let waiting: usize = self.parts.iter().map(|range| range.ready.len()).sum();
        for (place, range) in self.parts.iter_mut().enumerate() {
            if free == 0 {
                break;
            }
            if range.state != State::Waits || (place > 0 && waiting >= MOST_READY) {
                continue;
            }
            free -= 1;
            range.state = State::Listed;
            let (store, folder, number) = (self.store, self.folder.clone(), range.number);
            let after = range.after.clone();
            let request = async move {
                let page = store.list(&folder, after.as_deref()).await;
                (number, page)
            };
            self.requests.push(request.boxed());
        }
    }

    fn take(&mut self, number: u64, page: Result<Page, StoreError>) -> Result<(), StoreError> {
        let place = self.parts.iter().position(|range| range.number == number);
        let Some(place) = place else {
            // A range is dropped when it has ended, and then it has no request.
            return page.map(drop);
        };
        let range = &mut self.parts[place];
        range.state = State::Waits;
        let page = page?;
        range.pages += 1;
        let until = range.until.as_deref();
        let is_beyond = |key: &str| until.is_some_and(|until| key > until);
        let mut is_over = page.next.as_deref().is_none_or(is_beyond);
        for entry in page.entries {
            if is_beyond(&entry.key) {
                is_over = true;
                break;
            }
            self.listed += 1;
            range
                .reduce
                .take(entry, &mut range.ready, &mut self.foreign);
        }
        if is_over {
            range.state = State::Ended;
            range.reduce.end(&mut range.ready);
            return Ok(());
        }
        range.after = page.next;
        if range.pages >= LONG {
            self.cut(place);
        }
        Ok(())
    }

    /// Cuts what is left of a range into as many as may be listed at once.
    fn cut(&mut self, place: usize) {
        let open = self
            .parts
            .iter()
            .filter(|range| range.state != State::Ended);
        let most = AT_ONCE.saturating_sub(open.count());
        let range = &self.parts[place];
        let Some(last) = range.after.as_deref().filter(|_| most > 0) else {
            return;
        };
        let folder = self.folder.key_start();
        let mut cuts = cuts(&folder, last, range.until.as_deref(), most).into_iter();
        let Some(first) = cuts.next() else { return };
        let end = self.parts[place].until.replace(first.clone());
        let mut after = first;
        let mut new = Vec::new();
        for cut in cuts {
            new.push((std::mem::replace(&mut after, cut.clone()), Some(cut)));
        }
        new.push((after, end));
        for (number, (after, until)) in new.into_iter().enumerate() {
            let range = self.range(Some(after), until);
            self.parts.insert(place + 1 + number, range);
        }
    }
}

impl<R: Reduce> std::fmt::Debug for Ranges<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranges")
            .field("folder", &self.folder)
            .field("ranges", &self.parts.len())
            .field("requests", &self.requests.len())
            .field("listed", &self.listed)
            .finish_non_exhaustive()
    }
}
