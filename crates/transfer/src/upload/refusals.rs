//! Whether a failed request is one object's misfortune or everybody's.
//!
//! A store that refuses one object is no reason to keep the others from it. A store that refuses one
//! after the other will refuse the next as well: wrong credentials, no bucket, a network that is gone.
//! The two look alike in a single answer, so what counts is how many there were without a success in
//! between.

use attachfs_store::StoreError;
use parking_lot::Mutex;

/// So many failures in a row concern everything.
const MOST: u32 = 8;

/// What is asked of a store for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Whether it is there.
    Ask,
    /// To take it.
    Send,
}

/// The failures since the last success, each kind of request by itself: who may read may not be
/// allowed to write.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<[Streak; 2]>);

#[derive(Debug, Clone, Copy, Default)]
struct Streak {
    failures: u32,
    had_success: bool,
}

impl Refusals {
    pub(crate) fn answered(&self, request: Request) {
        self.0.lock()[request as usize] = Streak {
            failures: 0,
            had_success: true,
        };
    }

    /// Notes a failure, and says whether the others still have a chance.
    pub(crate) fn others_may_pass(&self, request: Request, error: &StoreError) -> bool {
        let is_of_the_file = matches!(
            error,
            StoreError::SourceChanged { .. } | StoreError::Source { .. }
        );
        if is_of_the_file {
            return true;
        }
        let mut streaks = self.0.lock();
        let streak = &mut streaks[request as usize];
        streak.failures += 1;
        streak.failures < MOST && !matches!(error, StoreError::Full { .. })
    }

    /// Whether there was never a success: then a failure is the store's, not the object's.
    pub(crate) fn never_passed(&self, request: Request) -> bool {
        !self.0.lock()[request as usize].had_success
    }
}

#[cfg(test)]
mod tests {
    use attachfs_store::Reach;

    use super::*;

    fn denied() -> StoreError {
        StoreError::Denied {
            what: "storing".to_owned(),
            advice: "no".to_owned(),
            reach: Reach::Unknown,
            source: "403".into(),
        }
    }

    #[test]
    fn failures_with_successes_between_them_are_single_ones() {
        let refusals = Refusals::default();
        for _ in 0..100 {
            assert!(refusals.others_may_pass(Request::Send, &denied()));
            refusals.answered(Request::Send);
        }
    }

    #[test]
    fn failures_in_a_row_concern_everything_whatever_else_succeeds() {
        let refusals = Refusals::default();
        let passed = (0..MOST).take_while(|_| {
            refusals.answered(Request::Ask);
            refusals.others_may_pass(Request::Send, &denied())
        });
        assert_eq!(passed.count() as u32, MOST - 1);
        assert!(refusals.never_passed(Request::Send));
    }

    #[test]
    fn a_full_store_concerns_everything_at_once() {
        let full = StoreError::Full {
            what: "storing".to_owned(),
            source: "507".into(),
        };
        assert!(!Refusals::default().others_may_pass(Request::Send, &full));
    }
}
