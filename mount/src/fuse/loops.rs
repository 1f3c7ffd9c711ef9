//! How many event loops wait for the kernel's next request.
//!
//! The kernel hands a request to the loop that has waited longest. If all loops waited, a program whose requests follow each other
//! would be answered by each of them in turn: by a thread that slept, on a processor that slept. That takes twice the time. So no
//! more loops read than are needed; the others rest at the end of their last request, after its answer:
//!
//! ```text
//!               .-- takes a request --> working -- more are awake than are wanted, and one of them reads --> resting
//!     reading --'                          |                                                                    |
//!        ^--------------- else ------------'                                                                    |
//!        '------ requests had to wait, or nobody reads and no request was taken for a moment -------------------'
//! ```
//!
//! One resting loop is on watch: it looks every millisecond, as long as requests come, whether all others are held up, by a slow disk
//! for one, and reads in their place. So a request waits a moment for others at most, and never for the answer of another one.
//!
//! A loop of fuser's ends without a word when the mount has ended. Its thread ends then, and that wakes those that rest, so
//! that they end, too. So no loop rests before each of them has taken a request and can be noticed.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// How often is looked whether requests had to wait, and whether all are held up.
const LOOK: Duration = Duration::from_millis(1);
/// So many requests say whether they had to wait; fewer do after so many times as long. One that follows another which nobody
/// waits for, the end of an open file, always has to, and there is one in ten of them.
const ENOUGH: u32 = 16;
/// One loop fewer is wanted after so many looks by which few requests had to wait.
const CALM: u32 = 50;
/// Nobody looks any more after so many looks by which no request came.
const QUIET: u32 = 8;

/// The event loops of one connection.
pub(super) struct Loops {
    all: usize,
    look: Duration,
    /// Whether the kernel has a request that nobody has taken.
    is_waiting: Box<dyn Fn() -> bool + Send + Sync>,
    state: Mutex<State>,
    resting: Condvar,
    on_watch: Condvar,
}

#[derive(Debug)]
struct State {
    reading: usize,
    resting: usize,
    /// Loops that are to read again and are counted as reading, but have not noticed yet.
    called: usize,
    /// How many are to be awake.
    wanted: usize,
    /// Loops that have taken a request.
    known: usize,
    /// All requests that were taken.
    taken: u64,
    /// Those since the last look.
    recent: Recent,
    calm: u32,
    watch: Watch,
    has_ended: bool,
}

#[derive(Debug)]
struct Recent {
    since: Instant,
    taken: u32,
    /// So many times a request waited already when another one was answered.
    late: u32,
}

/// Whether a resting loop looks if all others are held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    Nobody,
    /// Every now and then.
    Looks,
    /// After the next request.
    Sleeps,
}

/// What the thread of an event loop has of [`Loops`] until it ends.
struct Thread {
    loops: Arc<Loops>,
    /// Whether another request waited already when the one that this thread serves was answered.
    is_late: bool,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.loops.state.lock().has_ended = true;
        self.loops.resting.notify_all();
        self.loops.on_watch.notify_all();
    }
}

thread_local! {
    static THREAD: RefCell<Option<Thread>> = const { RefCell::new(None) };
}

/// To be called before an answer is given: only what the kernel has asked for by then has waited. Afterwards the same program
/// may have asked for more.
pub(super) fn before_answer() {
    THREAD.with_borrow_mut(|thread| {
        // An answer that somebody waited for is given on another thread, and no loop was held up.
        if let Some(thread) = thread {
            thread.is_late |= thread.loops.has_late_request();
        }
    });
}

impl Loops {
    /// So many loops, all of which read. `is_waiting` tells whether the kernel has a request that nobody has taken.
    pub(super) fn new(
        all: usize,
        is_waiting: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::looking(all, LOOK, is_waiting)
    }

    fn looking(
        all: usize,
        look: Duration,
        is_waiting: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        let recent = Recent {
            since: Instant::now(),
            taken: 0,
            late: 0,
        };
        Arc::new(Self {
            all,
            look,
            is_waiting: Box::new(is_waiting),
            state: Mutex::new(State {
                reading: all,
                resting: 0,
                called: 0,
                wanted: 1,
                known: 0,
                taken: 0,
                recent,
                calm: 0,
                watch: Watch::Nobody,
                has_ended: false,
            }),
            resting: Condvar::new(),
            on_watch: Condvar::new(),
        })
    }

