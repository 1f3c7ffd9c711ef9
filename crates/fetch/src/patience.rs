//! How long a fetch is waited for.
//!
//! A fetch in line for room or for its turn is not late as long as the store gives anything to anybody. One that was
//! asked for is late when, over the time of the deadline, it moved fewer bytes than the least rate asks for. So
//! a slow store that keeps moving is waited for, and one that hangs fails everybody in time, whether they
//! had their turn or not.

use std::future::Future;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

/// When the store gave something last.
#[derive(Debug, Default)]
pub(crate) struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    pub(crate) fn beat(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    fn last(&self) -> Option<Instant> {
        *self.0.lock()
    }
}

/// It took too long.
#[derive(Debug)]
pub(crate) struct TooLate;

/// How long one fetch is waited for.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    pulse: &'a Pulse,
    deadline: Duration,
    /// Bytes that have to move in the time of the deadline.
    least: u64,
    /// Since when its bytes are counted.
    since: Instant,
    moved: u64,
}

impl<'a> Patience<'a> {
    /// Begins now. `least_rate` is in bytes a second.
    pub(crate) fn new(pulse: &'a Pulse, deadline: Duration, least_rate: u64) -> Self {
        let least = (deadline.as_secs_f64() * least_rate as f64) as u64;
        Self {
            pulse,
            deadline,
            // What moves nothing is never fast enough.
            least: least.max(1),
            since: Instant::now(),
            moved: 0,
        }
    }

    /// Waits in line. Fails when the store gave nothing to anybody for the time of the deadline.
    pub(crate) async fn in_line<T>(&mut self, turn: impl Future<Output = T>) -> Result<T, TooLate> {
        let begun = Instant::now();
        let mut turn = std::pin::pin!(turn);
        loop {
            let last = self.pulse.last().map_or(begun, |last| last.max(begun));
            let until = last + self.deadline;
            let done = timeout_at(until, &mut turn).await;
            if self.pulse.last().is_none_or(|now| now <= last) && Instant::now() >= until {
                // Also if its turn came in the last moment: somebody else gave up, too.
                return Err(TooLate);
            }
            if let Ok(done) = done {
                self.since += begun.elapsed();
                return Ok(done);
            }
        }
    }

    /// Waits for the store, or whatever else it takes to get its bytes.
    pub(crate) async fn on_its_way<T>(
        &mut self,
        next: impl Future<Output = T>,
    ) -> Result<T, TooLate> {
        let mut next = std::pin::pin!(next);
        loop {
            match timeout_at(self.since + self.deadline, &mut next).await {
                Ok(done) => return Ok(done),
                Err(_) if self.moved >= self.least => {
                    self.since = Instant::now();
                    self.moved = 0;
                }
                Err(_) => return Err(TooLate),
            }
        }
    }

    /// Waits for something that is not the store: that time does not count.
    pub(crate) async fn aside<T>(&mut self, other: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = other.await;
        self.since += begun.elapsed();
        done
    }

    /// So many bytes came.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        self.pulse.beat();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn what_moves_fast_enough_is_waited_for_and_what_crawls_is_not() {
        let pulse = Pulse::default();
        for (bytes, is_late) in [(100, false), (99, true)] {
            let mut patience = Patience::new(&pulse, MINUTE, 10);
            let mut came = Ok(());
            for _ in 0..30 {
                came = patience.on_its_way(sleep(Duration::from_secs(10))).await;
                if came.is_err() {
                    break;
                }
                patience.moved(bytes);
            }
            assert_eq!(came.is_err(), is_late, "{bytes} bytes in 10 s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_in_line_is_not_late_while_others_get_something() {
        let pulse = Pulse::default();
        let others = async {
            for _ in 0..10 {
                sleep(MINUTE / 2).await;
                pulse.beat();
            }
            std::future::pending::<()>().await;
        };
        let begun = Instant::now();
        let mut patience = Patience::new(&pulse, MINUTE, 10);
        tokio::select! {
            late = patience.in_line(std::future::pending::<()>()) => late.unwrap_err(),
            () = others => unreachable!(),
        };
        assert_eq!(begun.elapsed(), 5 * MINUTE + MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_line_does_not_count() {
        let pulse = Pulse::default();
        let mut patience = Patience::new(&pulse, MINUTE, 10);
        patience.in_line(sleep(MINUTE / 2)).await.unwrap();
        patience.on_its_way(sleep(MINUTE * 9 / 10)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn time_for_something_else_than_the_store_does_not_count() {
        let pulse = Pulse::default();
        let mut patience = Patience::new(&pulse, MINUTE, 10);
        patience.aside(sleep(MINUTE * 2)).await;
        patience.on_its_way(sleep(MINUTE * 9 / 10)).await.unwrap();
    }
}
