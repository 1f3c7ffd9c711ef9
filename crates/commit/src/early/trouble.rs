//! A store that fails is left alone for some time, and for longer each time it fails again after that.

use std::time::{Duration, Instant};

/// How long at first.
const FIRST: Duration = Duration::from_secs(5);
/// How long at last.
const LAST: Duration = Duration::from_mins(5);

/// Whether the store fails.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Option<Failing>);

#[derive(Debug, Clone, Copy)]
struct Failing {
    /// It is left alone until then.
    until: Instant,
    wait: Duration,
}

impl Trouble {
    /// A request failed. Those that were under way when the first one did change nothing.
    pub(crate) fn failed(&mut self, now: Instant) {
        if self.is_on(now) {
            return;
        }
        let wait = self.0.map_or(FIRST, |before| before.wait * 2).min(LAST);
        let until = now + wait;
        self.0 = Some(Failing { until, wait });
    }

    /// A request succeeded.
    pub(crate) fn is_over(&mut self) {
        self.0 = None;
    }

    /// Whether the store is to be left alone now.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        self.0.is_some_and(|failing| now < failing.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_again_and_again_is_left_alone_for_longer_each_time() {
        let (mut trouble, mut now) = (Trouble::default(), Instant::now());
        assert!(!trouble.is_on(now));
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            trouble.failed(now);
            // As do all that were under way.
            trouble.failed(now + Duration::from_secs(1));
            let until = now + Duration::from_secs(seconds);
            assert!(trouble.is_on(until.checked_sub(Duration::from_millis(1)).unwrap()));
            assert!(!trouble.is_on(until));
            now = until;
        }
        trouble.is_over();
        trouble.failed(now);
        assert!(!trouble.is_on(now + FIRST));
    }
}
