//! What clients asked for.

use parking_lot::Mutex;
use serde::Serialize;

/// Requests by kind, bytes of bodies, connections. A request is counted when its head is there; those below `/-/` are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// GET of an object or of a range of one.
    pub get: u64,
    /// HEAD of an object.
    pub head: u64,
    /// A page of a list of objects.
    pub list: u64,
    /// PUT of a whole object.
    pub put: u64,
    /// Start of an upload in parts.
    pub create: u64,
    /// PUT of a part.
    pub part: u64,
    /// End of an upload in parts.
    pub complete: u64,
    /// DELETE of an object or of an upload.
    pub delete: u64,
    /// Anything else.
    pub other: u64,
    /// Answers that an object is not there.
    pub not_found: u64,
    /// Bytes of objects and parts that were received.
    pub received: u64,
    /// Bytes of objects that were sent.
    pub sent: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Requests that were being answered at the same time, at most.
    pub most_in_flight: u64,
}

/// Counters that are counting.
#[derive(Debug, Default)]
pub(crate) struct Counting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counters: Counters,
    in_flight: u64,
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a Counting);

impl Counting {
    pub(crate) fn record(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut self.0.lock().counters);
    }

    /// Counts a request in, until what is given is dropped.
    pub(crate) fn begin(&self, count: impl FnOnce(&mut Counters)) -> InFlight<'_> {
        let mut state = self.0.lock();
        state.in_flight += 1;
        let in_flight = state.in_flight;
        let counters = &mut state.counters;
        counters.most_in_flight = counters.most_in_flight.max(in_flight);
        count(counters);
        InFlight(self)
    }

    pub(crate) fn read(&self) -> Counters {
        self.0.lock().counters
    }

    pub(crate) fn reset(&self) {
        let mut state = self.0.lock();
        state.counters = Counters {
            most_in_flight: state.in_flight,
            ..Counters::default()
        };
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.0.lock().in_flight -= 1;
    }
}
