//! The store against a real server, well and unwell.

use std::sync::Arc;
use std::time::Duration;

use attachfs_store::{RequestKind, S3Access};
use attachfs_test_s3::{ACCESS_KEY, Mishap, REGION, Rule, SECRET_KEY, TestS3};

use super::*;

mod child;
mod credentials;
mod network;
mod patience;
mod script;
mod wire;

struct Bench {
    _dir: tempfile::TempDir,
    server: TestS3,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = TestS3::start(dir.path()).await.unwrap();
        server.create_bucket("bucket").unwrap();
        Self { _dir: dir, server }
    }

    fn options(&self) -> S3Options {
        S3Options {
            access: S3Access {
                region: Some(REGION.to_owned()),
                endpoint_url: Some(self.server.endpoint()),
                ..S3Access::default()
            },
            credentials: Some(S3Credentials {
                access_key_id: ACCESS_KEY.to_owned(),
                secret_access_key: SECRET_KEY.to_owned(),
                session_token: None,
            }),
            ..S3Options::new("bucket".parse().unwrap(), "a/prefix".parse().unwrap())
        }
    }

    async fn store(&self) -> S3Store {
        S3Store::connect(self.options()).await.unwrap()
    }

    fn count(&self, method: &str, part: &str) -> usize {
        let requests = self.server.requests();
        let fits = |r: &&attachfs_test_s3::Request| {
            r.method == method && (r.path.contains(part) || r.query.contains(part))
        };
        requests.iter().filter(fits).count()
    }
}

fn content(len: usize) -> (ContentHash, Bytes) {
    let bytes: Vec<u8> = (0..len).map(|i| (i / 3 + i / 1000) as u8).collect();
    (ContentHash::of(&bytes), bytes.into())
}

async fn put(store: &S3Store, len: usize) -> (ContentHash, Bytes) {
    let (hash, bytes) = content(len);
    let payload = Payload::Bytes(bytes.clone());
    store.put(hash, payload).await.unwrap();
    (hash, bytes)
}

