//! The keys that requests are signed with, asked for again before they expire.
//!
//! Where keys come from is the SDK's chain, which asks programs and services and is slow. What it
//! gave is kept here for all requests of a store, those that the SDK makes included:
//!
//! - Keys with an end are renewed a little before it, by one caller at a time. The others sign with
//!   the old ones meanwhile, and so does everyone if renewing fails, until they have really ended.
//! - Keys that the server does not take any more are replaced by what the sources say now ([`KeyRing::replace`]),
//!   whatever their own date says: somebody may have changed them in a file. Everyone whose request was refused
//!   waits for the one who asks, and all together ask about the same keys once in [`AGAIN`].
//! - A program or a service that gives keys and does not answer is waited for, [`PATIENCE`] long.
//! - Who waited while somebody asked in vain gets the same answer, and does not ask once more.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_runtime_api::client::identity::Identity;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::sign::Clock;
use crate::sources::KeySource;

/// How long the sources may take, together with being asked again. Some keys come from a program that asks a
/// service and starts slowly; some services are away for a moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a file may be without keys, or make no sense, that had some. Not everybody replaces a file at once.
const REWRITTEN: Duration = Duration::from_secs(3);

/// For so long keys that were refused, and found to be the same still, are not asked for again.
const AGAIN: Duration = Duration::from_secs(5);

/// The waits between two questions: the first, which is doubled, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// How long before their end keys are renewed, at most. Short-lived keys are renewed in the last
/// fifth of their life.
const EARLY: Duration = Duration::from_mins(1);

/// Keys, as signing wants them.
pub(crate) struct Keys {
    pub(crate) identity: Identity,
    credentials: Credentials,
    renew_at: Option<SystemTime>,
    /// Whether a server ever took them.
    worked: AtomicBool,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("renew_at", &self.renew_at)
            .finish_non_exhaustive()
    }
}

impl Keys {
    fn new(credentials: Credentials, now: SystemTime) -> Self {
        Self {
            identity: credentials.clone().into(),
            renew_at: credentials.expiry().map(|end| renew_at(end, now)),
            credentials,
            worked: AtomicBool::new(false),
        }
    }

    /// A server took them.
    pub(crate) fn work(&self) {
        // Written once, so that requests do not fight for the line of memory.
        if !self.worked.load(Ordering::Relaxed) {
            self.worked.store(true, Ordering::Relaxed);
        }
    }

    /// Whether these are the same to a server.
    fn are(&self, other: &Credentials) -> bool {
        let own = &self.credentials;
        own.access_key_id() == other.access_key_id()
            && own.secret_access_key() == other.secret_access_key()
            && own.session_token() == other.session_token()
    }

    fn are_fresh(&self, now: SystemTime) -> bool {
        self.renew_at.is_none_or(|at| now < at)
    }

    fn have_ended(&self, now: SystemTime) -> bool {
        self.credentials.expiry().is_some_and(|end| end <= now)
    }
}

fn renew_at(end: SystemTime, now: SystemTime) -> SystemTime {
    let left = end.duration_since(now).unwrap_or_default();
    now + (left.saturating_sub(EARLY)).max(left / 5 * 4)
}

/// The keys of a store. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct KeyRing(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    source: Arc<dyn KeySource>,
    /// The time that ends go by.
    clock: Arc<Clock>,
    /// Held for a few instructions.
    current: RwLock<Option<Arc<Keys>>>,
    /// Held while the sources are asked.
    renewing: tokio::sync::Mutex<Asked>,
}

/// What became of questions.
#[derive(Debug, Default)]
struct Asked {
    in_vain: Option<InVain>,
    /// Which keys were refused when the sources were last asked for others, and when.
    refused: Option<(Instant, Arc<Keys>)>,
}

#[derive(Debug)]
struct InVain {
    at: Instant,
    error: Arc<CredentialsError>,
}

impl KeyRing {
    pub(crate) fn new(source: Arc<dyn KeySource>, clock: Arc<Clock>) -> Self {
        Self(Arc::new(Ring {
            source,
            clock,
            current: RwLock::default(),
            renewing: tokio::sync::Mutex::default(),
        }))
    }

