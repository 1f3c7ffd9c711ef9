//! Whether a small object is asked for before it is sent.
//!
//! Asking costs a round trip, and sending a small object costs one too. Where nearly everything is
//! missing, as in a first upload, asking first doubles the time and gains nothing; where much is there,
//! it saves the sending. So objects are asked for until [`EVIDENCE`] answers in a row say that at most one of
//! them was there. From then on small objects are sent unasked, but for one in [`PROBE`], whose answers go
//! on being counted: two that are there, and everything is asked for again.
//!
//! Sending what is there is harmless: an object is named by its bytes, so it is replaced by itself, and
//! counts as sent. It costs its bytes, and in a bucket that keeps versions an old version of it, until
//! the bucket's rules remove that. The evidence bounds this to a few in a hundred of the small objects.
//! After an upload that was broken off everything is asked for: what it had sent may lie anywhere.

/// How many of the last answers count.
const EVIDENCE: u32 = 32;

/// One of so many objects is asked for all the same.
const PROBE: u32 = 16;

/// What the store answered lately.
#[derive(Debug, Default)]
pub(super) struct Guess {
    /// The last answers, the newest in the lowest bit; set if the object was there.
    answers: u32,
    answered: u32,
    unasked: u32,
    asks_always: bool,
}

impl Guess {
    /// Asks for everything, whatever the answers.
    pub(super) fn always() -> Self {
        Self {
            asks_always: true,
            ..Self::default()
        }
    }

    /// Whether to ask for the next small object.
    pub(super) fn asks_first(&mut self) -> bool {
        if self.asks_always || self.answered < EVIDENCE || self.answers.count_ones() > 1 {
            return true;
        }
        self.unasked = (self.unasked + 1) % PROBE;
        self.unasked == 0
    }

    /// The store has an object, or not.
    pub(super) fn answered(&mut self, is_there: bool) {
        self.answers = self.answers << 1 | u32::from(is_there);
        self.answered = self.answered.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many objects, how many are asked for, if the store has those.
    fn asked(guess: &mut Guess, objects: u32, is_there: impl Fn(u32) -> bool) -> u32 {
        let mut asked = 0;
        for object in 0..objects {
            if guess.asks_first() {
                asked += 1;
                guess.answered(is_there(object));
            }
        }
        asked
    }

    #[test]
    fn where_everything_is_missing_one_in_sixteen_is_asked_for_after_the_first() {
        let mut guess = Guess::default();
        assert_eq!(asked(&mut guess, 32, |_| false), 32);
        assert_eq!(asked(&mut guess, 1600, |_| false), 100);
    }

    #[test]
    fn after_what_was_broken_off_everything_is_asked_for() {
        assert_eq!(asked(&mut Guess::always(), 1000, |_| false), 1000);
    }

    #[test]
    fn where_some_are_there_everything_is_asked_for() {
        let mut guess = Guess::default();
        assert_eq!(asked(&mut guess, 1000, |object| object % 10 == 0), 1000);
    }

    #[test]
    fn what_is_there_after_much_that_was_missing_is_noticed() {
        let mut guess = Guess::default();
        asked(&mut guess, 1000, |_| false);
        let mut sent_in_vain = 0;
        while !guess.asks_first() || {
            guess.answered(true);
            guess.answers.count_ones() < 2
        } {
            sent_in_vain += 1;
        }
        assert!(sent_in_vain <= 2 * PROBE, "{sent_in_vain}");
        assert_eq!(asked(&mut guess, 500, |_| true), 500);
    }
}
