//! Requests for objects, without the SDK's machinery around each of them.
//!
//! What the SDK does for a request costs several times what the request itself does, and a store
//! makes many small ones. So GET, HEAD, PUT and the parts of uploads go from here straight to the
//! HTTP client below the SDK. What the SDK knows is asked once and kept: where the bucket is
//! ([`crate::endpoint`]), the keys ([`crate::credentials`]), how often to try.
//!
//! ```text
//!     place and memory --> keys --> sign --> send, counted --> answer --> body, counted
//!          ^  \___________________________________________________________/ |
//!          |                       what may pass, after a wait              | error of S3's:
//!          `----------------------------------------------------------------' explained
//! ```
//!
//! An answer is complete when it is given: a body that broke or stopped is asked for again here, and
//! is never short data. Where bytes are given as they arrive ([`Direct::open`]), whoever has them asks for the rest.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use attachfs_store::{RequestKind, StoreError};
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::error::ConnectorError;
use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::http::Headers as AnswerHeaders;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use tokio::sync::OnceCell;

use crate::attempts::{Attempts, FailedAttempt};
use crate::bandwidth::Bandwidth;
use crate::body::{self, Broken, Incoming, Progress, Watch};
use crate::buffers::Buffers;
use crate::common_headers::CommonHeaders;
use crate::concurrency::{Concurrency, Memory, Slot};
use crate::credentials::{KeyRing, Keys};
use crate::endpoint::BucketUrl;
use crate::error::unreachable;
use crate::error::{Failure, NOT_IN_TIME, NoAnswer, is_final, no_connection, no_credentials};
use crate::pace::Slowest;
use crate::refusal::{LONGEST, Refusal};
use crate::retry::{Again, Retries};
use crate::sign::{self, Clock, Headers};

/// What all requests of a store share.
#[derive(Debug)]
pub(crate) struct Direct {
    pub(crate) connector: SharedHttpConnector,
    pub(crate) bucket: BucketUrl,
    pub(crate) keys: KeyRing,
    pub(crate) clock: Arc<Clock>,
    pub(crate) common_headers: CommonHeaders,
    pub(crate) retries: Retries,
    pub(crate) concurrency: Concurrency,
    pub(crate) memory: Memory,
    pub(crate) buffers: Buffers,
    pub(crate) bandwidth: Arc<Bandwidth>,
    pub(crate) slowest: Slowest,
    /// Whether bodies go with a checksum.
    pub(crate) checksums: bool,
    /// Whether signatures are over bodies too.
    pub(crate) signed_bodies: bool,
    /// Whether manifests are asked for with their checksum.
    pub(crate) checked_answers: bool,
    /// Set once the server has said that it does not know conditional writes.
    pub(crate) unconditional: AtomicBool,
    /// Set once the bucket has given an answer that only a bucket gives.
    pub(crate) answered: OnceCell<()>,
    /// How long one attempt may take, beside its body.
    pub(crate) attempt: Duration,
    /// How long all attempts may take, beside their bodies.
    pub(crate) operation: Duration,
}

/// What is asked of the bucket.
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    pub(crate) key: &'a str,
    /// As it goes on the wire.
    pub(crate) query: &'a str,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    /// What bounds the body; the store's own limit if nothing is said.
    pub(crate) bandwidth: Option<&'a Arc<Bandwidth>>,
    /// The most that the answer to a GET may have, in bytes.
    pub(crate) most: u64,
    /// For messages: `reading`.
    pub(crate) doing: &'static str,
    /// For messages: `s3://bucket/key`.
    pub(crate) name: &'a str,
}

/// An answer that says that all is well, with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    headers: AnswerHeaders,
    /// What `Content-Length` says, also if there is no body because of the method.
    pub(crate) len: Option<u64>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &'static str) -> Option<&str> {
        self.headers.get(name)
    }
}

/// An answer that says that all is well, and its body on its way.
pub(crate) struct Opened {
    headers: AnswerHeaders,
    /// What `Content-Length` says.
    pub(crate) len: Option<u64>,
    pub(crate) body: Incoming,
}

impl Opened {
    pub(crate) fn header(&self, name: &'static str) -> Option<&str> {
        self.headers.get(name)
    }
}

impl Request<'_> {
    fn kind(&self) -> RequestKind {
        match self.method {
            "HEAD" => RequestKind::Head,
            "PUT" => RequestKind::Put,
            _ => RequestKind::Get,
        }
    }

    /// `reading s3://bucket/key`.
    fn what(&self) -> String {
        format!("{} {}", self.doing, self.name)
    }
}

/// The checksum of a body, as S3 wants it in a header.
pub(crate) fn crc32(bytes: &[u8]) -> String {
    let mut checksum = Crc32::new();
    checksum.add(bytes);
    checksum.text()
}

/// The checksum of a body that comes piece by piece.
pub(crate) struct Crc32(crc_fast::Digest);

impl Crc32 {
    pub(crate) fn new() -> Self {
        Self(crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc))
    }

    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// As S3 wants it in a header.
    pub(crate) fn text(self) -> String {
        let checksum = self.0.finalize() as u32;
        BASE64.encode(checksum.to_be_bytes())
    }
}