    /// Keys to sign with now.
    pub(crate) async fn get(&self) -> Result<Arc<Keys>, Arc<CredentialsError>> {
        let now = self.0.clock.now();
        let current = self.0.current.read().clone();
        let since = Instant::now();
        let mut asked = match current {
            Some(keys) if keys.are_fresh(now) => return Ok(keys),
            Some(keys) if !keys.have_ended(now) => match self.0.renewing.try_lock() {
                Ok(asked) => asked,
                // Someone else is at it.
                Err(_) => return Ok(keys),
            },
            _ => self.0.renewing.lock().await,
        };
        let current = self.0.current.read().clone();
        if let Some(keys) = &current
            && keys.are_fresh(self.0.clock.now())
        {
            return Ok(Arc::clone(keys));
        }
        // Who still has keys does not hold up a request for others.
        let usable = current
            .as_ref()
            .is_some_and(|keys| !keys.have_ended(self.0.clock.now()));
        let waiting = match (usable, &current) {
            (true, _) => Waiting::NO,
            (false, None) => Waiting::FOR_SERVICES,
            (false, Some(_)) => Waiting::FOR_FILES_TOO,
        };
        let asked_now = match &asked.in_vain {
            Some(in_vain) if in_vain.at > since => Err(Arc::clone(&in_vain.error)),
            Some(in_vain) if usable && in_vain.at.elapsed() < AGAIN => {
                return current.ok_or_else(|| Arc::clone(&in_vain.error));
            }
            _ => {
                let answer = self.ask(waiting, None).await.map_err(Arc::new);
                asked.in_vain = answer.as_ref().err().map(|error| InVain {
                    at: Instant::now(),
                    error: Arc::clone(error),
                });
                answer
            }
        };
        drop(asked);
        match (asked_now, current) {
            (Ok(keys), _) => Ok(keys),
            (Err(error), Some(keys)) if !keys.have_ended(self.0.clock.now()) => {
                tracing::warn!(
                    error = &*error as &dyn std::error::Error,
                    "the credentials could not be renewed; they are used until they end"
                );
                Ok(keys)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The server does not take these keys any more: the sources are read anew. Says whether there are others
    /// now. Whoever comes while somebody asks waits for the answer; keys that are the same still are not asked
    /// for again for a while, and neither are keys that were never taken, for a service may give others each time.
    pub(crate) async fn replace(&self, refused: &Arc<Keys>) -> bool {
        let mut asked = self.0.renewing.lock().await;
        let current = self.0.current.read().clone();
        if current.is_some_and(|keys| !Arc::ptr_eq(&keys, refused)) {
            return true;
        }
        let is_known = asked.refused.as_ref().is_some_and(|(at, keys)| {
            let is_recent = at.elapsed() < AGAIN;
            is_recent && (Arc::ptr_eq(keys, refused) || !refused.worked.load(Ordering::Relaxed))
        });
        // Files that have changed are another matter, and looking at them costs little.
        if is_known && !self.may_be_old() {
            return false;
        }
        let found = self.ask(Waiting::FOR_FILES_TOO, Some(refused)).await;
        asked.refused = Some((Instant::now(), Arc::clone(refused)));
        match found {
            Ok(keys) => !Arc::ptr_eq(&keys, refused),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the server does not take the credentials any more, and there are no others"
                );
                false
            }
        }
    }

    /// Whether the files that keys come from have changed since they were read.
    pub(crate) fn may_be_old(&self) -> bool {
        self.0.source.has_changed()
    }

    /// Asks the sources once, on a thread that may wait: some read files where they should not block, and a pipe or
    /// a disk that hangs would keep the time limit from being seen.
    async fn ask_once(&self, deadline: Instant) -> Result<Credentials, CredentialsError> {
        let source = Arc::clone(&self.0.source);
        let runtime = tokio::runtime::Handle::current();
        let asked = tokio::task::spawn_blocking(move || {
            // One that does not block ends in time, and the thread with it.
            let asked = async { tokio::time::timeout_at(deadline, source.ask()).await };
            let late = |_| Err(CredentialsError::provider_timed_out(PATIENCE));
            runtime.block_on(asked).unwrap_or_else(late)
        });
        let ended = |error| Err(CredentialsError::unhandled(error));
        asked.await.unwrap_or_else(ended)
    }

    /// Asks the sources, again if it may help. What they give is what is signed with from then on, except for the
    /// same keys once more.
    async fn ask(
        &self,
        waiting: Waiting,
        refused: Option<&Arc<Keys>>,
    ) -> Result<Arc<Keys>, CredentialsError> {
        let began = Instant::now();
        let mut wait = FIRST_WAIT;
        let credentials = loop {
            let deadline = began + PATIENCE;
            let asked = tokio::time::timeout_at(deadline, self.ask_once(deadline)).await;
            let error = match asked {
                Err(_late) => return Err(CredentialsError::provider_timed_out(PATIENCE)),
                Ok(Ok(credentials)) => break credentials,
                Ok(Err(error)) => error,
            };
            let patience = if self.0.source.may_pass(&error) {
                waiting.for_services
            } else {
                waiting.for_files
            };
            if began.elapsed() + wait >= patience {
                return Err(error);
            }
            if wait == FIRST_WAIT {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "credentials do not come; they are asked for again, for {} seconds",
                    patience.as_secs()
                );
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        };
        if let Some(refused) = refused
            && refused.are(&credentials)
        {
            return Ok(Arc::clone(refused));
        }
        let keys = Arc::new(Keys::new(credentials, self.0.clock.now()));
        *self.0.current.write() = Some(Arc::clone(&keys));
        Ok(keys)
    }
}

/// How long sources that fail are asked again.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// Programs and services that may be back soon.
    for_services: Duration,
    /// Everything else: files.
    for_files: Duration,
}

