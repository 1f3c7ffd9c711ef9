//! What is tried again, how often, and after which wait. Decided here; done in [`crate::direct`].
//!
//! The rules are those of the SDK's standard mode, with its budget of tokens: each retry costs some, a
//! success gives them back, and a store against which everything fails soon stops asking twice. One
//! thing differs: *slow down* is not a failure but a request, which [`crate::concurrency`] grants. It
//! costs no tokens and no attempts, only time. And a short outage would use up all attempts at once,
//! so without a connection they go on for [`OUTAGE`].

use std::time::Duration;

use attachfs_store::Requests;
use aws_sdk_s3::config::retry::RetryConfig;
use parking_lot::Mutex;

/// What can be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It would fail again.
    Never,
    /// It may pass by itself.
    Later,
    /// There may be a connection later that does not break.
    Connected,
    /// The server asks for slower requests.
    Slower,
    /// The keys are not valid any more; others may be.
    NewKeys,
    /// The keys have no permission or are not valid, and the server does not say which. There may be new
    /// ones.
    ChangedKeys,
    /// The clocks differ too much.
    OtherTime,
}

/// S3's names for errors that ask for fewer requests.
const THROTTLING: [&str; 10] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "TooManyRequestsException",
    "ReduceYourRequestRate",
];

/// The names of S3 and similar servers for keys that are invalid or expired.
const INVALID: [&str; 10] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "AuthFailure",
    "NotSignedUp",
];

impl Again {
    /// What can be done about an answer that is an error. `code` is S3's name for it, or empty.
    pub(crate) fn after(status: u16, code: &str) -> Self {
        if THROTTLING.contains(&code) || status == 429 {
            return Self::Slower;
        }
        if INVALID.contains(&code) {
            return Self::NewKeys;
        }
        match (status, code) {
            // Asking again changes neither the bucket's region nor what the server supports.
            (501 | 505 | 507, _) => Self::Never,
            // 503 without a name is a proxy's or a server's way to say the same. The end of an upload in
            // parts is answered with 200 before it is known to fail.
            (503, "") | (_, "ServiceUnavailable") => Self::Slower,
            // Another conditional write to the key is under way: whether it wins will be known in a moment.
            (409, "ConditionalRequestConflict" | "OperationAborted")
            | (408 | 500..=599, _)
            | (_, "RequestTimeout" | "RequestTimeoutException" | "InternalError" | "BadDigest") => {
                Self::Later
            }
            // The answer to HEAD has no body, and so no name; S3 says 400 to keys that have expired.
            (400, "") => Self::NewKeys,
            (_, "RequestTimeTooSkewed" | "RequestExpired") => Self::OtherTime,
            // Some servers do not explain that they do not know the keys, and an answer to HEAD
            // cannot.
            (401 | 403, "AccessDenied" | "") => Self::ChangedKeys,
            _ => Self::Never,
        }
    }
}

/// How long a request is repeated that finds no connection, or whose connection breaks, whatever the
/// number of attempts.
const OUTAGE: Duration = Duration::from_secs(10);

/// The tokens that the SDK begins with, and what they buy. It makes one request at a time; a store
/// whose requests all fail together has some for each of them.
const TOKENS: u32 = 500;
const TOKENS_A_REQUEST: u32 = 3 * COST;
const COST: u32 = 5;
const REWARD: u32 = 1;

/// How often and after which wait a store's requests are repeated.
#[derive(Debug)]
pub(crate) struct Retries {
    /// All requests of the store, first and repeated ones.
    pub(crate) requests: Requests,
    attempts: u32,
    first: Duration,
    longest: Duration,
    /// Held for a few instructions.
    tokens: Mutex<u32>,
    most_tokens: u32,
}

impl Retries {
    /// For this many requests at a time.
    pub(crate) fn new(config: &RetryConfig, at_once: usize) -> Self {
        let at_once = u32::try_from(at_once).unwrap_or(u32::MAX);
        let most_tokens = TOKENS.max(at_once.saturating_mul(TOKENS_A_REQUEST));
        Self {
            requests: Requests::default(),
            attempts: config.max_attempts().max(1),
            first: config.initial_backoff(),
            longest: config.max_backoff(),
            tokens: Mutex::new(most_tokens),
            most_tokens,
        }
    }

    /// A request succeeded, after this many failed attempts.
    pub(crate) fn succeeded(&self, failed: u32) {
        let mut tokens = self.tokens.lock();
        let won = if failed > 0 { COST } else { REWARD };
        *tokens = tokens.saturating_add(won).min(self.most_tokens);
    }

