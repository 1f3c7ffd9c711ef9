//! Whether a body moves fast enough to be waited for.
//!
//! Two things end a wait: nothing at all for the time of a stall, and fewer bytes over a window than
//! the least rate. Time that this side spends waiting for its own limit of bandwidth does not count.
//! The code that moves bytes reports them to the [`Pace`], which says until when to wait, and what
//! is wrong when that time has come.

use std::time::Duration;

use tokio::time::Instant;

/// How slow a body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slowest {
    /// How long a body may stand still.
    pub(crate) stall: Duration,
    /// Bytes a second.
    pub(crate) rate: u64,
    /// Over which time the rate is measured.
    pub(crate) window: Duration,
}

impl Slowest {
    /// How long bytes that a connection has taken may still be on their way out: the connection
    /// holds some, and the system's and a proxy's buffers more.
    pub(crate) fn to_drain(self, len: u64) -> Duration {
        let rate = match self.rate {
            0 => USUAL_RATE,
            rate => rate,
        };
        Duration::from_secs_f64(len.min(MOST_BUFFERED) as f64 / rate as f64)
    }
}

/// The least rate by default, in bytes a second: a slower body is given up.
pub(crate) const USUAL_RATE: u64 = 10_000;

/// The most bytes between this side and the network: the largest buffer that Linux gives a
/// connection.
const MOST_BUFFERED: u64 = 4 << 20;

/// A body that is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooSlow {
    #[error("nothing moved for {} seconds", .0.as_secs_f64())]
    Stalled(Duration),
    #[error(
        "{moved} bytes moved in {} seconds, fewer than {rate} bytes a second; --min-rate sets how \
         slow is too slow", .window.as_secs_f64()
    )]
    BelowRate {
        moved: u64,
        window: Duration,
        rate: u64,
    },
}

impl TooSlow {
    pub(crate) fn is_stall(self) -> bool {
        matches!(self, Self::Stalled(_))
    }
}

/// How fast a body moves.
#[derive(Debug)]
pub(crate) struct Pace {
    slowest: Slowest,
    last: Instant,
    window_began: Instant,
    moved: u64,
}

impl Pace {
    pub(crate) fn new(slowest: Slowest) -> Self {
        let now = Instant::now();
        Self {
            slowest,
            last: now,
            window_began: now,
            moved: 0,
        }
    }

    /// Bytes moved.
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.last = Instant::now();
        self.moved += bytes;
    }

    /// Excuses a time in which this side itself kept the body from moving.
    pub(crate) fn excuse(&mut self, waited: Duration) {
        self.last += waited;
        self.window_began += waited;
    }

    /// Until when to wait before [`Self::check`].
    pub(crate) fn patience(&self) -> Instant {
        (self.last + self.slowest.stall).min(self.window_began + self.slowest.window)
    }

    /// Whether to go on waiting. A window that is over and was fast enough begins anew.
    pub(crate) fn check(&mut self) -> Result<(), TooSlow> {
        let now = Instant::now();
        if now >= self.last + self.slowest.stall {
            return Err(TooSlow::Stalled(self.slowest.stall));
        }
        if now < self.window_began + self.slowest.window {
            return Ok(());
        }
        let Slowest { rate, window, .. } = self.slowest;
        if u128::from(self.moved) * 1000 < u128::from(rate) * window.as_millis() {
            return Err(TooSlow::BelowRate {
                moved: self.moved,
                window,
                rate,
            });
        }
        self.window_began = now;
        self.moved = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOWEST: Slowest = Slowest {
        stall: Duration::from_secs(20),
        rate: 10_000,
        window: Duration::from_mins(1),
    };

    async fn wait(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_given_up_after_the_stall() {
        let mut pace = Pace::new(SLOWEST);
        pace.moved(1 << 20);
        wait(19).await;
        pace.check().unwrap();
        wait(1).await;
        assert_eq!(pace.check(), Err(TooSlow::Stalled(SLOWEST.stall)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_below_the_rate_is_given_up_after_the_window() {
        let mut pace = Pace::new(SLOWEST);
        for _ in 0..59 {
            wait(1).await;
            pace.moved(9_999);
            pace.check().unwrap();
        }
        wait(1).await;
        pace.moved(9_999);
        assert!(matches!(pace.check(), Err(TooSlow::BelowRate { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_window_is_followed_by_another() {
        let mut pace = Pace::new(SLOWEST);
        for _ in 0..600 {
            wait(1).await;
            pace.moved(10_000);
            pace.check().unwrap();
        }
    }

    #[test]
    fn what_is_in_buffers_may_drain_at_the_least_rate() {
        assert_eq!(SLOWEST.to_drain(450_000), Duration::from_secs(45));
        assert_eq!(SLOWEST.to_drain(u64::MAX), SLOWEST.to_drain(4 << 20));
        let any = Slowest { rate: 0, ..SLOWEST };
        assert_eq!(any.to_drain(10_000), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_ones_own_limit_does_not_count() {
        let mut pace = Pace::new(SLOWEST);
        for _ in 0..100 {
            wait(10).await;
            pace.excuse(Duration::from_secs(10));
            pace.moved(1);
            pace.check().unwrap();
        }
    }
}