impl Direct {
    /// Makes a request as often as it may help.
    pub(crate) async fn send(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let mut attempts = Attempts::new(&self.retries, self.operation);
        loop {
            let (slot, answer) = self.begin(request, &mut attempts).await?;
            match self.complete(request, answer).await {
                Ok(answer) => {
                    self.succeeded(&attempts, &slot);
                    return Ok(answer);
                }
                Err(trouble) => attempts.failed(slot, trouble).await?,
            }
        }
    }

    /// As [`send`](Self::send), but gives the answer when its body begins. One that breaks off is not asked for
    /// again.
    pub(crate) async fn open(&self, request: &Request<'_>) -> Result<Opened, Failure> {
        let mut attempts = Attempts::new(&self.retries, self.operation);
        let (slot, mut answer) = self.begin(request, &mut attempts).await?;
        let len = content_length(&answer);
        if len.is_some_and(|len| len > request.most) {
            return Err(sends_too_much(request).failure);
        }
        self.succeeded(&attempts, &slot);
        let body = answer.take_body();
        let (bandwidth, slowest) = (Arc::clone(&self.bandwidth), self.slowest);
        let body = Incoming::new(body, len.unwrap_or_default(), bandwidth, slowest, slot);
        Ok(Opened {
            headers: answer.headers().clone(),
            len,
            body,
        })
    }

    fn succeeded(&self, attempts: &Attempts<'_>, slot: &Slot) {
        attempts.succeeded(slot);
        // Somebody may be finding it out at this moment.
        let _same = self.answered.set(());
    }

    /// Makes a request as often as it may help, until the body of a good answer begins.
    async fn begin(
        &self,
        request: &Request<'_>,
        attempts: &mut Attempts<'_>,
    ) -> Result<(Slot, HttpResponse), Failure> {
        loop {
            let slot = self.concurrency.take().await;
            match self.attempt(request, attempts).await {
                Ok(answer) => return Ok((slot, answer)),
                Err(trouble) => attempts.failed(slot, trouble).await?,
            }
        }
    }

    /// Makes a request once. What it takes beside its bodies is taken from the time that is left.
    async fn attempt(
        &self,
        request: &Request<'_>,
        attempts: &mut Attempts<'_>,
    ) -> Result<HttpResponse, FailedAttempt> {
        let keys = self.keys.get().await.map_err(|error| {
            FailedAttempt::without_answer(Again::Never, no_credentials(request.what(), &error))
        })?;
        let signed = self.clock.now();
        let (http, progress) = self.prepare(request, &keys, signed).map_err(|source| {
            let error = StoreError::Other {
                what: request.what(),
                source: Box::new(source),
            };
            FailedAttempt::without_answer(Again::Never, error)
        })?;
        self.retries.requests.note(request.kind());
        // That the connection took the body does not mean that the server has it.
        let drain = self.slowest.to_drain(request.body.len() as u64);
        let answered = self
            .answer(
                request,
                http,
                &progress,
                self.attempt.min(attempts.left) + drain,
            )
            .await;
        let took = progress.since_sent().saturating_sub(drain);
        attempts.left = attempts.left.saturating_sub(took);
        let answer = answered?;
        let status = answer.status();
        if status.is_success() {
            keys.work();
            return Ok(answer);
        }
        let mut trouble = self.refused(request, answer, signed).await;
        trouble.again = attempts
            .with_other_keys(trouble.again, &self.keys, &keys)
            .await;
        Err(trouble)
    }

    /// The request as it goes on the wire.
    fn prepare(
        &self,
        request: &Request<'_>,
        keys: &Keys,
        signed: SystemTime,
    ) -> Result<(HttpRequest, Progress), NoAnswer> {
        let url = self.bucket.of(request.key, request.query);
        let mut headers = request.headers.clone();
        let common = self.common_headers.headers(request.method, request.query);
        headers.extend(common.map(|(name, value)| (name, value.to_owned())));
        sign::add_signature(
            &mut headers,
            request.method,
            &url,
            &self.bucket,
            keys,
            signed,
            self.signed_bodies.then_some(&request.body),
        )?;
        let (body, progress) = body::sending(
            request.body.clone(),
            request.bandwidth.unwrap_or(&self.bandwidth),
            self.slowest,
        );
        let mut http = HttpRequest::new(body);
        let cannot = "the request cannot be made";
        http.set_method(request.method)
            .and_then(|()| http.set_uri(url))
            .map_err(|error| NoAnswer::because(cannot, &error))?;
        let into = http.headers_mut();
        for (name, value) in headers {
            let added = into.try_insert(name, value);
            added.map_err(|error| NoAnswer::because(cannot, &error))?;
        }
        if request.method == "PUT" {
            into.insert("content-length", request.body.len().to_string());
        }
        into.insert("user-agent", USER_AGENT);
        Ok((http, progress))
    }