    /// How long to wait before the next attempt, after this many failures and this time without a
    /// connection. `None`: there is no next attempt.
    pub(crate) fn wait(
        &self,
        again: Again,
        failed: u32,
        throttled: u32,
        outage: Duration,
    ) -> Option<Duration> {
        match again {
            Again::NewKeys | Again::OtherTime => Some(Duration::ZERO),
            Again::Slower if self.attempts > 1 => Some(self.back_off(throttled)),
            Again::Connected if self.attempts > 1 => {
                let wait = self.back_off(failed);
                (failed < self.attempts || outage + wait < OUTAGE).then_some(wait)
            }
            // A search for other keys found none.
            Again::Never | Again::ChangedKeys | Again::Slower | Again::Connected => None,
            Again::Later => {
                if failed >= self.attempts {
                    return None;
                }
                let mut tokens = self.tokens.lock();
                *tokens = tokens.checked_sub(COST)?;
                Some(self.back_off(failed))
            }
        }
    }

    /// A random time between half and all of a wait that doubles with each failure, so that requests
    /// that failed together are not repeated together.
    fn back_off(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1).min(30));
        let most = self.first.saturating_mul(doubled.unwrap_or(u32::MAX));
        most.min(self.longest).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(attempts: u32) -> Retries {
        Retries::new(&RetryConfig::standard().with_max_attempts(attempts), 1)
    }

    #[test]
    fn answers_are_told_apart_by_what_can_be_done() {
        for (status, code, again) in [
            (503, "SlowDown", Again::Slower),
            (503, "", Again::Slower),
            (429, "", Again::Slower),
            (400, "RequestLimitExceeded", Again::Slower),
            (200, "ServiceUnavailable", Again::Slower),
            (200, "InternalError", Again::Later),
            (500, "InternalError", Again::Later),
            (502, "", Again::Later),
            (408, "", Again::Later),
            (400, "RequestTimeout", Again::Later),
            (403, "ExpiredToken", Again::NewKeys),
            (400, "ExpiredToken", Again::NewKeys),
            (400, "", Again::NewKeys),
            (403, "InvalidAccessKeyId", Again::NewKeys),
            (403, "SignatureDoesNotMatch", Again::NewKeys),
            (403, "", Again::ChangedKeys),
            (409, "ConditionalRequestConflict", Again::Later),
            (409, "BucketAlreadyExists", Again::Never),
            (403, "RequestTimeTooSkewed", Again::OtherTime),
            (403, "AccessDenied", Again::ChangedKeys),
            (404, "NoSuchKey", Again::Never),
            (404, "", Again::Never),
            (301, "PermanentRedirect", Again::Never),
            (501, "NotImplemented", Again::Never),
            (507, "", Again::Never),
        ] {
            assert_eq!(Again::after(status, code), again, "{status} {code}");
        }
    }

    #[test]
    fn a_request_is_made_as_often_as_the_configuration_says() {
        let retries = retries(3);
        assert!(retries.wait(Again::Later, 1, 0, Duration::ZERO).is_some());
        assert!(retries.wait(Again::Later, 2, 0, Duration::ZERO).is_some());
        assert!(retries.wait(Again::Later, 3, 0, Duration::ZERO).is_none());
        assert!(retries.wait(Again::Never, 1, 0, Duration::ZERO).is_none());
    }

    #[test]
    fn waits_grow_and_are_never_longer_than_twenty_seconds() {
        let retries = retries(100);
        for failures in 0..100 {
            let most = Duration::from_secs(1_u64 << failures.min(5)).min(Duration::from_secs(20));
            let wait = retries.back_off(failures + 1);
            assert!(wait >= most / 2 && wait <= most, "{wait:?}");
        }
    }

    #[test]
    fn without_a_connection_time_counts_and_not_attempts() {
        let retries = retries(3);
        let at = |failed, outage| {
            let outage = Duration::from_secs(outage);
            retries.wait(Again::Connected, failed, 0, outage).is_some()
        };
        assert!(at(2, 100) && at(4, 1) && !at(4, 10));
    }

    #[test]
    fn many_requests_at_a_time_may_all_be_made_again() {
        let retries = Retries::new(&RetryConfig::standard(), 128);
        for _ in 0..2 * 128 {
            let wait = retries.wait(Again::Later, 1, 0, Duration::ZERO);
            assert!(wait.is_some());
        }
    }

    #[test]
    fn a_store_where_everything_fails_is_not_asked_twice() {
        let retries = retries(3);
        let tried =
            (0..1000).filter(|_| retries.wait(Again::Later, 1, 0, Duration::ZERO).is_some());
        assert_eq!(tried.count(), 100);
        retries.succeeded(1);
        assert!(retries.wait(Again::Later, 1, 0, Duration::ZERO).is_some());
    }

    #[test]
    fn slow_down_costs_neither_attempts_nor_tokens() {
        let retries = retries(2);
        for throttled in 1..1000 {
            assert!(
                retries
                    .wait(Again::Slower, 0, throttled, Duration::ZERO)
                    .is_some()
            );
        }
        assert!(retries.wait(Again::Later, 1, 0, Duration::ZERO).is_some());
    }
}