fn text_of(error: &StoreError) -> String {
    let mut texts = vec![format!("{error:?}"), error.to_string()];
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_s3_store_conforms() {
    let bench = Bench::new().await;
    attachfs_store::conformance::run(Arc::new(bench.store().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_at_the_top_of_a_bucket_conforms() {
    let bench = Bench::new().await;
    let options = S3Options {
        prefix: RootPrefix::default(),
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    attachfs_store::conformance::run(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_stored_under_its_hash_with_one_request() {
    let bench = Bench::new().await;
    let (hash, _) = put(&bench.store().await, 70_000).await;
    let requests = bench.server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, "PUT");
    assert_eq!(
        requests[0].path,
        format!("/bucket/a/prefix/Data/{hash}.xxh128")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_asks_for_its_range_and_nothing_else() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let (hash, bytes) = put(&store, 70_000).await;
    bench.server.clear_requests();
    let part = store.get(hash, 100..200).await.unwrap();
    assert_eq!(part.bytes, bytes[100..200]);
    assert!(part.version.is_some());
    let requests = bench.server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].range.as_deref(), Some("bytes=100-199"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_the_extension_is_found_by_reading() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let (hash, bytes) = content(1000);
    let key = store.prefix.join(&old_data_key(hash));
    store
        .put_payload(&key, Payload::Bytes(bytes.clone()))
        .await
        .unwrap();
    assert_eq!(store.get(hash, 0..1000).await.unwrap().bytes, bytes);
    assert_eq!(store.get(hash, 0..0).await.unwrap().object_len, 1000);
    bench.server.clear_requests();
    let head = store.head(hash).await.unwrap_err();
    assert!(matches!(head, StoreError::NotFound { .. }), "{head:?}");
    // An upload asks only once for a missing object.
    assert_eq!(bench.server.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_ranges_still_gives_the_range() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let (hash, bytes) = put(&store, 70_000).await;
    bench.server.add(Rule::on("GET", Mishap::Ignorance));
    let part = store.get(hash, 100..200).await.unwrap();
    assert_eq!(
        (part.bytes, part.object_len),
        (bytes.slice(100..200), 70_000)
    );
    let past = store.get(hash, 70_000..70_001).await.unwrap();
    assert_eq!((past.bytes.len(), past.object_len), (0, 70_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_conditions_does_not_replace_a_manifest() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    bench.server.add(Rule::on("PUT", Mishap::Ignorance));
    let key: ManifestKey = "farm/m".parse().unwrap();
    let first = store
        .put_manifest_if_absent(&key, Bytes::from_static(b"1"), &Metadata::new())
        .await;
    assert_eq!(first.unwrap(), PutOutcome::Created);
    let second = store
        .put_manifest_if_absent(&key, Bytes::from_static(b"2"), &Metadata::new())
        .await;
    assert_eq!(second.unwrap(), PutOutcome::Exists);
    assert_eq!(store.get_manifest(&key).await.unwrap().bytes, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_is_asked_for_again() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let (hash, bytes) = put(&store, 70_000).await;
    bench
        .server
        .add(Rule::on("GET", Mishap::Break { after: 1000 }).times(1));
    assert_eq!(store.get(hash, 0..70_000).await.unwrap().bytes, bytes);
    assert_eq!(bench.count("GET", ""), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_counted_by_its_kind_and_a_repeated_one_as_a_retry_too() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let (hash, _) = put(&store, 70_000).await;
    let broken = Rule::on("GET", Mishap::Break { after: 1000 });
    bench.server.add(broken.times(1));
    store.get(hash, 0..70_000).await.unwrap();
    store.head(hash).await.unwrap();
    store.list(&Folder::Data, None).await.unwrap();
    let counts = store.requests().unwrap();
    let of = |kind| counts.of(kind);
    assert_eq!(of(RequestKind::Get), 2);
    assert_eq!(of(RequestKind::Put), bench.count("PUT", "") as u64);
    assert_eq!((of(RequestKind::Head), of(RequestKind::List)), (1, 1));
    assert_eq!((of(RequestKind::Post), of(RequestKind::Delete)), (0, 0));
    assert_eq!(counts.retries, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_always_breaks_is_an_error_and_not_short_data() {
    let bench = Bench::new().await;
    let options = S3Options {
        max_attempts: Some(2),
        first_wait: Duration::from_millis(5),
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    let (hash, _) = put(&store, 70_000).await;
    bench
        .server
        .add(Rule::on("GET", Mishap::Break { after: 69_999 }));
    let error = store.get(hash, 0..70_000).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(bench.count("GET", "") >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_is_given_up() {
    let bench = Bench::new().await;
    let options = S3Options {
        max_attempts: Some(1),
        stall_timeout: Duration::from_secs(1),
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    let (hash, _) = put(&bench.store().await, 70_000).await;
    bench
        .server
        .add(Rule::on("GET", Mishap::Stall { after: 1000 }));
    let error = store.get(hash, 0..70_000).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_silent_is_given_up() {
    let bench = Bench::new().await;
    let options = S3Options {
        attempt_timeout: Duration::from_millis(100),
        operation_timeout: Duration::from_millis(300),
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    bench.server.add(Rule::always(Mishap::Silence));
    let (hash, bytes) = content(10);
    let get = store.get(hash, 0..10).await.unwrap_err();
    assert!(matches!(get, StoreError::Unreachable { .. }), "{get:?}");
    let put = store.put(hash, Payload::Bytes(bytes)).await.unwrap_err();
    assert!(matches!(put, StoreError::Unreachable { .. }), "{put:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_where_nobody_listens_is_unreachable_soon() {
    let bench = Bench::new().await;
    let options = bench.options();
    drop(bench);
    let store = S3Store::connect(options).await.unwrap();
    let begun = std::time::Instant::now();
    let error = store.get(ContentHash::of(b""), 0..1).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_pass_are_tried_again() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let slow_down = Mishap::Error {
        status: 503,
        code: "SlowDown",
    };
    bench.server.add(Rule::on("PUT", slow_down).times(1));
    bench.server.add(Rule::on("GET", Mishap::Close).times(1));
    let (hash, bytes) = put(&store, 100).await;
    assert_eq!(store.get(hash, 0..100).await.unwrap().bytes, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_signed_again_with_the_servers_time() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let skewed = Mishap::Error {
        status: 403,
        code: "RequestTimeTooSkewed",
    };
    bench.server.add(Rule::on("PUT", skewed).times(1));
    put(&store, 100).await;
    assert_eq!(bench.count("PUT", ""), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_failing_is_unreachable() {
    let bench = Bench::new().await;
    let options = S3Options {
        max_attempts: Some(1),
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    bench.server.add(Rule::always(Mishap::Error {
        status: 500,
        code: "InternalError",
    }));
    let error = store.get(ContentHash::of(b""), 0..1).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_denied_and_not_shown() {
    let bench = Bench::new().await;
    for (id, secret) in [(ACCESS_KEY, "wrong-secret"), ("wrong-id", SECRET_KEY)] {
        let options = S3Options {
            credentials: Some(S3Credentials {
                access_key_id: id.to_owned(),
                secret_access_key: secret.to_owned(),
                session_token: None,
            }),
            ..bench.options()
        };
        assert!(!format!("{options:?}").contains(secret));
        let store = S3Store::connect(options).await.unwrap();
        let get = store.get(ContentHash::of(b""), 0..1).await.unwrap_err();
        let head = store.head(ContentHash::of(b"")).await.unwrap_err();
        for error in [get, head] {
            assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
            let text = text_of(&error);
            assert!(text.contains("does not accept these credentials"), "{text}");
            assert!(
                !text.contains(secret) && !text.contains("Signature="),
                "{text}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_ranges_of_a_large_object_is_an_error() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let (hash, _) = put(&store, 3 << 20).await;
    bench.server.add(Rule::on("GET", Mishap::Ignorance));
    let error = store.get(hash, 0..10).await.unwrap_err();
    assert!(
        text_of(&error).contains("much more than the range"),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_exist_is_not_an_object_that_does_not() {
    let bench = Bench::new().await;
    let options = S3Options {
        bucket: "no-bucket".parse().unwrap(),
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    let (hash, bytes) = content(10);
    let get = store.get(hash, 0..1).await.unwrap_err();
    let put = store.put(hash, Payload::Bytes(bytes)).await.unwrap_err();
    let head = store.head(hash).await.unwrap_err();
    for error in [get, put, head] {
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(error.to_string().contains("no such bucket"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_404_of_something_else_is_not_an_object_that_does_not_exist() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    bench.server.add(Rule::always(Mishap::Error {
        status: 404,
        code: "",
    }));
    let error = store.get(ContentHash::of(b""), 0..1).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_refused_at_once() {
    for url in ["localhost:9000", "", "http://", "not a url"] {
        let options = S3Options {
            access: S3Access {
                endpoint_url: Some(url.to_owned()),
                ..S3Access::default()
            },
            ..S3Options::new("bucket".parse().unwrap(), RootPrefix::default())
        };
        S3Store::connect(options).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_which_permissions_to_check() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    bench.server.add(Rule::always(Mishap::Error {
        status: 403,
        code: "AccessDenied",
    }));
    let get = store.get(ContentHash::of(b""), 0..1).await.unwrap_err();
    let head = store.head(ContentHash::of(b"")).await.unwrap_err();
    for error in [get, head] {
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(error.to_string().contains("s3:ListBucket"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_whose_write_was_applied_before_the_error_exists_afterwards() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let after = Mishap::ErrorAfter {
        status: 500,
        code: "InternalError",
    };
    bench.server.add(Rule::on("PUT", after).times(1));
    let key: ManifestKey = "m".parse().unwrap();
    let outcome = store
        .put_manifest_if_absent(&key, Bytes::from_static(b"1"), &Metadata::new())
        .await;
    assert_eq!(outcome.unwrap(), PutOutcome::Exists);
    assert_eq!(store.get_manifest(&key).await.unwrap().bytes, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_upload_in_parts_is_aborted() {
    let bench = Bench::new().await;
    let options = S3Options {
        max_attempts: Some(1),
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    let (hash, bytes) = content(20 << 20);
    let refused = Mishap::Error {
        status: 403,
        code: "AccessDenied",
    };
    bench
        .server
        .add(Rule::on("PUT", refused).of("partNumber=2"));
    let error = store.put(hash, Payload::Bytes(bytes)).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert_eq!(bench.count("DELETE", "uploadId"), 1);
    assert_eq!(bench.count("POST", "uploadId"), 0);
    let head = store.head(hash).await.unwrap_err();
    assert!(matches!(head, StoreError::NotFound { .. }), "{head:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_whose_last_answer_was_lost_is_stored() {
    let bench = Bench::new().await;
    let options = S3Options {
        first_wait: Duration::from_millis(5),
        ..bench.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    let (hash, bytes) = content(20 << 20);
    let lost = Mishap::ErrorAfter {
        status: 500,
        code: "InternalError",
    };
    let no_upload = Mishap::Error {
        status: 404,
        code: "NoSuchUpload",
    };
    bench
        .server
        .add(Rule::on("POST", lost).of("uploadId=").times(1));
    bench
        .server
        .add(Rule::on("POST", no_upload).of("uploadId="));
    store.put(hash, Payload::Bytes(bytes)).await.unwrap();
    assert_eq!(bench.count("DELETE", "uploadId"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_upload_in_parts_is_aborted() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let (hash, bytes) = content(20 << 20);
    bench
        .server
        .add(Rule::on("PUT", Mishap::Silence).of("partNumber=3"));
    let task = tokio::spawn(async move { store.put(hash, Payload::Bytes(bytes)).await });
    bench
        .server
        .wait_for(|requests| requests.iter().any(|r| r.query.contains("partNumber=3")))
        .await;
    task.abort();
    assert!(task.await.is_err());
    uploads_ended().await;
    assert_eq!(bench.count("DELETE", "uploadId"), 1);
}

#[tokio::test]
async fn without_an_endpoint_the_store_is_at_aws() {
    let options = S3Options {
        access: S3Access {
            region: Some(REGION.to_owned()),
            ..S3Access::default()
        },
        ..S3Options::new("bucket".parse().unwrap(), "a/prefix".parse().unwrap())
    };
    // Without AWS only the making of the store can be tested.
    S3Store::connect(options).await.unwrap();
}
