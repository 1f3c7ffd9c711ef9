use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;

use super::*;

/// Gives keys that live this long; new ones each time if they rotate; none at the questions whose numbers
/// are in `fails`.
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

/// Blocks the asking thread until the other end of the channel is dropped.
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
async fn sources_that_give_refused_keys_again_are_not_asked_for_a_while() {
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
async fn many_refused_requests_ask_once_and_all_get_the_new_keys() {
    let (ring, source) = Source {
        rotates: true,
        ..Source::default()
    }
    .ring();
    let keys = ring.get().await.unwrap();
    let all = futures::future::join_all((0..10).map(|_| ring.replace(&keys))).await;
    assert!(all.iter().all(|others| *others));
    assert_eq!(source.asked(), 2);
    // Keys that no server has accepted yet are no reason to ask again at once; keys that worked
    // are.
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
async fn a_source_that_fails_for_a_while_is_asked_again_within_a_time() {
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
async fn many_callers_wait_for_one_question() {
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
        // Later callers wait for the same answer.
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
async fn expired_keys_are_never_used() {
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
