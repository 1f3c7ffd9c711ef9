//! Slow servers, crowded servers, and limits of one's own.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_slow_down_fails_nothing_and_makes_requests_fewer() {
    let bench = Bench::new().await;
    let options = S3Options {
        first_wait: Duration::from_millis(5),
        access: S3Access {
            max_connections: NonZeroU32::new(16),
            ..bench.options().access
        },
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    let slow_down = Mishap::Error {
        status: 503,
        code: "SlowDown",
    };
    bench.server.add(Rule::on("PUT", slow_down).times(120));
    let puts = (1..=32).map(|len| {
        let store = store.clone();
        async move {
            let (hash, bytes) = content(len);
            store.put(hash, Payload::Bytes(bytes)).await
        }
    });
    for put in futures::future::join_all(puts).await {
        put.unwrap();
    }
    assert_eq!(bench.count("PUT", ""), 120 + 32);
    assert!(store.direct.concurrency.limit() < 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_says_slow_down_is_given_up_in_time() {
    let bench = Bench::new().await;
    let options = S3Options {
        operation_timeout: Duration::from_millis(300),
        first_wait: Duration::from_millis(10),
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    bench.server.add(Rule::always(Mishap::Error {
        status: 503,
        code: "SlowDown",
    }));
    let error = store.get(ContentHash::of(b""), 0..1).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(text_of(&error).contains("SlowDown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_crawls_is_given_up_with_the_reason() {
    let bench = Bench::new().await;
    let options = S3Options {
        min_rate_window: Duration::from_millis(300),
        access: S3Access {
            min_rate: Some(50_000),
            ..bench.options().access
        },
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    let (hash, _) = put(&bench.store().await, 70_000).await;
    let trickle = Mishap::Trickle {
        bytes_per_second: 10_000,
    };
    bench.server.add(Rule::on("GET", trickle));
    let error = store.get(hash, 0..70_000).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(
        text_of(&error).contains("--min-rate"),
        "{}",
        text_of(&error)
    );
    assert_eq!(bench.count("GET", ""), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_above_the_least_rate_arrives() {
    let bench = Bench::new().await;
    let options = S3Options {
        min_rate_window: Duration::from_secs(2),
        operation_timeout: Duration::from_secs(2),
        attempt_timeout: Duration::from_secs(2),
        access: S3Access {
            min_rate: Some(1_000),
            ..bench.options().access
        },
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    let (hash, bytes) = put(&bench.store().await, 10_000).await;
    // It takes much longer than a request may be without an answer.
    let trickle = Mishap::Trickle {
        bytes_per_second: 2_500,
    };
    bench.server.add(Rule::on("GET", trickle));
    assert_eq!(store.get(hash, 0..10_000).await.unwrap().bytes, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_reads_is_given_up() {
    let bench = Bench::new().await;
    let options = S3Options {
        max_attempts: Some(1),
        stall_timeout: Duration::from_millis(300),
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    bench.server.add(Rule::on("PUT", Mishap::Silence));
    // More than fits into the buffers on the way.
    let (hash, bytes) = content(16 << 20);
    let error = store.put(hash, Payload::Bytes(bytes)).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(text_of(&error).contains("too slow"), "{}", text_of(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_reads_is_given_up_within_a_limit_of_bandwidth_too() {
    let bench = Bench::new().await;
    let options = S3Options {
        max_attempts: Some(1),
        stall_timeout: Duration::from_millis(300),
        access: S3Access {
            max_bandwidth: NonZeroU64::new(20_000_000),
            ..bench.options().access
        },
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    bench.server.add(Rule::on("PUT", Mishap::Silence));
    let (hash, bytes) = content(16 << 20);
    let error = store.put(hash, Payload::Bytes(bytes)).await.unwrap_err();
    assert!(text_of(&error).contains("too slow"), "{}", text_of(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_outage_fails_nothing() {
    let bench = Bench::new().await;
    let options = S3Options {
        first_wait: Duration::from_millis(5),
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    bench.server.add(Rule::on("PUT", Mishap::Close).times(6));
    put(&store, 100).await;
    assert_eq!(bench.count("PUT", ""), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_via_the_sdk_survive_a_storm_and_an_outage_too() {
    let bench = Bench::new().await;
    let options = S3Options {
        first_wait: Duration::from_millis(2),
        access: S3Access {
            max_connections: NonZeroU32::new(16),
            ..bench.options().access
        },
        ..bench.options()
    };
    let slow_down = Mishap::Error {
        status: 503,
        code: "SlowDown",
    };
    for mishap in [slow_down, Mishap::Close] {
        let store = S3Store::connect(options.clone()).await.unwrap();
        let is_storm = matches!(mishap, Mishap::Error { .. });
        let key: ManifestKey = format!("m{is_storm}").parse().unwrap();
        let trouble = |method, part| Rule::on(method, mishap.clone()).of(part).times(6);
        bench.server.add(trouble("PUT", key.as_str()));
        bench.server.add(trouble("GET", key.as_str()));
        bench.server.add(trouble("GET", "list-type=2"));
        bench.server.add(trouble("POST", "uploads"));
        bench.server.add(trouble("POST", "uploadId="));
        let (bytes, said) = (Bytes::from_static(b"1"), Metadata::new());
        let written = store.put_manifest_if_absent(&key, bytes, &said).await;
        assert_eq!(written.unwrap(), PutOutcome::Created);
        assert_eq!(store.get_manifest(&key).await.unwrap().bytes, "1");
        store.list(&Folder::Data, None).await.unwrap();
        put(&store, 17 << 20).await;
        // Each was asked seven times.
        assert_eq!(
            bench.count("POST", "uploadId="),
            if is_storm { 7 } else { 14 }
        );
        assert_eq!(store.direct.concurrency.limit() < 16, is_storm);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_bandwidth_holds_for_both_directions_together() {
    let bench = Bench::new().await;
    let options = S3Options {
        // Waiting for one's own limit is not slowness.
        stall_timeout: Duration::from_secs(1),
        min_rate_window: Duration::from_secs(1),
        access: S3Access {
            max_bandwidth: NonZeroU64::new(100_000),
            min_rate: Some(1_000_000_000),
            ..bench.options().access
        },
        ..bench.options()
    };
    let slow = S3Store::connect(options).await.unwrap();
    let (hash, bytes) = put(&bench.store().await, 200_000).await;
    let begun = Instant::now();
    let (put, got) = tokio::join!(
        slow.put(hash, Payload::Bytes(bytes.clone())),
        slow.get(hash, 0..200_000)
    );
    put.unwrap();
    assert_eq!(got.unwrap().bytes, bytes);
    // 400,000 bytes, less a burst.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(3200), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_are_under_way_than_connections_are_allowed() {
    let bench = Bench::new().await;
    let options = S3Options {
        access: S3Access {
            max_connections: NonZeroU32::new(2),
            ..bench.options().access
        },
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    bench.server.add(Rule::on("GET", Mishap::Silence));
    let gets: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.get(ContentHash::of(b""), 0..1).await })
        })
        .collect();
    bench.server.wait_for(|requests| requests.len() == 2).await;
    // If the two waiting requests had been sent, they would be here by now, because the request of
    // another store is.
    let other = bench.store().await;
    let (hash, bytes) = content(10);
    other.put(hash, Payload::Bytes(bytes)).await.unwrap();
    assert_eq!(bench.count("GET", ""), 2);
    for get in gets {
        get.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_that_is_put_slowly_takes_its_time_and_others_do_not() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let slowed = store.slowed(NonZeroU64::new(1_000_000).unwrap()).unwrap();
    let (hash, bytes) = content(500_000);
    let since = std::time::Instant::now();
    slowed
        .put(hash, Payload::Bytes(bytes.clone()))
        .await
        .unwrap();
    let took = since.elapsed();
    // A tenth of a second may be caught up.
    assert!(took >= Duration::from_millis(350), "{took:?}");
    assert_eq!(store.get(hash, 0..500_000).await.unwrap().bytes, bytes);
    // So slowly it would take 20 seconds.
    let since = std::time::Instant::now();
    put(&store, 20_000_000).await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}
