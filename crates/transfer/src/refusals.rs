//! Whether a failed request is one object's misfortune or everybody's.
//!
//! A store that refuses one object is no reason to keep the others from it. A store that refuses one
//! after the other will refuse the next as well: wrong credentials, no bucket, a network that is gone.
//! The two look alike in a single answer, so what counts is how many objects were refused without a success in
//! between. An object that is asked for again and again is one. A refusal that says itself that it is of
//! everything is believed at once, unless something succeeded before.

use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_manifest::ContentHash;
use attachfs_store::{Reach, StoreError};
use parking_lot::Mutex;

/// So many objects that fail in a row concern everything.
const MOST: usize = 8;

/// What is asked of a store for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Whether it is there.
    Ask,
    /// To give it.
    Read,
    /// To take it.
    Send,
}

/// The failures since the last success, each kind of request by itself: who may read may not be
/// allowed to write.
#[derive(Debug, Default)]
pub(crate) struct Refusals([Streak; 3]);

#[derive(Debug, Default)]
struct Streak {
    had_success: AtomicBool,
    is_failing: AtomicBool,
    /// There were too many. A request that was on its way then and succeeds changes nothing.
    is_over: AtomicBool,
    /// The objects that failed since the last success; at most [`MOST`]. Innermost.
    failed: Mutex<Vec<ContentHash>>,
}

impl Refusals {
    /// A request succeeded, or what was asked for was had elsewhere.
    pub(crate) fn answered(&self, request: Request) {
        let streak = &self.0[request as usize];
        // Read before written: all threads share the line.
        if !streak.had_success.load(Ordering::Relaxed) {
            streak.had_success.store(true, Ordering::Relaxed);
        }
        if streak.is_failing.load(Ordering::Relaxed) {
            let mut failed = streak.failed.lock();
            failed.clear();
            streak.is_failing.store(false, Ordering::Relaxed);
        }
    }

    /// Notes that a request for an object failed.
    pub(crate) fn refused(&self, request: Request, object: ContentHash, error: &StoreError) {
        if is_of_the_file(error) || is_of_the_object(request, error) {
            return;
        }
        let streak = &self.0[request as usize];
        let mut failed = streak.failed.lock();
        if failed.len() < MOST && !failed.contains(&object) {
            failed.push(object);
        }
        streak.is_failing.store(true, Ordering::Relaxed);
        let is_over = match error {
            StoreError::Full { .. } => true,
            StoreError::Denied {
                reach: Reach::Everything,
                ..
            } if !streak.had_success.load(Ordering::Relaxed) => true,
            _ => failed.len() >= MOST,
        };
        streak.is_over.fetch_or(is_over, Ordering::Relaxed);
    }

    /// Whether other objects still have a chance after this failure, which was noted.
    pub(crate) fn others_may_pass(&self, request: Request, error: &StoreError) -> bool {
        is_of_the_file(error) || !self.0[request as usize].is_over.load(Ordering::Relaxed)
    }

    /// Whether there was never a success: then a failure is the store's, not the object's.
    pub(crate) fn never_passed(&self, request: Request) -> bool {
        !self.0[request as usize].had_success.load(Ordering::Relaxed)
    }
}

/// Whether a store failed because of this object: it is not there, or is damaged.
fn is_of_the_object(request: Request, error: &StoreError) -> bool {
    let of_all = matches!(
        error,
        StoreError::Denied { .. } | StoreError::Unreachable { .. }
    );
    request == Request::Read && !of_all
}

/// Whether a store failed because of what it was to take, which another file may have whole.
pub(crate) fn is_of_the_file(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::SourceChanged { .. } | StoreError::Source { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> StoreError {
        denied_to(Reach::Unknown)
    }

    fn denied_to(reach: Reach) -> StoreError {
        StoreError::Denied {
            what: "storing".to_owned(),
            advice: "no".to_owned(),
            reach,
            source: "403".into(),
        }
    }

    fn object(number: usize) -> ContentHash {
        ContentHash::of(&number.to_le_bytes())
    }

    /// Notes a failure of an object to be sent, and says whether the others may pass.
    fn goes_on(refusals: &Refusals, object: ContentHash, error: &StoreError) -> bool {
        refusals.refused(Request::Send, object, error);
        refusals.others_may_pass(Request::Send, error)
    }

    #[test]
    fn failures_with_successes_between_them_are_single_ones() {
        let refusals = Refusals::default();
        for number in 0..100 {
            assert!(goes_on(&refusals, object(number), &denied()));
            refusals.answered(Request::Send);
        }
    }

    #[test]
    fn failures_in_a_row_concern_everything_whatever_else_succeeds() {
        let refusals = Refusals::default();
        let passed = (0..MOST).take_while(|&number| {
            refusals.answered(Request::Ask);
            goes_on(&refusals, object(number), &denied())
        });
        assert_eq!(passed.count(), MOST - 1);
        assert!(refusals.never_passed(Request::Send));
    }

    #[test]
    fn an_object_that_fails_again_and_again_is_one() {
        let refusals = Refusals::default();
        for _ in 0..100 {
            assert!(goes_on(&refusals, object(1), &denied()));
        }
    }

    #[test]
    fn a_success_that_comes_too_late_changes_nothing() {
        let refusals = Refusals::default();
        for number in 0..MOST {
            refusals.refused(Request::Send, object(number), &denied());
        }
        refusals.answered(Request::Send);
        assert!(!refusals.others_may_pass(Request::Send, &denied()));
    }

    #[test]
    fn what_refuses_everything_ends_it_at_once_unless_something_succeeded() {
        let refusals = Refusals::default();
        refusals.answered(Request::Send);
        assert!(goes_on(&refusals, object(1), &denied_to(Reach::Everything)));
        let refusals = Refusals::default();
        assert!(!goes_on(
            &refusals,
            object(1),
            &denied_to(Reach::Everything)
        ));
    }

    #[test]
    fn objects_that_are_not_there_say_nothing_of_others() {
        let refusals = Refusals::default();
        for number in 0..100 {
            let error = StoreError::NotFound {
                what: "an object".to_owned(),
            };
            refusals.refused(Request::Read, object(number), &error);
            assert!(refusals.others_may_pass(Request::Read, &error));
        }
    }

    #[test]
    fn a_full_store_concerns_everything_at_once() {
        let full = StoreError::Full {
            what: "storing".to_owned(),
            source: "507".into(),
        };
        assert!(!goes_on(&Refusals::default(), object(1), &full));
    }
}