    /// Waits for the beginning of an answer: while the body goes out as long as it moves, then
    /// this long.
    async fn answer(
        &self,
        request: &Request<'_>,
        http: HttpRequest,
        progress: &Progress,
        time: Duration,
    ) -> Result<HttpResponse, FailedAttempt> {
        let late = |again, source| {
            FailedAttempt::without_answer(again, unreachable(request.what(), source))
        };
        let mut answer = std::pin::pin!(self.connector.call(http));
        loop {
            let watch = progress.watch().map_err(|slow| {
                let (again, source) = of_broken(Broken::TooSlow(slow));
                late(again, source)
            })?;
            let (until, sent) = match watch {
                Watch::Until(until) => (until, false),
                Watch::SentAt(at) => (at + time, true),
            };
            match tokio::time::timeout_at(until, &mut answer).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => return Err(no_answer(request, &error)),
                Err(_time) if sent => {
                    return Err(late(Again::Later, NoAnswer::new(NOT_IN_TIME)));
                }
                Err(_time) => {}
            }
        }
    }

    /// The answer with its body.
    async fn complete(
        &self,
        request: &Request<'_>,
        answer: HttpResponse,
    ) -> Result<Answer, FailedAttempt> {
        let len = content_length(&answer);
        let mut answer = answer;
        let body = answer.take_body();
        let body = match (request.method, len) {
            ("HEAD", _) | (_, Some(0)) => Bytes::new(),
            ("GET", Some(len)) if len > request.most => return Err(sends_too_much(request)),
            ("GET", Some(len)) => {
                let (buffers, bandwidth) = (&self.buffers, &self.bandwidth);
                body::receive(body, len, buffers, bandwidth, self.slowest)
                    .await
                    .map_err(|broken| {
                        let (again, source) = of_broken(broken);
                        FailedAttempt::without_answer(again, unreachable(request.what(), source))
                    })?
            }
            _ => body::receive_some(body, LONGEST, self.slowest).await,
        };
        Ok(Answer {
            headers: answer.headers().clone(),
            len,
            body,
        })
    }

    /// What an answer says that is an error.
    async fn refused(
        &self,
        request: &Request<'_>,
        answer: HttpResponse,
        signed: SystemTime,
    ) -> FailedAttempt {
        let status = answer.status().as_u16();
        let header = |name| answer.headers().get(name).map(str::to_owned);
        let id = header("x-amz-request-id");
        let region = header("x-amz-bucket-region");
        let date = header("date");
        let text = match request.method {
            "HEAD" => Bytes::new(),
            _ => body::receive_some(answer.into_body(), LONGEST, self.slowest).await,
        };
        let mut refusal = Refusal::read(status, &text);
        refusal.request_id = id.or(refusal.request_id);
        // Where the bucket is helps only whoever asked elsewhere.
        refusal.region = region
            .or(refusal.region)
            .filter(|region| *region != self.bucket.region);
        if request.method == "HEAD" && status == 404 {
            // The answer to HEAD has no body to say what is not there.
            refusal.code = Some("NotFound".to_owned());
        }
        let code = refusal.code.as_deref().unwrap_or_default();
        let again = match Again::after(status, code) {
            // Without a body nobody says that it is the time; the date does.
            Again::ChangedKeys
                if (request.method, status) == ("HEAD", 403)
                    && Clock::is_far(signed, date.as_deref()) =>
            {
                Again::OtherTime
            }
            again => again,
        };
        let again = match again {
            Again::OtherTime if !self.clock.set(date.as_deref()) => Again::Never,
            again => again,
        };
        FailedAttempt {
            again,
            failure: Failure {
                status: Some(status),
                error: refusal.explain(request.what(), request.name),
            },
        }
    }
}

fn content_length(answer: &HttpResponse) -> Option<u64> {
    answer.headers().get("content-length")?.parse().ok()
}

fn sends_too_much(request: &Request<'_>) -> FailedAttempt {
    let error = StoreError::Other {
        what: request.what(),
        source: Box::new(NoAnswer::new(
            "the server sends much more than the range that it was asked for",
        )),
    };
    FailedAttempt::without_answer(Again::Never, error)
}

const USER_AGENT: &str = concat!("attachfs/", env!("CARGO_PKG_VERSION"));

fn no_answer(request: &Request<'_>, error: &ConnectorError) -> FailedAttempt {
    let again = if is_final(error) {
        Again::Never
    } else {
        Again::Connected
    };
    FailedAttempt::without_answer(again, no_connection(request.what(), error))
}

/// The error of a request whose body did not come.
pub(crate) fn broken_off(what: &str, broken: Broken) -> StoreError {
    unreachable(what.to_owned(), of_broken(broken).1)
}

/// What can be done about a body that did not come: the next connection may be better than one that
/// broke or stopped, but a slow network stays slow.
fn of_broken(broken: Broken) -> (Again, NoAnswer) {
    match broken {
        Broken::Broke(source) => (Again::Later, source),
        Broken::TooSlow(slow) => {
            let again = if slow.is_stall() {
                Again::Later
            } else {
                Again::Never
            };
            (again, NoAnswer::because("the body is too slow", &slow))
        }
    }
}
