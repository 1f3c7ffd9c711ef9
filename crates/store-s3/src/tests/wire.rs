//! What is on the wire: headers, keys, checksums.

use attachfs_store::Encryption;
use attachfs_test_s3::ACCOUNT;

use super::*;

async fn with(bench: &Bench, access: S3Access) -> S3Store {
    let options = S3Options {
        access: S3Access {
            region: Some(REGION.to_owned()),
            endpoint_url: Some(bench.server.endpoint()),
            ..access
        },
        ..bench.options()
    };
    S3Store::connect(options).await.unwrap()
}

/// Every kind of request that a store makes, without asking whether it succeeds.
async fn everything(store: &S3Store) {
    for len in [10, 17 << 20] {
        let (hash, bytes) = content(len);
        store.put(hash, Payload::Bytes(bytes)).await.unwrap();
        store.get(hash, 0..5).await.unwrap();
        store.head(hash).await.unwrap();
    }
    let key: ManifestKey = "farm/m".parse().unwrap();
    let bytes = Bytes::from_static(b"1");
    store
        .put_manifest_if_absent(&key, bytes, &Metadata::new())
        .await
        .unwrap();
    store.get_manifest(&key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_and_payer_are_on_every_request() {
    let bench = Bench::new().await;
    let access = S3Access {
        expected_bucket_owner: Some(ACCOUNT.parse().unwrap()),
        requester_pays: true,
        ..S3Access::default()
    };
    everything(&with(&bench, access).await).await;
    let requests = bench.server.requests();
    assert!(requests.len() > 10);
    for request in requests {
        let owner = request.header("x-amz-expected-bucket-owner");
        assert_eq!(owner, Some(ACCOUNT), "{request:?}");
        let payer = request.header("x-amz-request-payer");
        assert_eq!(payer, Some("requester"), "{request:?}");
        let signed = request.header("authorization").unwrap();
        assert!(signed.contains("x-amz-expected-bucket-owner;"), "{signed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_is_asked_for_where_objects_begin() {
    let bench = Bench::new().await;
    let access = S3Access {
        encryption: Some(Encryption::Aes256),
        ..S3Access::default()
    };
    everything(&with(&bench, access).await).await;
    for request in bench.server.requests() {
        let begins = request.method == "PUT" && !request.query.contains("uploadId")
            || request.method == "POST" && request.query.contains("uploads");
        let said = request.header("x-amz-server-side-encryption");
        assert_eq!(said, begins.then_some("AES256"), "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_go_with_a_checksum_that_is_signed() {
    let bench = Bench::new().await;
    let (_, bytes) = put(&bench.store().await, 70_000).await;
    let requests = bench.server.requests();
    let request = &requests[0];
    assert_eq!(
        request.header("x-amz-checksum-crc32"),
        Some(&*direct::crc32(&bytes))
    );
    assert_eq!(
        request.header("x-amz-content-sha256"),
        Some("UNSIGNED-PAYLOAD")
    );
    let signed = request.header("authorization").unwrap();
    assert!(signed.contains("x-amz-checksum-crc32;"), "{signed}");
    assert_eq!(request.header("content-length"), Some("70000"));
}

#[test]
fn the_checksum_is_the_crc_of_the_standards() {
    // CRC-32/ISO-HDLC of "123456789" is cbf43926.
    assert_eq!(direct::crc32(b"123456789"), "y/Q5Jg==");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_object_goes_with_its_length() {
    let bench = Bench::new().await;
    let store = bench.store().await;
    let (hash, bytes) = put(&store, 0).await;
    assert_eq!(
        bench.server.requests()[0].header("content-length"),
        Some("0")
    );
    assert_eq!(store.get(hash, 0..0).await.unwrap().bytes, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_with_every_kind_of_character_are_signed_as_the_server_reads_them() {
    let bench = Bench::new().await;
    for prefix in [
        "with space/and+plus",
        "ünïcödé/日本",
        "a=b&c",
        "co:lon/semi;colon",
        "100%/%41",
        "q?uestion#hash",
        "(round)[square]{curly}!*'\"~",
    ] {
        let options = S3Options {
            prefix: prefix.parse().unwrap(),
            ..bench.options()
        };
        let store = S3Store::connect(options).await.unwrap();
        let (hash, bytes) = put(&store, 10).await;
        assert_eq!(
            store.get(hash, 0..10).await.unwrap().bytes,
            bytes,
            "{prefix}"
        );
        assert_eq!(store.head(hash).await.unwrap().len, 10, "{prefix}");
        let key: ManifestKey = "a:b/c d+e".parse().unwrap();
        let bytes = Bytes::from_static(b"1");
        let outcome = store
            .put_manifest_if_absent(&key, bytes, &Metadata::new())
            .await;
        assert_eq!(outcome.unwrap(), PutOutcome::Created, "{prefix}");
        let stored = store.get_manifest(&key).await.unwrap();
        assert_eq!(stored.bytes, "1", "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_owner_is_a_refusal_that_names_the_option() {
    let bench = Bench::new().await;
    let access = S3Access {
        expected_bucket_owner: Some("999999999999".parse().unwrap()),
        ..S3Access::default()
    };
    let store = with(&bench, access).await;
    let error = store.get(ContentHash::of(b""), 0..1).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(
        error.to_string().contains("--expected-bucket-owner"),
        "{error}"
    );
}
