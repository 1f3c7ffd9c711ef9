//! The keys that requests are signed with, asked for again before they expire.
//!
//! Where keys come from is the SDK's chain, which asks programs and services and is slow. What it
//! gave is kept here for all requests of a store, those that the SDK makes included:
//!
//! - Keys with an end are renewed a little before it, by one caller at a time. The others sign with
//!   the old ones meanwhile, and so does everyone if renewing fails, until they have really ended.
//! - Keys that the server says have expired are forgotten, whatever their own date says.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_runtime_api::client::identity::Identity;
use parking_lot::RwLock;

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
    /// Held for a few instructions.
    current: RwLock<Option<Arc<Keys>>>,
    renewing: tokio::sync::Mutex<()>,
}

impl KeyRing {
    pub(crate) fn new(chain: Option<SharedCredentialsProvider>) -> Self {
        Self(Arc::new(Ring {
            chain,
            current: RwLock::default(),
            renewing: tokio::sync::Mutex::default(),
        }))
    }

    /// Keys to sign with now.
    pub(crate) async fn get(&self) -> Result<Arc<Keys>, CredentialsError> {
        let now = SystemTime::now();
        let current = self.0.current.read().clone();
        let renewing = match current {
            Some(keys) if keys.are_fresh(now) => return Ok(keys),
            Some(keys) if !keys.have_ended(now) => match self.0.renewing.try_lock() {
                Ok(renewing) => renewing,
                // Someone else is at it.
                Err(_) => return Ok(keys),
            },
            _ => self.0.renewing.lock().await,
        };
        let now = SystemTime::now();
        let current = self.0.current.read().clone();
        if let Some(keys) = &current
            && keys.are_fresh(now)
        {
            return Ok(Arc::clone(keys));
        }
        let renewed = self.ask().await;
        drop(renewing);
        match (renewed, current) {
            (Ok(keys), _) => Ok(keys),
            (Err(error), Some(keys)) if !keys.have_ended(SystemTime::now()) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
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
        let keys = Arc::new(Keys::new(credentials, SystemTime::now()));
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
            let keys = self.get().await?;
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
        (KeyRing::new(Some(chain)), source)
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
