//! The keys that requests are signed with, asked for again before they expire.
//!
//! Keys come from the SDK's chain, which asks programs and services and is slow. They are kept here
//! for all requests of a store, including those that the SDK makes:
//!
//! - Keys with an end are renewed a little before it, by one caller at a time. The others sign with
//!   the old ones meanwhile, and so does everyone if renewing fails, until they have really ended.
//! - Keys that the server refuses are read anew from the sources ([`KeyRing::replace`]), whatever their expiry
//!   date is: they may have been changed in a file. All requests that were refused wait for one question to the
//!   sources, and the same keys are asked about once in [`AGAIN`].
//! - A program or service that gives keys and does not answer is waited for, for [`PATIENCE`].
//! - A caller that waited for a question that failed gets the same error, and does not ask once
//!   more.

#[cfg(test)]
mod tests;

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

/// How long the sources may take, retries included. Some keys come from a program that starts slowly and
/// asks a service; some services fail for a moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a file that had keys may be without them or malformed: not every program replaces a file
/// atomically.
const REWRITTEN: Duration = Duration::from_secs(3);

/// How long the sources are not asked again after they gave the refused keys once more.
const AGAIN: Duration = Duration::from_secs(5);

/// The wait before the sources are asked again: the first one, which is doubled each time, and the
/// longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// How long before their end keys are renewed, at most. Short-lived keys are renewed in the last
/// fifth of their life.
const EARLY: Duration = Duration::from_mins(1);

/// Keys in the form that signing needs.
pub(crate) struct Keys {
    pub(crate) identity: Identity,
    credentials: Credentials,
    renew_at: Option<SystemTime>,
    /// Whether a server ever accepted them.
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

    /// A server accepted them.
    pub(crate) fn work(&self) {
        // Written once, so that requests do not fight for the line of memory.
        if !self.worked.load(Ordering::Relaxed) {
            self.worked.store(true, Ordering::Relaxed);
        }
    }

    /// Whether these credentials are the same keys for a server.
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
    /// The clock that expiry dates are compared with.
    clock: Arc<Clock>,
    /// Locked for a few instructions.
    current: RwLock<Option<Arc<Keys>>>,
    /// Locked while the sources are asked.
    renewing: tokio::sync::Mutex<Asked>,
}

/// What came of the last questions to the sources.
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
                // Another caller is asking.
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
        // While the old keys are still valid, no request waits for new ones.
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

    /// The server refused these keys: reads the sources anew, and returns whether they have other keys now.
    /// Callers that come meanwhile wait for the same answer. The sources are not asked again for a while if they
    /// gave the same keys once more, or keys that no server has accepted yet, because a service may give new keys
    /// each time.
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
        // Changed files are read at once, since looking at them costs little.
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
                    "the server refuses the credentials, and there are no others"
                );
                false
            }
        }
    }

    /// Whether the files that keys come from have changed since they were read.
    pub(crate) fn may_be_old(&self) -> bool {
        self.0.source.has_changed()
    }

    /// Asks the sources once, on a thread that may block: some read files in async code, and a pipe or a disk that
    /// hangs would block the timer.
    async fn ask_once(&self, deadline: Instant) -> Result<Credentials, CredentialsError> {
        let source = Arc::clone(&self.0.source);
        let runtime = tokio::runtime::Handle::current();
        let asked = tokio::task::spawn_blocking(move || {
            // A source that does not block ends in time, and the thread with it.
            let asked = async { tokio::time::timeout_at(deadline, source.ask()).await };
            let late = |_| Err(CredentialsError::provider_timed_out(PATIENCE));
            runtime.block_on(asked).unwrap_or_else(late)
        });
        let ended = |error| Err(CredentialsError::unhandled(error));
        asked.await.unwrap_or_else(ended)
    }

    /// Asks the sources, and again if that may help. Requests are signed with the new keys from then on; if they
    /// are the refused ones once more, the old keys stay.
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
                    "there are no credentials yet; trying again for {} seconds",
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

/// For how long sources that fail are asked again.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// Programs and services, which may work again soon.
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
