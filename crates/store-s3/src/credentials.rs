//! The keys that requests are signed with, asked for again before they expire.
//!
//! Where keys come from is the SDK's chain, which asks programs and services and is slow. What it
//! gave is kept here for all requests of a store, those that the SDK makes included:
//!
//! - Keys with an end are renewed a little before it, by one caller at a time. The others sign with
//!   the old ones meanwhile, and so does everyone if renewing fails, until they have really ended.
//! - Keys that the server says have expired are forgotten, whatever their own date says.
//! - Who waited while somebody asked in vain gets the same answer, and does not ask once more.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_runtime_api::client::identity::Identity;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::sign::Clock;

/// How long the chain may take. Some keys come from a program that asks a service and starts
/// slowly.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long before their end keys are renewed, at most. Short-lived keys are renewed in the last
/// fifth of their life.
const EARLY: Duration = Duration::from_mins(1);

/// Keys, as signing wants them.
pub(crate) struct Keys {
    pub(crate) identity: Identity,
    credentials: Credentials,
    renew_at: Option<SystemTime>,
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
        }
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
    chain: Option<SharedCredentialsProvider>,
    /// The time that ends go by.
    clock: Arc<Clock>,
    /// Held for a few instructions.
    current: RwLock<Option<Arc<Keys>>>,
    /// Held while the chain is asked; what was in vain.
    renewing: tokio::sync::Mutex<Option<InVain>>,
}

#[derive(Debug)]
struct InVain {
    at: Instant,
    error: Arc<CredentialsError>,
}

impl KeyRing {
    pub(crate) fn new(chain: Option<SharedCredentialsProvider>, clock: Arc<Clock>) -> Self {
        Self(Arc::new(Ring {
            chain,
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
        let mut renewing = match current {
            Some(keys) if keys.are_fresh(now) => return Ok(keys),
            Some(keys) if !keys.have_ended(now) => match self.0.renewing.try_lock() {
                Ok(renewing) => renewing,
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
        let renewed = match &*renewing {
            Some(in_vain) if in_vain.at > since => Err(Arc::clone(&in_vain.error)),
            _ => self.ask().await.map_err(Arc::new),
        };
        if let Err(error) = &renewed {
            *renewing = Some(InVain {
                at: Instant::now(),
                error: Arc::clone(error),
            });
        }
        drop(renewing);
        match (renewed, current) {
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

    /// The server says that these keys have expired: the next ones are asked for anew.
    pub(crate) fn refuse(&self, refused: &Arc<Keys>) {
        let mut current = self.0.current.write();
        if current
            .as_ref()
            .is_some_and(|keys| Arc::ptr_eq(keys, refused))
        {
            *current = None;
        }
    }

    async fn ask(&self) -> Result<Arc<Keys>, CredentialsError> {
        let Some(chain) = &self.0.chain else {
            return Err(CredentialsError::not_loaded("there is no place for them"));
        };
        let asked = tokio::time::timeout(PATIENCE, chain.provide_credentials()).await;
        let credentials =
            asked.map_err(|_late| CredentialsError::provider_timed_out(PATIENCE))??;
        let keys = Arc::new(Keys::new(credentials, self.0.clock.now()));
        *self.0.current.write() = Some(Arc::clone(&keys));
        Ok(keys)
    }
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Gives keys that live so long; the second time and later, none if it is broken.
    #[derive(Debug)]
    struct Source {
        life: Option<Duration>,
        breaks: bool,
        asked: AtomicUsize,
    }

    impl ProvideCredentials for Source {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            let answer = if self.breaks && asked > 0 {
                Err(CredentialsError::provider_error("broken"))
            } else {
                let end = self.life.map(|life| SystemTime::now() + life);
                Ok(Credentials::new("id", "secret", None, end, "test"))
            };
            future::ProvideCredentials::ready(answer)
        }
    }

    fn ring(life: Option<Duration>, breaks: bool) -> (KeyRing, Arc<Source>) {
        let source = Arc::new(Source {
            life,
            breaks,
            asked: AtomicUsize::new(0),
        });
        let chain =
            SharedCredentialsProvider::from(Arc::clone(&source) as Arc<dyn ProvideCredentials>);
        (KeyRing::new(Some(chain), Arc::default()), source)
    }

    #[tokio::test]
    async fn keys_without_an_end_are_asked_for_once() {
        let (ring, source) = ring(None, false);
        for _ in 0..10 {
            ring.get().await.unwrap();
        }
        assert_eq!(source.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn keys_that_the_server_refuses_are_asked_for_again_once() {
        let (ring, source) = ring(None, false);
        let keys = ring.get().await.unwrap();
        for _ in 0..10 {
            ring.refuse(&keys);
            ring.get().await.unwrap();
        }
        assert_eq!(source.asked.load(Ordering::Relaxed), 2);
    }

    /// Never answers.
    #[derive(Debug, Default)]
    struct Silent(AtomicUsize);

    impl ProvideCredentials for Silent {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            self.0.fetch_add(1, Ordering::Relaxed);
            future::ProvideCredentials::new(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_wait_for_keys_wait_once() {
        let source = Arc::new(Silent::default());
        let chain =
            SharedCredentialsProvider::from(Arc::clone(&source) as Arc<dyn ProvideCredentials>);
        let ring = KeyRing::new(Some(chain), Arc::default());
        let began = Instant::now();
        let all = futures::future::join_all((0..10).map(|_| ring.get())).await;
        assert!(all.iter().all(Result::is_err));
        assert_eq!(began.elapsed(), PATIENCE);
        assert_eq!(source.0.load(Ordering::Relaxed), 1);
        ring.get().await.unwrap_err();
        assert_eq!(source.0.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn keys_that_have_ended_are_never_given() {
        let (ring, source) = ring(Some(Duration::ZERO), true);
        ring.get().await.unwrap();
        ring.get().await.unwrap_err();
        assert_eq!(source.asked.load(Ordering::Relaxed), 2);
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