impl Waiting {
    const NO: Self = Self {
        for_services: Duration::ZERO,
        for_files: Duration::ZERO,
    };
    const FOR_SERVICES: Self = Self {
        for_services: PATIENCE,
        for_files: Duration::ZERO,
    };
    const FOR_FILES_TOO: Self = Self {
        for_services: PATIENCE,
        for_files: REWRITTEN,
    };
}

/// For the requests that the SDK makes.
impl ProvideCredentials for KeyRing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let keys = self.get().await.map_err(CredentialsError::provider_error)?;
            Ok(keys.credentials.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;

    use super::*;

    /// Gives keys that live so long, others each time if they rotate; none when it was asked so often before.
    #[derive(Debug, Default)]
    struct Source {
        life: Option<Duration>,
        rotates: bool,
        changed: AtomicBool,
        fails: std::ops::Range<usize>,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl KeySource for Source {
        async fn ask(&self) -> Result<Credentials, CredentialsError> {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            if self.fails.contains(&asked) {
                return Err(CredentialsError::provider_error("broken"));
            }
            let end = self.life.map(|life| SystemTime::now() + life);
            let id = if self.rotates { asked } else { 0 };
            Ok(Credentials::new(
                format!("id{id}"),
                "secret",
                None,
                end,
                "test",
            ))
        }

        fn has_changed(&self) -> bool {
            self.changed.load(Ordering::Relaxed)
        }

        fn may_pass(&self, error: &CredentialsError) -> bool {
            matches!(error, CredentialsError::ProviderError(_))
        }
    }

    impl Source {
        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }

        fn ring(self) -> (KeyRing, Arc<Self>) {
            let source = Arc::new(self);
            let ring = KeyRing::new(Arc::clone(&source) as Arc<dyn KeySource>, Arc::default());
            (ring, source)
        }
    }

    /// Keeps the thread that asks until the other end of the channel goes.
    #[derive(Debug)]
    struct Hanging {
        asked: AtomicBool,
        end: parking_lot::Mutex<std::sync::mpsc::Receiver<()>>,
    }

    #[async_trait]
    impl KeySource for Hanging {
        async fn ask(&self) -> Result<Credentials, CredentialsError> {
            self.asked.store(true, Ordering::Relaxed);
            let _ended = self.end.lock().recv();
            Err(CredentialsError::not_loaded("nothing came"))
        }

        fn has_changed(&self) -> bool {
            false
        }

        fn may_pass(&self, _error: &CredentialsError) -> bool {
            false
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_blocks_its_thread_is_given_up_in_time() {
        let (end, hanging) = std::sync::mpsc::channel();
        let source = Arc::new(Hanging {
            asked: AtomicBool::new(false),
            end: parking_lot::Mutex::new(hanging),
        });
        let ring = KeyRing::new(Arc::clone(&source) as Arc<dyn KeySource>, Arc::default());
        let asking = tokio::spawn(get(ring));
        while !source.asked.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(PATIENCE).await;
        let error = asking.await.unwrap().unwrap_err();
        assert!(
            matches!(*error, CredentialsError::ProviderTimedOut(_)),
            "{error:?}"
        );
        drop(end);
    }

    #[tokio::test]
    async fn keys_without_an_end_are_asked_for_once() {
        let (ring, source) = Source::default().ring();
        for _ in 0..10 {
            ring.get().await.unwrap();
        }
        assert_eq!(source.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_keys_that_are_the_same_still_are_not_asked_for_again_for_a_while() {
        let (ring, source) = Source::default().ring();
        let keys = ring.get().await.unwrap();
        keys.work();
        for _ in 0..10 {
            assert!(!ring.replace(&keys).await);
        }
        assert_eq!(source.asked(), 2);
        assert!(Arc::ptr_eq(&ring.get().await.unwrap(), &keys));
        tokio::time::sleep(AGAIN).await;
        assert!(!ring.replace(&keys).await);
        assert_eq!(source.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn many_whose_keys_were_refused_together_ask_once_and_all_get_the_others() {
        let (ring, source) = Source {
            rotates: true,
            ..Source::default()
        }
        .ring();
        let keys = ring.get().await.unwrap();
        let all = futures::future::join_all((0..10).map(|_| ring.replace(&keys))).await;
        assert!(all.iter().all(|others| *others));
        assert_eq!(source.asked(), 2);
        // Keys that no server has taken yet are no reason to ask again at once; keys that worked are.
        let other = ring.get().await.unwrap();
        assert!(!ring.replace(&other).await);
        assert_eq!(source.asked(), 2);
        other.work();
        assert!(ring.replace(&other).await);
        assert_eq!(source.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_have_changed_are_read_at_once() {
        let (ring, source) = Source::default().ring();
        let keys = ring.get().await.unwrap();
        assert!(!ring.replace(&keys).await);
        source.changed.store(true, Ordering::Relaxed);
        assert!(!ring.replace(&keys).await);
        assert_eq!(source.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_fails_for_a_while_is_waited_for_and_one_that_goes_on_is_not() {
        let (ring, source) = Source {
            fails: 0..6,
            ..Source::default()
        }
        .ring();
        ring.get().await.unwrap();
        assert_eq!(source.asked(), 7);
        let (ring, source) = Source {
            fails: 0..usize::MAX,
            ..Source::default()
        }
        .ring();
        let began = Instant::now();
        ring.get().await.unwrap_err();
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        assert!(source.asked() > 6);
    }

    /// Never answers.
    #[derive(Debug, Default)]
    struct Silent(AtomicUsize);

    #[async_trait]
    impl KeySource for Silent {
        async fn ask(&self) -> Result<Credentials, CredentialsError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }

        fn has_changed(&self) -> bool {
            false
        }

        fn may_pass(&self, _: &CredentialsError) -> bool {
            true
        }
    }

    async fn get(ring: KeyRing) -> Result<(), Arc<CredentialsError>> {
        ring.get().await.map(drop)
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_wait_for_keys_wait_once() {
        let source = Arc::new(Silent::default());
        let ring = KeyRing::new(Arc::clone(&source) as Arc<dyn KeySource>, Arc::default());
        let asked = || source.0.load(Ordering::Relaxed);
        for (times, callers) in [(1, 10), (2, 1)] {
            let waiting: Vec<_> = (0..callers)
                .map(|_| tokio::spawn(get(ring.clone())))
                .collect();
            while asked() < times {
                tokio::task::yield_now().await;
            }
            // Those who come later wait for the same answer.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            tokio::time::advance(PATIENCE).await;
            for one in waiting {
                one.await.unwrap().unwrap_err();
            }
            assert_eq!(asked(), times);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_have_ended_are_never_given() {
        let (ring, source) = Source {
            life: Some(Duration::ZERO),
            fails: 1..usize::MAX,
            ..Source::default()
        }
        .ring();
        ring.get().await.unwrap();
        ring.get().await.unwrap_err();
        assert!(source.asked() >= 2);
    }

    #[test]
    fn keys_are_renewed_a_minute_before_their_end_or_in_the_last_fifth() {
        let now = SystemTime::now();
        for (life, renewed) in [(3600, 3540), (600, 540), (100, 80), (10, 8)] {
            let end = now + Duration::from_secs(life);
            assert_eq!(renew_at(end, now), now + Duration::from_secs(renewed));
        }
    }
}
