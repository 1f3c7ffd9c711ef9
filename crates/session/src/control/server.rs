//! The server: the end in the process that has the session mounted.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use attachfs_durable::{Accepted, Listener, Peer, SocketDir};
use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::protocol::{
    ALIVE, LONGEST_ANSWER, LONGEST_REQUEST, Message, Request, Response, decode, encode,
};
use crate::session::SOCKET;
use crate::{Failure, FailureClass};

/// Clients at the same time; more wait.
const MOST_CLIENTS: usize = 64;
/// Events that may wait for a slow client before further ones are dropped.
const EVENTS: usize = 64;
/// How long a client may take to read a line before it is given up.
const SLOWEST_READER: Duration = Duration::from_secs(10);
/// After a failure to accept (no descriptors left, for one), the pause before the next attempt.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The answer to a request, when it is ready.
pub type ServiceFuture<'a> = Pin<Box<dyn Future<Output = Response> + Send + 'a>>;

/// Carries out the requests of clients. A client that goes away does not end its request by itself: the service can
/// see that it has gone ([`EventSink::is_gone`]).
pub trait ControlService: Send + Sync + 'static {
    /// Carries out a request for `peer`, who is the owner of this process, or root. `events` tells the client of progress.
    fn handle(&self, request: Request, peer: Peer, events: EventSink) -> ServiceFuture<'_>;
}

/// Where progress goes.
#[derive(Debug, Clone)]
pub struct EventSink {
    events: mpsc::Sender<Value>,
    gone: Arc<AtomicBool>,
}

impl EventSink {
    /// Sends an event to the client. Never waits: an event that a slow client has no room for is dropped.
    pub fn send(&self, event: Value) {
        // Full or gone: progress is not worth waiting for.
        let _ = self.events.try_send(event);
    }

    /// Whether the client waits no longer: it has closed its connection, or its sending side.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// Listens until it is dropped or shut down.
#[derive(Debug)]
pub struct ControlServer {
    dir: Arc<SocketDir>,
    closing: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Listens in a session's directory, whose lock the caller has.
    pub fn start(
        dir: &Path,
        runtime: &Handle,
        service: Arc<dyn ControlService>,
    ) -> io::Result<Self> {
        let dir = Arc::new(SocketDir::open(dir, SOCKET)?);
        let listener = {
            let _inside = runtime.enter();
            dir.listen()?
        };
        let (closing, watched) = watch::channel(false);
        let task = runtime.spawn(accept(listener, service, watched));
        Ok(Self {
            dir,
            closing,
            task: Some(task),
        })
    }

    /// Accepts no further client, and waits until the clients that are being served have their answers.
    pub async fn shut_down(mut self) {
        self.closing.send_replace(true);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the control socket's task failed");
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        if let Err(error) = self.dir.remove() {
            tracing::warn!(%error, "the control socket is not removed");
        }
    }
}

async fn accept(
    mut listener: Listener,
    service: Arc<dyn ControlService>,
    mut closing: watch::Receiver<bool>,
) {
    let mut clients = JoinSet::new();
    let watched = closing.clone();
    loop {
        tokio::select! {
            biased;
            _ = closing.changed() => break,
            Some(ended) = clients.join_next() => log_panic(ended),
            accepted = listener.accept(), if clients.len() < MOST_CLIENTS => match accepted {
                Ok(accepted) => {
                    clients.spawn(serve(accepted, service.clone(), watched.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of the control socket was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = clients.join_next().await {
        log_panic(ended);
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "serving a client of the control socket failed");
    }
}

/// Serves one client, one request after the other.
async fn serve(
    accepted: Accepted,
    service: Arc<dyn ControlService>,
    mut closing: watch::Receiver<bool>,
) {
    let peer = match accepted.peer() {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%error, "a client of the control socket does not say who it is");
            return;
        }
    };
    if !peer.is_mine() && !peer.is_of_system() {
        tracing::warn!(
            user = peer.user(),
            "a stranger was turned away from the control socket"
        );
        return;
    }
    let (reader, mut writer) = tokio::io::split(accepted);
    let mut reader = BufReader::new(reader);
    loop {
        let line = tokio::select! {
            biased;
            line = read_line(&mut reader) => line,
            _ = closing.changed() => return,
        };
        let request = match line {
            Ok(None) => return,
            Ok(Some(line)) => {
                decode(&line).map_err(|error| Failure::new(FailureClass::Usage, &error))
            }
            Err(error) => Err(Failure::new(FailureClass::Usage, &error)),
        };
        let written = match request {
            Ok(request) => {
                perform(
                    service.clone(),
                    request,
                    peer.clone(),
                    &mut reader,
                    &mut writer,
                )
                .await
            }
            Err(failure) => {
                // After a line that is no message, the rest of the stream cannot be trusted either.
                write(&mut writer, &Message::Failed(failure)).await.ok();
                return;
            }
        };
        if let Err(error) = written {
            tracing::debug!(%error, "a client of the control socket went away");
            return;
        }
    }
}

/// A line without its end; `None` at the end of the stream.
async fn read_line(reader: &mut BufReader<ReadHalf<Accepted>>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader
        .take(LONGEST_REQUEST)
        .read_until(b'\n', &mut line)
        .await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if read as u64 == LONGEST_REQUEST => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a request has at most {LONGEST_REQUEST} bytes"),
        )),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the line has no end",
        )),
    }
}

