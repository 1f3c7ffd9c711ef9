//! Answers `GET /metrics`. It serves few connections at a time, each for one request and a bounded time, so that nobody
//! who connects and says nothing keeps the others out for long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::address::MetricsAddress;
use super::text::CONTENT_TYPE as TEXT_FORMAT;
use crate::error::{Doing as _, Error};

/// Connections at a time; more wait.
const MOST_CONNECTIONS: usize = 8;
/// How long one may take.
const LONGEST: Duration = Duration::from_secs(10);
/// After a failure to accept (no descriptors left, for one), the pause before the next attempt.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The address is taken, and nothing is answered yet.
#[derive(Debug)]
pub(crate) struct MetricsListener(TcpListener, SocketAddr);

/// Answers until it is dropped.
#[derive(Debug)]
pub(crate) struct MetricsServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsListener {
    pub(crate) async fn bind(address: MetricsAddress) -> Result<Self, Error> {
        let doing = || format!("cannot give metrics at {address}");
        let listener = TcpListener::bind(address.socket()).await.doing(doing)?;
        let bound = listener.local_addr().doing(doing)?;
        Ok(Self(listener, bound))
    }

    /// Answers with what `text` gives, or that there is nothing any more.
    pub(crate) fn serve(
        self,
        runtime: &Handle,
        text: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> MetricsServer {
        let Self(listener, address) = self;
        let task = runtime.spawn(accept(listener, Arc::new(text)));
        MetricsServer { address, task }
    }
}

impl MetricsServer {
    /// `http://127.0.0.1:9400/metrics`
    pub(crate) fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Text = dyn Fn() -> Option<String> + Send + Sync;

async fn accept(listener: TcpListener, text: Arc<Text>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        // Nobody closes the semaphore.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((connection, _)) => {
                let text = Arc::clone(&text);
                tokio::spawn(async move {
                    answer(connection, &*text).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a client of the metrics was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(connection: TcpStream, text: &Text) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(&request, text);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false);
    let served = server.serve_connection(TokioIo::new(connection), service);
    match tokio::time::timeout(LONGEST, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client of the metrics went away"),
        Err(late) => tracing::debug!(%late, "a client of the metrics took too long"),
    }
}

fn respond<B>(request: &Request<B>, text: &Text) -> Response<Full<Bytes>> {
    let plain = |status, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "");
        let get = hyper::header::HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, get);
        return refused;
    }
    let Some(text) = text() else {
        return plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "it is not mounted any more\n",
        );
    };
    let mut response = Response::new(Full::from(text));
    let kind = hyper::header::HeaderValue::from_static(TEXT_FORMAT);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
