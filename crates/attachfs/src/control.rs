//! Both ends of the control socket: the verbs of a session, through the process that has it mounted.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_commit::{Observer, Step};
use attachfs_mount::Process;
use attachfs_session::{
    ControlClient, ControlError, ControlService, EventSink, Failure, Peer, Request, Response,
    ServiceFuture,
};
use attachfs_transfer::{Cancelled, Phase, Progress, ProgressEvent, TransferError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::mount::Active;
use crate::registry::Found;
use crate::remote::CommitArguments;

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
        // Whoever goes away while the mount is being taken down gets it taken down all the same: half
        // of that helps nobody.
        let cancellable = !matches!(request, Request::Unmount { .. } | Request::Discard { .. });
        let news = News::new(events, self.hook, cancellable);
        let live = &self.active.live;
        match request {
            Request::Status => {
                let mut status = live.status(true).await?;
                status.mount_point = self.active.mounted.mount_point();
                value(&status)
            }
            Request::Diff { options } => value(&live.diff(read(options)?, &news).await?),
            Request::Commit { options } => {
                let arguments: CommitArguments = read(options)?;
                value(&live.commit(&arguments, &news).await?)
            }
            Request::Unmount { detach, options } => {
                let arguments = read(options)?;
                let unmounted = self.active.unmount_and_commit(detach, arguments, &news);
                value(&unmounted.await?)
            }
            Request::Discard { .. } => value(&self.active.unmount_and_discard().await?),
        }
    }
}

/// The options of a request; the default ones if it has none.
fn read<T: DeserializeOwned + Default>(options: Value) -> Result<T, Error> {
    match options {
        Value::Null => Ok(T::default()),
        options => serde_json::from_value(options)
            .map_err(|error| Error::Usage(format!("the options of the request: {error}"))),
    }
}

/// Results and options as they travel.
pub(crate) fn value<T: Serialize>(result: &T) -> Result<Value, Error> {
    serde_json::to_value(result).map_err(|error| Error::Usage(error.to_string()))
}

impl ControlService for Service {
    fn handle(&self, request: Request, _peer: Peer, events: EventSink) -> ServiceFuture<'_> {
        Box::pin(async move {
            let answer = self.answer(request, events).await;
            answer.map_err(|error| Failure::new(error.class(), &error)) as Response
        })
    }
}

/// Progress as it travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Event {
    phase: String,
    items_done: u64,
    items_skipped: u64,
    items_total: Option<u64>,
    bytes_done: u64,
    bytes_skipped: u64,
    bytes_total: Option<u64>,
    bytes_per_second: u64,
    item: Option<String>,
}

impl From<&ProgressEvent> for Event {
    fn from(event: &ProgressEvent) -> Self {
        let phase = match event.phase {
            Phase::Scan => "scan",
            Phase::Hash => "hash",
            Phase::Check => "check",
            Phase::Upload => "upload",
            Phase::Download => "download",
            Phase::Commit => "commit",
        };
        Self {
            phase: phase.to_owned(),
            items_done: event.items_done,
            items_skipped: event.items_skipped,
            items_total: event.items_total,
            bytes_done: event.bytes_done,
            bytes_skipped: event.bytes_skipped,
            bytes_total: event.bytes_total,
            bytes_per_second: event.bytes_per_second,
            item: event.item.clone(),
        }
    }
}

impl From<Event> for ProgressEvent {
    fn from(event: Event) -> Self {
        let phase = match event.phase.as_str() {
            "scan" => Phase::Scan,
            "hash" => Phase::Hash,
            "check" => Phase::Check,
            "upload" => Phase::Upload,
            "download" => Phase::Download,
            _ => Phase::Commit,
        };
        Self {
            phase,
            items_done: event.items_done,
            items_skipped: event.items_skipped,
            items_total: event.items_total,
            bytes_done: event.bytes_done,
            bytes_skipped: event.bytes_skipped,
            bytes_total: event.bytes_total,
            bytes_per_second: event.bytes_per_second,
            item: event.item,
        }
    }
}

/// Passes progress on. What is `cancellable` ends when its client goes away, up to a commit's
/// intent: from there on it is quicker to finish than to resume.
struct News {
    events: EventSink,
    hook: Option<StepHook>,
    cancellable: bool,
    intended: AtomicBool,
}

impl News {
    fn new(events: EventSink, hook: Option<StepHook>, cancellable: bool) -> Self {
        Self {
            events,
            hook,
            cancellable,
            intended: AtomicBool::new(false),
        }
    }
}

impl Progress for News {
    fn update(&self, event: &ProgressEvent) -> ControlFlow<()> {
        if self.cancellable && !self.intended.load(Ordering::Relaxed) && self.events.is_gone() {
            return ControlFlow::Break(());
        }
        if let Ok(event) = serde_json::to_value(Event::from(event)) {
            self.events.send(event);
        }
        ControlFlow::Continue(())
    }
}

impl Observer for News {
    fn step(&self, step: Step) {
        if step == Step::Intended {
            self.intended.store(true, Ordering::Relaxed);
        }
        if let Some(hook) = self.hook {
            hook(step);
        }
    }
}

/// Connects to the process that has a session; `None` if nobody listens. Does not wait.
pub(crate) fn connect(found: &Found) -> Result<Option<ControlClient>, Error> {
    ControlClient::connect(&found.dir).map_err(|error| control_failed(found, error))
}

fn control_failed(found: &Found, error: ControlError) -> Error {
    match error {
        ControlError::Silent { pid, .. } => no_answer(found, pid),
        error => error.into(),
    }
}

/// Says which process has a session and does not answer; `listening` is the one that has its socket.
pub(crate) fn no_answer(found: &Found, listening: Option<u32>) -> Error {
    let id = Some(&found.meta.id);
    // What cannot be found out is missing in the message only.
    let mounts = attachfs_mount::active_mounts().unwrap_or_default();
    Error::NoAnswer {
        dir: found.dir.clone(),
        process: listening.map(Process::of).or_else(|| holder(&found.dir)),
        mounted: mounts.iter().any(|mount| mount.session.as_ref() == id),
    }
}

/// The process that has the session in a directory.
pub(crate) fn holder(dir: &Path) -> Option<Process> {
    Process::that_locks(&dir.join("lock"))
}

/// Asks the process that has a session. If the observer has had enough, the connection is closed:
/// that cancels a commit which has not recorded its intent, and nothing else.
pub(crate) async fn ask<T: DeserializeOwned>(
    found: &Found,
    request: Request,
    observer: Option<&dyn Observer>,
) -> Result<T, Error> {
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut client = connect(found)?.ok_or_else(|| no_answer(found, None))?;
    let hang_up = client.hang_up()?;
    let asked = tokio::task::spawn_blocking(move || {
        let answer = client.request(&request, |event| {
            // Whoever listened has gone; the answer still counts.
            let _ = events.send(event);
        });
        answer.map(|answer| answer.map_err(Error::Remote))
    });
    while let Some(event) = heard.recv().await {
        if let (Some(observer), Ok(event)) = (observer, serde_json::from_value::<Event>(event)) {
            let event = ProgressEvent::from(event);
            if observer.update(&event) == ControlFlow::Break(()) {
                hang_up.now();
                let cancelled = TransferError::from(Cancelled::after(event));
                return Err(Error::Transfer(cancelled));
            }
        }
    }
    let answer = match asked.await {
        Ok(answer) => answer.map_err(|error| control_failed(found, error))??,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    serde_json::from_value(answer).map_err(|error| {
        Error::Usage(format!(
            "the answer of the process that has the session: {error}"
        ))
    })
}
