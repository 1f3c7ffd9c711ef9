//! Stores that fail or hang.

use std::error::Error as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;

#[test]
fn a_listing_that_fails_is_an_error_with_its_cause_and_is_asked_for_again() {
    run(async {
        let store = Arc::new(Slow::default());
        store.publish_file(FIRST, "f", "text").await;
        store.fails.store(true, Ordering::Relaxed);
        let client = Client::over(&store);
        for path in ["latest", "by-step", "by-time"] {
            let error = client.entries(path).await.unwrap_err();
            assert_eq!(error.kind(), FsErrorKind::Io, "{path}");
            assert_eq!(error.path(), Some(path));
            let cause = error.source().unwrap().source().unwrap();
            assert_eq!(cause.to_string(), "the test pulled the plug");
        }
        let error = client.find("latest/project").await.unwrap_err();
        assert_eq!(error.kind(), FsErrorKind::Io);
        store.fails.store(false, Ordering::Relaxed);
        assert_eq!(client.ls("latest/project").await, ["f"]);
    });
}

#[test]
fn an_earlier_listing_is_shown_while_the_store_fails() {
    run(async {
        let store = Arc::new(Slow::default());
        store.publish_file(FIRST, "f", "text").await;
        let client = Client::over(&store);
        client.ls("latest/project").await;
        store.fails.store(true, Ordering::Relaxed);
        for wait in [REFRESH, REFRESH * 3, Duration::from_hours(5)] {
            tokio::time::sleep(wait).await;
            assert_eq!(client.ls("latest/project").await, ["f"]);
        }
        store.fails.store(false, Ordering::Relaxed);
        let made = Made {
            task: Some(1),
            run: 2,
            ..FIRST
        };
        store.publish_file(made, "g", "text").await;
        tokio::time::sleep(REFRESH).await;
        assert_eq!(client.ls("latest/project").await, ["f", "g"]);
    });
}

#[test]
fn a_manifest_that_cannot_be_read_fails_what_needs_it_alone() {
    run(async {
        let store = Arc::new(Slow::default());
        store.publish_file(FIRST, "f", "text").await;
        let bad = Made {
            task: Some(1),
            run: 2,
            ..FIRST
        };
        store
            .publish_bytes(bad, b"{\"no\":\"manifest\"}".to_vec())
            .await;
        let client = Client::over(&store);
        let error = client.entries("latest/project").await.unwrap_err();
        assert_eq!(error.kind(), FsErrorKind::Io);
        assert!(error.to_string().contains(bad.key().as_str()), "{error}");
        let good = format!("by-step/{}/{}/project", step(1), task(1, 0));
        assert_eq!(client.ls(&good).await, ["f"]);
    });
}

#[test]
fn a_store_that_hangs_is_an_error_after_the_deadline() {
    run(async {
        let store = Arc::new(Slow::default());
        store.publish_file(FIRST, "f", "text").await;
        store.hangs.store(true, Ordering::Relaxed);
        let client = Client::over(&store);
        let begun = tokio::time::Instant::now();
        let error = client.entries("latest").await.unwrap_err();
        assert_eq!(error.kind(), FsErrorKind::Io);
        assert!(begun.elapsed() <= Duration::from_secs(61));
        let source = error.source().unwrap().to_string();
        assert!(source.contains("did not answer within 60s"), "{source}");
    });
}
