//! The side of the control socket that serves: the verbs of a session, for other processes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_commit::{CommitStep, Observer};
use attachfs_session::{
    ControlService, EventSink, Failure, Peer, Request, Response, ServiceFuture,
};
use attachfs_transfer::{Progress, ProgressEvent};
use serde_json::Value;

use crate::arguments::{CommitArguments, Show, UnmountArguments};
use crate::error::Error;
use crate::joining;
use crate::message::{NoteMessage, ProgressMessage, options, value};
use crate::served::ServedMount;

/// Answers for a mount of this process.
#[derive(Debug)]
pub(crate) struct Service {
    mount: Arc<ServedMount>,
    hook: Option<StepHook>,
}

/// Called at each step of a commit, before it goes on.
pub type StepHook = fn(CommitStep);

impl Service {
    pub(crate) fn new(mount: Arc<ServedMount>, hook: Option<StepHook>) -> Self {
        Self { mount, hook }
    }

    async fn answer(
        &self,
        request: Request,
        peer: &Peer,
        events: EventSink,
    ) -> Result<Value, Error> {
        // A client that goes away while the mount is being taken down gets it taken down all the same: half
        // of that helps nobody.
        let cancellable = !matches!(request, Request::Unmount { .. } | Request::Discard { .. });
        let news = News::new(events, self.hook, cancellable);
        let session = &self.mount.session;
        match request {
            Request::Status => value(&self.mount.status().await?),
            Request::Diff { options: how } => match options(how)? {
                Show::Diff(how) => value(&session.diff(how, &news).await?),
                Show::Commit { as_commit } => value(&session.rehearse(&as_commit, &news).await?),
            },
            Request::Commit { options: how } => {
                let arguments: CommitArguments = options(how)?;
                value(&session.commit(&arguments, &news).await?)
            }
            Request::Add { options: how } => value(&self.mount.add(options(how)?).await?),
            Request::Why { options: how } => value(&self.mount.why(options(how)?).await?),
            Request::Layers => value(&session.layers()?),
            Request::Access => value(&session.store.settings.s3),
            Request::Stats => value(&self.mount.stats()),
            Request::Report => value(&self.mount.report(&news.events).await?),
            Request::Unmount {
                detach,
                options: how,
            } => {
                let arguments: UnmountArguments = options(how)?;
                let end_asked = self.mount.end_asked.by(peer.process());
                let _under_way = end_asked.inspect_err(|first| {
                    let session = session.meta.id.as_str();
                    news.note(&joining::sentence(session, first));
                });
                let report = if arguments.lazy && !detach {
                    self.mount.detach(arguments, &news).await?
                } else {
                    let unmounted = self.mount.unmount_and_commit(detach, arguments, &news);
                    unmounted.await?
                };
                value(&report)
            }
            Request::Discard { .. } => value(&self.mount.unmount_and_discard().await?),
        }
    }
}

impl ControlService for Service {
    fn handle(&self, request: Request, peer: Peer, events: EventSink) -> ServiceFuture<'_> {
        Box::pin(async move {
            let answer = self.answer(request, &peer, events).await;
            answer.map_err(|error| Failure::from(&error)) as Response
        })
    }
}

/// Passes progress on to a client. A `cancellable` request ends when its client goes away, up to a commit's
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
        if let Ok(event) = serde_json::to_value(ProgressMessage::from(event)) {
            self.events.send(event);
        }
        ControlFlow::Continue(())
    }
}

impl Observer for News {
    fn note(&self, text: &str) {
        if let Ok(event) = serde_json::to_value(NoteMessage {
            note: text.to_owned(),
        }) {
            self.events.send(event);
        }
    }

    fn step(&self, step: CommitStep) {
        if step == CommitStep::Intended {
            self.intended.store(true, Ordering::Relaxed);
        }
        if let Some(hook) = self.hook {
            hook(step);
        }
    }
}
