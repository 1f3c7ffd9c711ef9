//! Servers that follow a script instead of S3.

use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;

/// Gives one answer after the other, then the last one again and again.
struct Script {
    address: String,
    asked: watch::Sender<usize>,
    serving: JoinHandle<()>,
}

impl Drop for Script {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Script {
    /// Gives one answer to the first requests, which come together, and another one to all later
    /// ones.
    async fn of_crowd(crowd: usize, to_crowd: &str, later: &str) -> Self {
        let (to_crowd, later) = (to_crowd.to_owned(), later.to_owned());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = watch::Sender::new(0);
        let count = asked.clone();
        let serving = tokio::spawn(async move {
            let mut waiting = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                if *count.borrow() > crowd {
                    let _ = answer(stream, &later, None).await;
                    continue;
                }
                waiting.push(stream);
                if waiting.len() == crowd {
                    for stream in waiting.drain(..) {
                        let _ = answer(stream, &to_crowd, None).await;
                    }
                }
            }
        });
        Self {
            address,
            asked,
            serving,
        }
    }

    /// Reads bodies at this pace, or not at all.
    async fn of(answers: &[&str], bytes_per_second: Option<usize>) -> Self {
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = watch::Sender::new(0);
        let count = asked.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let place = (*count.borrow()).min(answers.len() - 1);
                count.send_modify(|count| *count += 1);
                // A connection that breaks is the client's matter.
                let _ = answer(stream, &answers[place], bytes_per_second).await;
            }
        });
        Self {
            address,
            asked,
            serving,
        }
    }

    fn options(&self, bench: &Bench) -> S3Options {
        S3Options {
            access: S3Access {
                endpoint_url: Some(format!("http://{}", self.address)),
                ..bench.options().access
            },
            first_wait: Duration::from_millis(5),
            ..bench.options()
        }
    }

    fn asked(&self) -> usize {
        *self.asked.borrow()
    }
}

async fn answer(
    mut stream: TcpStream,
    answer: &str,
    bytes_per_second: Option<usize>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let len = head.split("content-length: ").nth(1);
    let len = len.and_then(|rest| rest.split('\r').next()?.parse().ok());
    if let (Some(len), Some(rate)) = (len, bytes_per_second) {
        let mut tenth = tokio::time::interval(Duration::from_millis(100));
        let mut left: usize = len;
        while left > 0 {
            tenth.tick().await;
            let mut some = vec![0; left.min(rate / 10)];
            left -= stream.read_exact(&mut some).await?;
        }
    }
    let answer = format!("HTTP/1.1 {answer}");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_the_time_to_leave_the_buffers_of_a_slow_network() {
    let bench = Bench::new().await;
    let answer = "200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let script = Script::of(&[answer], Some(400_000)).await;
    let mut options = S3Options {
        max_attempts: Some(1),
        attempt_timeout: Duration::from_millis(100),
        operation_timeout: Duration::from_millis(200),
        ..script.options(&bench)
    };
    options.access.min_rate = Some(50_000);
    let store = S3Store::connect(options).await.unwrap();
    put(&store, 300_000).await;
    assert_eq!(script.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_begins_anew_with_each_page_is_an_error() {
    let bench = Bench::new().await;
    let text = "<ListBucketResult><IsTruncated>true</IsTruncated><Contents>\
        <Key>a/prefix/Data/00.xxh128</Key><Size>1</Size></Contents></ListBucketResult>";
    let answer = format!(
        "200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    let script = Script::of(&[&answer], None).await;
    let store = S3Store::connect(script.options(&bench)).await.unwrap();
    let page = store.list(&Folder::Data, None).await.unwrap();
    let error = store.list(&Folder::Data, page.next.as_deref()).await;
    let error = error.unwrap_err();
    assert!(text_of(&error).contains("not in order"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_not_what_its_checksum_says_is_an_error() {
    let bench = Bench::new().await;
    let answer = format!(
        "200 OK\r\nconnection: close\r\nx-amz-checksum-crc32: {}\r\ncontent-length: 1\r\n\r\n2",
        direct::crc32(b"1")
    );
    let script = Script::of(&[&answer], None).await;
    let store = S3Store::connect(script.options(&bench)).await.unwrap();
    let key: ManifestKey = "farm/m".parse().unwrap();
    let error = store.get_manifest(&key).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_follows_the_clock_of_a_server_whose_time_is_another() {
    let bench = Bench::new().await;
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    let date = DateTime::from(hour_ago).fmt(Format::HttpDate).unwrap();
    let denied = format!("403 Forbidden\r\nconnection: close\r\ndate: {date}\r\n\r\n");
    let there = "200 OK\r\nconnection: close\r\ncontent-length: 7\r\n\r\n";
    let script = Script::of(&[&denied, there], None).await;
    let store = S3Store::connect(script.options(&bench)).await.unwrap();
    assert_eq!(store.head(ContentHash::of(b"")).await.unwrap().len, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_signed_together_learn_the_clock_together() {
    let bench = Bench::new().await;
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    let date = DateTime::from(hour_ago).fmt(Format::HttpDate).unwrap();
    let denied = format!("403 Forbidden\r\nconnection: close\r\ndate: {date}\r\n\r\n");
    let there = "200 OK\r\nconnection: close\r\ncontent-length: 7\r\n\r\n";
    let script = Script::of_crowd(8, &denied, there).await;
    let store = S3Store::connect(script.options(&bench)).await.unwrap();
    let heads = (0..8_u8).map(|number| {
        let store = store.clone();
        async move { store.head(ContentHash::of(&[number])).await }
    });
    for head in futures::future::join_all(heads).await {
        assert_eq!(head.unwrap().len, 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_too_long_is_not_read() {
    let bench = Bench::new().await;
    let answer = format!(
        "200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n1",
        attachfs_store::LARGEST_MANIFEST + 1
    );
    let script = Script::of(&[&answer], None).await;
    let store = S3Store::connect(script.options(&bench)).await.unwrap();
    let key: ManifestKey = "farm/m".parse().unwrap();
    let error = store.get_manifest(&key).await.unwrap_err();
    assert!(
        text_of(&error).contains("longer than a manifest"),
        "{error:?}"
    );
    assert_eq!(script.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_follow_the_clock_of_a_server_whose_time_is_another() {
    let bench = Bench::new().await;
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    let date = DateTime::from(hour_ago).fmt(Format::HttpDate).unwrap();
    let text = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
    let denied = format!(
        "403 Forbidden\r\nconnection: close\r\ndate: {date}\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    let there = "200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n1";
    let script = Script::of(&[&denied, there], None).await;
    let store = S3Store::connect(script.options(&bench)).await.unwrap();
    let key: ManifestKey = "farm/m".parse().unwrap();
    assert_eq!(store.get_manifest(&key).await.unwrap().bytes, "1");
    // The date has whole seconds.
    let sent = hour_ago - Duration::from_secs(1);
    let ahead = store.direct.clock.now().duration_since(sent).unwrap();
    assert!(ahead < Duration::from_mins(10), "{ahead:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_of_a_bucket_elsewhere_names_the_region() {
    let bench = Bench::new().await;
    let answer = "400 Bad Request\r\nconnection: close\r\nx-amz-bucket-region: eu-west-1\r\n\r\n";
    let script = Script::of(&[answer], None).await;
    let store = S3Store::connect(script.options(&bench)).await.unwrap();
    let error = store.head(ContentHash::of(b"")).await.unwrap_err();
    assert!(error.to_string().contains("--region eu-west-1"), "{error}");
}