/// Does a request, however long it takes and whether or not the client stays, and answers it. A client
/// that went away before its request began, because this process was stopped, has already reported the request as not done.
async fn perform(
    service: Arc<dyn ControlService>,
    request: Request,
    peer: Peer,
    reader: &mut BufReader<ReadHalf<Accepted>>,
    writer: &mut WriteHalf<Accepted>,
) -> io::Result<()> {
    // The client is to know soon that its request was heard.
    write(writer, &Message::Alive).await?;
    let (sender, mut events) = mpsc::channel(EVENTS);
    let client_gone = Arc::new(AtomicBool::new(false));
    let sink = EventSink {
        events: sender,
        gone: client_gone.clone(),
    };
    // A task of its own, so that a panic in it is an answer too.
    let mut work = tokio::spawn(async move { service.handle(request, peer, sink).await });
    let mut listening = true;
    let mut alive = interval(ALIVE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    alive.reset();
    let mut gone: io::Result<()> = Ok(());
    let response = loop {
        let message = tokio::select! {
            biased;
            Some(event) = events.recv() => Message::Event { event },
            response = &mut work => break response,
            // Only looks: what a client sends before it has its answer is its next request.
            sent = reader.fill_buf(), if listening => {
                listening = false;
                if sent.map_or(true, <[u8]>::is_empty) {
                    client_gone.store(true, Ordering::Relaxed);
                }
                continue;
            }
            _ = alive.tick() => Message::Alive,
        };
        if gone.is_ok() {
            gone = write(writer, &message).await;
            if gone.is_err() {
                client_gone.store(true, Ordering::Relaxed);
            }
        }
    };
    while let Ok(event) = events.try_recv() {
        if gone.is_ok() {
            gone = write(writer, &Message::Event { event }).await;
        }
    }
    gone?;
    let response = response.unwrap_or_else(|error| {
        tracing::error!(%error, "a request of the control socket failed");
        Err(Failure::plain(
            FailureClass::Other,
            "the request failed inside; the log says more",
        ))
    });
    write(writer, &Message::from(response)).await
}

async fn write(writer: &mut WriteHalf<Accepted>, message: &Message) -> io::Result<()> {
    let mut line = encode(message)?;
    if line.len() as u64 > LONGEST_ANSWER {
        let failure = Failure::plain(
            FailureClass::Other,
            format!("the answer is longer than {LONGEST_ANSWER} bytes"),
        );
        line = match message {
            Message::Alive | Message::Event { .. } => return Ok(()),
            Message::Done { .. } | Message::Failed(_) => encode(&Message::Failed(failure))?,
        };
    }
    timeout(SLOWEST_READER, writer.write_all(&line)).await?
}
