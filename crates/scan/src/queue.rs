//! Work that finds more work, done by all cores.
//!
//! The last item found is done first, so few items wait: the walk goes deep before it goes on. Which
//! thread does which item is not determined; callers that need an order sort the results.

use std::num::NonZero;

use parking_lot::{Condvar, Mutex};

use crate::ScanError;

/// Threads beyond this many would only wait for the kernel's locks.
const MOST_THREADS: usize = 16;

/// Does `first` and every item that `step` adds to its last argument. Returns the result of each
/// thread. The first error ends the work.
pub(crate) fn run<T, R, S>(first: Vec<T>, step: S) -> Result<Vec<R>, ScanError>
where
    T: Send,
    R: Default + Send,
    S: Fn(T, &mut R, &mut Vec<T>) -> Result<(), ScanError> + Sync,
{
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    run_on(threads.min(MOST_THREADS), first, step)
}

fn run_on<T, R, S>(threads: usize, first: Vec<T>, step: S) -> Result<Vec<R>, ScanError>
where
    T: Send,
    R: Default + Send,
    S: Fn(T, &mut R, &mut Vec<T>) -> Result<(), ScanError> + Sync,
{
    let queue = Queue {
        state: Mutex::new(State {
            waiting: first,
            busy: 0,
            failed: None,
        }),
        changed: Condvar::new(),
    };
    let work = || queue.work(&step);
    let results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut results = vec![work()];
        for other in others {
            match other.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    match queue.state.into_inner().failed {
        Some(error) => Err(error),
        None => Ok(results),
    }
}

struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: Vec<T>,
    /// Threads that may still add to `waiting`.
    busy: usize,
    failed: Option<ScanError>,
}

impl<T> Queue<T> {
    fn work<R: Default>(
        &self,
        step: &impl Fn(T, &mut R, &mut Vec<T>) -> Result<(), ScanError>,
    ) -> R {
        let mut result = R::default();
        let mut more = Vec::new();
        while let Some((item, busy)) = self.take() {
            let outcome = step(item, &mut result, &mut more);
            let mut state = self.state.lock();
            match outcome {
                Ok(()) => state.waiting.append(&mut more),
                Err(error) => state.failed = state.failed.take().or(Some(error)),
            }
            drop(state);
            drop(busy);
        }
        result
    }

    fn take(&self) -> Option<(T, Busy<'_, T>)> {
        let mut state = self.state.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if let Some(item) = state.waiting.pop() {
                state.busy += 1;
                return Some((item, Busy(self)));
            }
            if state.busy == 0 {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }
}

/// Counts a thread that may add work. It is dropped even if the thread panics, so that the others
/// do not wait for it.
struct Busy<'a, T>(&'a Queue<T>);

impl<T> Drop for Busy<'_, T> {
    fn drop(&mut self) {
        self.0.state.lock().busy -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_found_is_done_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 7] {
            let step = |n: u32, done: &mut Vec<u32>, more: &mut Vec<u32>| {
                done.push(n);
                more.extend([2 * n, 2 * n + 1].into_iter().filter(|&n| n < 1000));
                Ok(())
            };
            let mut all = run_on(threads, vec![1], step).unwrap().concat();
            all.sort_unstable();
            assert_eq!(all, (1..1000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_ends_all_of_it() {
        let step = |n: u32, (): &mut (), more: &mut Vec<u32>| {
            more.push(n + 1);
            match n {
                100 => Err(ScanError::NotADirectory("hundred".into())),
                _ => Ok(()),
            }
        };
        let error = run_on(3, vec![1], step).unwrap_err();
        assert!(matches!(error, ScanError::NotADirectory(_)));
    }

    #[test]
    fn a_panic_is_passed_on_and_nobody_waits_for_ever() {
        let step = |n: u32, (): &mut (), more: &mut Vec<u32>| {
            assert!(n < 50, "the fiftieth");
            more.push(n + 1);
            Ok(())
        };
        let caught = std::panic::catch_unwind(|| run_on(3, vec![1], step).is_ok());
        assert!(caught.is_err());
    }
}
