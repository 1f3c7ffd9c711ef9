//! Both ends of the control socket: the verbs of a session, through the process that has it mounted.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use attachfs_commit::{Observer, Step};
use attachfs_mount::{
    ControlClient, ControlService, EventSink, Failure, FailureKind, Peer, Request, Response,
    ServiceFuture,
};
use attachfs_transfer::{Phase, Progress, ProgressEvent};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::mount::Active;
use crate::registry::Found;
use crate::remote::CommitArguments;

/// How often a client hears of progress.
const NEWS: Duration = Duration::from_millis(100);

/// Answers for a mount of this process.
#[derive(Debug)]
pub(crate) struct Service {
    active: Arc<Active>,
    hook: Option<StepHook>,
}

/// Called at each step of a commit, before it goes on.
pub type StepHook = fn(Step);

impl Service {
    pub(crate) fn new(active: Arc<Active>, hook: Option<StepHook>) -> Self {
        Self { active, hook }
    }

    async fn answer(&self, request: Request, events: EventSink) -> Result<Value, Error> {
        let news = News::new(events, self.hook);
        let live = &self.active.live;
        match request {
            Request::Status => value(&live.status(true).await?),
            Request::Diff { .. } => value(&live.diff(&news).await?),
            Request::Commit { options } => {
                let arguments = match options {
                    Value::Null => CommitArguments::default(),
                    options => serde_json::from_value(options).map_err(|error| {
                        Error::Usage(format!("the options of a commit: {error}"))
                    })?,
                };
                value(&live.commit(&arguments, &news).await?)
            }
            Request::Unmount { detach, .. } => {
                value(&self.active.unmount_and_commit(detach, &news).await?)
            }
            Request::Discard { .. } => value(&self.active.unmount_and_discard().await?),
        }
    }
}

fn value<T: Serialize>(result: &T) -> Result<Value, Error> {
    serde_json::to_value(result).map_err(|error| Error::Usage(error.to_string()))
}

impl ControlService for Service {
    fn handle(&self, request: Request, _peer: Peer, events: EventSink) -> ServiceFuture<'_> {
        Box::pin(async move {
            let answer = self.answer(request, events).await;
            answer.map_err(|error| Failure::new(FailureKind::from(error.class()), &error))
                as Response
        })
    }
}

/// Progress as it travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Event {
    phase: String,
    items_done: u64,
    items_total: Option<u64>,
    bytes_done: u64,
    bytes_total: Option<u64>,
    item: Option<String>,
}

/// Passes progress on, not more often than someone can read it.
struct News {
    events: EventSink,
    hook: Option<StepHook>,
    last: Mutex<Option<Instant>>,
}

impl News {
    fn new(events: EventSink, hook: Option<StepHook>) -> Self {
        Self {
            events,
            hook,
            last: Mutex::new(None),
        }
    }
}

impl Progress for News {
    fn update(&self, event: &ProgressEvent) -> ControlFlow<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= NEWS) {
            *last = Some(Instant::now());
            let phase = match event.phase {
                Phase::Scan => "scan",
                Phase::Hash => "hash",
                Phase::Upload => "upload",
            };
            let event = Event {
                phase: phase.to_owned(),
                items_done: event.items_done,
                items_total: event.items_total,
                bytes_done: event.bytes_done,
                bytes_total: event.bytes_total,
                item: event.item.clone(),
            };
            if let Ok(event) = serde_json::to_value(event) {
                self.events.send(event);
            }
        }
        ControlFlow::Continue(())
    }
}

impl Observer for News {
    fn step(&self, step: Step) {
        if let Some(hook) = self.hook {
            hook(step);
        }
    }
}

/// Asks the process that has a session.
pub(crate) async fn ask<T: DeserializeOwned>(
    found: &Found,
    request: Request,
    observer: Option<&dyn Observer>,
) -> Result<T, Error> {
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let dir = found.dir.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let Some(mut client) = ControlClient::connect(&dir)? else {
            return Err(Error::NoAnswer(dir));
        };
        let answer = client.request(&request, |event| {
            // Whoever listened has gone; the answer still counts.
            let _ = events.send(event);
        });
        answer?.map_err(Error::Remote)
    });
    while let Some(event) = heard.recv().await {
        if let (Some(observer), Ok(event)) = (observer, serde_json::from_value::<Event>(event)) {
            let event = ProgressEvent {
                phase: match event.phase.as_str() {
                    "scan" => Phase::Scan,
                    "hash" => Phase::Hash,
                    _ => Phase::Upload,
                },
                items_done: event.items_done,
                items_total: event.items_total,
                bytes_done: event.bytes_done,
                bytes_total: event.bytes_total,
                item: event.item,
            };
            if observer.update(&event) == ControlFlow::Break(()) {
                // The process goes on with it; only this end stops listening.
                return Err(Error::Transfer(attachfs_transfer::TransferError::Cancelled));
            }
        }
    }
    let answer = match asked.await {
        Ok(answer) => answer?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    serde_json::from_value(answer).map_err(|error| {
        Error::Usage(format!(
            "the answer of the process that has the session: {error}"
        ))
    })
}