    /// Does what a request asks for, on the thread of the loop that took it, which may rest then.
    pub(super) fn serve<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        self.took();
        let done = work();
        self.is_done();
        done
    }

    /// Has another loop read, because the request that this one has taken is known to take long.
    pub(super) fn will_take_long(&self) {
        let mut state = self.state.lock();
        if state.reading == 0 {
            self.call(&mut state);
        }
    }

    /// Whether a request waits because nobody reads.
    fn has_late_request(&self) -> bool {
        let nobody_reads = self.state.lock().reading == 0;
        nobody_reads && (self.is_waiting)()
    }

    fn took(self: &Arc<Self>) {
        let is_new = THREAD.with_borrow_mut(|thread| {
            let is_new = thread.is_none();
            let thread = thread.get_or_insert_with(|| Thread {
                loops: Arc::clone(self),
                is_late: false,
            });
            thread.is_late = false;
            is_new
        });
        let mut state = self.state.lock();
        state.known += usize::from(is_new);
        state.reading = state.reading.saturating_sub(1);
        state.taken += 1;
        state.recent.taken += 1;
        if state.reading == 0 && state.watch == Watch::Sleeps {
            state.watch = Watch::Looks;
            self.on_watch.notify_one();
        }
    }

    fn is_done(&self) {
        let is_late =
            THREAD.with_borrow(|thread| thread.as_ref().is_some_and(|thread| thread.is_late));
        let mut state = self.state.lock();
        state.recent.late += u32::from(is_late);
        self.look_back(&mut state);
        let awake = self.all - state.resting;
        let may_rest = state.known == self.all && !state.has_ended;
        if may_rest && state.reading > 0 && awake > state.wanted {
            self.rest(state);
        } else {
            state.reading += 1;
        }
    }

    /// Wants one loop more if requests had to wait, and one fewer if they did not for long.
    fn look_back(&self, state: &mut State) {
        let Recent { since, taken, late } = state.recent;
        let now = Instant::now();
        let elapsed = now.duration_since(since);
        if elapsed < self.look || (taken < ENOUGH && elapsed < self.look * ENOUGH) {
            return;
        }
        state.recent = Recent {
            since: now,
            taken: 0,
            late: 0,
        };
        if late * 2 > taken {
            state.calm = 0;
            state.wanted = (state.wanted + 1).min(self.all);
            if self.all - state.resting < state.wanted {
                self.call(state);
            }
        } else if late * 4 < taken {
            state.calm += 1;
            if state.calm == CALM {
                state.calm = 0;
                state.wanted = state.wanted.saturating_sub(1).max(1);
            }
        }
    }

    /// Has one that rests read again.
    fn call(&self, state: &mut State) {
        if state.resting > 0 {
            state.resting -= 1;
            state.reading += 1;
            state.called += 1;
            self.resting.notify_one();
            self.on_watch.notify_one();
        }
    }

    fn rest(&self, mut state: MutexGuard<'_, State>) {
        state.resting += 1;
        loop {
            if state.called > 0 {
                state.called -= 1;
                break;
            }
            if state.has_ended || self.watches_in_vain(&mut state) {
                state.resting -= 1;
                state.reading += 1;
                break;
            }
        }
        if state.watch == Watch::Nobody && state.resting > 0 {
            // It takes the watch.
            self.resting.notify_one();
        }
    }

    /// Waits for something to happen. Is true if the loop was on watch and found that all others are held up.
    fn watches_in_vain(&self, state: &mut MutexGuard<'_, State>) -> bool {
        if state.watch != Watch::Nobody {
            self.resting.wait(state);
            return false;
        }
        let mut looks = 0;
        while state.called == 0 && !state.has_ended {
            let before = state.taken;
            if looks < QUIET {
                state.watch = Watch::Looks;
                let has_passed = self.on_watch.wait_for(state, self.look).timed_out();
                if has_passed && state.taken == before {
                    if state.reading == 0 && state.called == 0 {
                        state.watch = Watch::Nobody;
                        return true;
                    }
                    looks += 1;
                    continue;
                }
            } else {
                state.watch = Watch::Sleeps;
                self.on_watch.wait(state);
            }
            looks = 0;
        }
        state.watch = Watch::Nobody;
        false
    }
}

impl fmt::Debug for Loops {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Loops")
            .field("all", &self.all)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{JoinHandle, ThreadId};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const LONG: Duration = Duration::from_hours(1);

    type Work = Box<dyn FnOnce() + Send>;

    /// Event loops that take their requests from a queue.
    struct Running {
        loops: Arc<Loops>,
        requests: Sender<Work>,
        threads: Vec<JoinHandle<()>>,
    }

