//! The layer in front of the server.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::IF_NONE_MATCH;
use hyper::{Method, Response, StatusCode};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use s3s::access::S3Access;
use s3s::dto::{GetObjectInput, PutObjectInput};
use s3s::service::S3Service;
use s3s::{S3Request, S3Result};

use crate::{ACCOUNT, Mishap, Rule};

/// A request as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// In capitals.
    pub method: String,
    /// `/bucket/key`, as it was on the wire.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// All headers.
    pub headers: hyper::HeaderMap,
}

impl Request {
    /// The value of a header, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) s3: S3Service,
    pub(crate) root: PathBuf,
    pub(crate) requests: tokio::sync::watch::Sender<Vec<Request>>,
    pub(crate) rules: Mutex<Vec<Rule>>,
    /// How often the server was healed.
    pub(crate) healed: tokio::sync::watch::Sender<u64>,
    /// Held while a conditional PUT is checked and made.
    pub(crate) conditional: tokio::sync::Mutex<()>,
}

/// Marks a request some of whose headers are to be ignored. They are signed, so they can only go
/// once the signature has been checked.
#[derive(Debug, Clone, Copy)]
struct Ignorant;

/// Lets in who has the keys, and makes the server ignorant where it is to be.
#[derive(Debug)]
pub(crate) struct Access;

#[async_trait]
impl S3Access for Access {
    async fn get_object(&self, request: &mut S3Request<GetObjectInput>) -> S3Result<()> {
        if request.extensions.get::<Ignorant>().is_some() {
            request.input.range = None;
        }
        Ok(())
    }

    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        if request.extensions.get::<Ignorant>().is_some() {
            request.input.if_none_match = None;
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Service(pub(crate) Arc<Shared>);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl hyper::service::Service<hyper::Request<Incoming>> for Service {
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.answer(request).await })
    }
}

impl Shared {
    async fn answer(&self, mut request: hyper::Request<Incoming>) -> Result<Answer, BoxError> {
        let seen = Request {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            range: request
                .headers()
                .get(hyper::header::RANGE)
                .and_then(|range| Some(range.to_str().ok()?.to_owned())),
            headers: request.headers().clone(),
        };
        let healings = *self.healed.borrow();
        let mishap = Rule::first_of(&mut self.rules.lock(), &seen);
        self.requests.send_modify(|requests| requests.push(seen));
        match mishap {
            Some(Mishap::Error { status, code }) => {
                // A server that refuses still reads what it is sent, or the client sees a reset.
                request.into_body().collect().await?;
                Ok(error(status, code))
            }
            Some(Mishap::ErrorAfter { status, code }) => {
                self.serve(request).await?;
                Ok(error(status, code))
            }
            Some(Mishap::Break { after }) => {
                let end = stream::iter([Err(io::Error::other("the connection breaks").into())]);
                shortened(self.serve(request).await?, after, end).await
            }
            Some(Mishap::Stall { after }) => {
                shortened(self.serve(request).await?, after, stream::pending()).await
            }
            Some(Mishap::Trickle { bytes_per_second }) => {
                trickling(self.serve(request).await?, bytes_per_second).await
            }
            Some(Mishap::Damage(damage)) => {
                let (mut head, body) = self.serve(request).await?.into_parts();
                let body = damage.done_to(&body.collect().await?.to_bytes());
                head.headers
                    .insert(hyper::header::CONTENT_LENGTH, body.len().into());
                let body = Full::new(Bytes::from(body));
                let body = body.map_err(|never: Infallible| match never {});
                Ok(Response::from_parts(head, body.boxed_unsync()))
            }
            Some(Mishap::Close) => Err("the connection breaks".into()),
            Some(Mishap::Silence) => std::future::pending().await,
            Some(Mishap::Hold) => {
                let mut healed = self.healed.subscribe();
                // The sender lives as long as the server.
                let _ = healed.wait_for(|&times| times > healings).await;
                self.serve(request).await
            }
            Some(Mishap::Ignorance) => {
                request.extensions_mut().insert(Ignorant);
                self.serve(request).await
            }
            None => self.serve(request).await,
        }
    }

    async fn serve(&self, request: hyper::Request<Incoming>) -> Result<Answer, BoxError> {
        let owner = request.headers().get("x-amz-expected-bucket-owner");
        if owner.is_some_and(|owner| owner != ACCOUNT) {
            request.into_body().collect().await?;
            return Ok(error(403, "AccessDenied"));
        }
        if !self.has_bucket(request.uri().path()) {
            request.into_body().collect().await?;
            return Ok(error(404, "NoSuchBucket"));
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if reads && self.is_folder(request.uri().path()) {
            return Ok(error(404, "NoSuchKey"));
        }
        let _one_at_a_time = if request.headers().contains_key(IF_NONE_MATCH) {
            Some(self.conditional.lock().await)
        } else {
            None
        };
        let answer = hyper::service::Service::call(&self.s3, request).await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
    }

    /// Whether the bucket of `/bucket/key` is there. A request for a bucket itself is the server's.
    fn has_bucket(&self, path: &str) -> bool {
        match path.trim_start_matches('/').split_once('/') {
            Some((bucket, key)) if !key.is_empty() => {
                self.root.join(percent_decoded(bucket)).is_dir()
            }
            _ => true,
        }
    }

    /// Whether `/bucket/key` is a directory, which in S3 would be nothing at all.
    fn is_folder(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        let has_key = path.split_once('/').is_some_and(|(_, key)| !key.is_empty());
        has_key && self.root.join(percent_decoded(path)).is_dir()
    }
}

fn error(status: u16, code: &str) -> Answer {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <Error><Code>{code}</Code><Message>as the test asked</Message></Error>"
    );
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    answer
}

/// The same answer, its body replaced by its beginning and `end`. The length in the header stays.
async fn shortened(
    answer: Answer,
    keep: usize,
    end: impl futures::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send + 'static,
) -> Result<Answer, BoxError> {
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    head.headers
        .entry(hyper::header::CONTENT_LENGTH)
        .or_insert(body.len().into());
    let start = body.slice(..keep.min(body.len()));
    let start = stream::iter([Ok(Frame::data(start))]);
    let body = StreamBody::new(start.chain(end)).boxed_unsync();
    Ok(Response::from_parts(head, body))
}

/// How often a trickling body gives some bytes.
const DROP: Duration = Duration::from_millis(20);

/// The same answer, its body in small pieces with pauses between them.
async fn trickling(answer: Answer, bytes_per_second: usize) -> Result<Answer, BoxError> {
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    head.headers
        .entry(hyper::header::CONTENT_LENGTH)
        .or_insert(body.len().into());
    let step = (bytes_per_second / 50).max(1);
    let pieces = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(DROP).await;
        let piece = rest.split_to(step.min(rest.len()));
        Some((Ok(Frame::data(piece)), rest))
    });
    let body = StreamBody::new(pieces).boxed_unsync();
    Ok(Response::from_parts(head, body))
}

fn percent_decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