    impl Running {
        fn start(all: usize, look: Duration, is_waiting: fn() -> bool) -> Self {
            let loops = Loops::looking(all, look, is_waiting);
            let (requests, queue) = channel::<Work>();
            let queue = Arc::new(Mutex::new(queue));
            let threads = (0..all).map(|_| {
                let (loops, queue) = (Arc::clone(&loops), Arc::clone(&queue));
                std::thread::spawn(move || {
                    // Who waits for the lock reads as well as who has it.
                    let next = |queue: &Mutex<Receiver<Work>>| queue.lock().recv();
                    while let Ok(work) = next(&queue) {
                        loops.serve(work);
                    }
                })
            });
            let threads = threads.collect();
            let running = Self {
                loops,
                requests,
                threads,
            };
            running.until_all_are_known();
            running
        }

        /// As many requests as it takes until each loop had one.
        fn until_all_are_known(&self) {
            while self.loops.state.lock().known < self.loops.all {
                self.ask();
            }
        }

        /// Sends a request, and says which thread has answered it.
        fn ask(&self) -> ThreadId {
            let (tell, told) = channel();
            self.send(move || {
                before_answer();
                tell.send(std::thread::current().id()).unwrap();
            });
            told.recv_timeout(PATIENCE).unwrap()
        }

        fn send(&self, work: impl FnOnce() + Send + 'static) {
            self.requests.send(Box::new(work)).unwrap();
        }

        fn end(self) {
            drop(self.requests);
            for thread in self.threads {
                let start = Instant::now();
                while !thread.is_finished() {
                    assert!(start.elapsed() < PATIENCE, "a loop still rests");
                    std::thread::sleep(Duration::from_millis(1));
                }
                thread.join().unwrap();
            }
        }
    }

    #[test]
    fn requests_that_follow_each_other_are_answered_by_one_loop() {
        let running = Running::start(4, LONG, || false);
        let start = Instant::now();
        while running.loops.state.lock().resting < 3 {
            assert!(start.elapsed() < PATIENCE, "{:?}", running.loops);
            running.ask();
        }
        let threads: HashSet<_> = (0..100).map(|_| running.ask()).collect();
        assert_eq!(threads.len(), 1);
        running.end();
    }

    #[test]
    fn a_request_does_not_wait_for_the_end_of_another_one() {
        let running = Running::start(4, LOOK, || false);
        for _ in 0..8 {
            running.ask();
        }
        // Each of these ends after the next one: as many as there are loops.
        let (tell, told) = channel();
        let (_, mut behind) = channel::<()>();
        let chain: Vec<Work> = (0..4)
            .map(|number| {
                let (tell, next) = (tell.clone(), channel());
                let (done, after) = (next.0, std::mem::replace(&mut behind, next.1));
                Box::new(move || {
                    if number > 0 {
                        after.recv_timeout(PATIENCE).unwrap();
                    }
                    tell.send(()).unwrap();
                    done.send(()).ok();
                }) as Work
            })
            .collect();
        for work in chain.into_iter().rev() {
            running.requests.send(work).unwrap();
        }
        for _ in 0..4 {
            told.recv_timeout(PATIENCE).unwrap();
        }
        running.end();
    }

    #[test]
    fn where_requests_have_to_wait_more_loops_read() {
        static WAITS: AtomicBool = AtomicBool::new(false);
        let running = Running::start(4, LOOK, || WAITS.load(Ordering::Relaxed));
        let awake = || running.loops.all - running.loops.state.lock().resting;
        let until = |enough: fn(usize) -> bool| {
            let start = Instant::now();
            while !enough(awake()) {
                assert!(start.elapsed() < PATIENCE, "{:?}", running.loops);
                running.ask();
            }
        };
        until(|awake| awake <= 2);
        WAITS.store(true, Ordering::Relaxed);
        until(|awake| awake == 4);
        WAITS.store(false, Ordering::Relaxed);
        until(|awake| awake <= 2);
        running.end();
    }

    #[test]
    fn a_request_that_takes_long_has_another_loop_read_at_once() {
        let running = Running::start(4, LONG, || false);
        for _ in 0..8 {
            running.ask();
        }
        let mut held_up = Vec::new();
        for _ in 0..3 {
            let loops = Arc::clone(&running.loops);
            let ((tell, told), (release, released)) = (channel(), channel::<()>());
            held_up.push(release);
            running.send(move || {
                loops.will_take_long();
                tell.send(()).unwrap();
                released.recv_timeout(PATIENCE).unwrap_err();
            });
            told.recv_timeout(PATIENCE).unwrap();
            running.ask();
        }
        drop(held_up);
        running.end();
    }

    #[test]
    fn the_end_of_one_loop_is_the_end_of_those_that_rest() {
        for asked in [0, 1, 3, 50] {
            let running = Running::start(4, LONG, || false);
            for _ in 0..asked {
                running.ask();
            }
            running.end();
        }
    }
}
