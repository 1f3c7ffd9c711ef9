//! The control socket of a browse.

use std::sync::Arc;

use attachfs_session::{
    ControlService, EventSink, Failure, Peer, Request, Response, ServiceFuture,
};
use serde_json::Value;

use super::served::{End, ServedBrowse};
use crate::arguments::UnmountArguments;
use crate::error::Error;
use crate::joining;
use crate::message::{NoteMessage, options, value};
use crate::opened::require_writable;

/// Answers for a browse of this process.
#[derive(Debug)]
pub(super) struct BrowseService(Arc<ServedBrowse>);

impl BrowseService {
    pub(super) fn new(served: Arc<ServedBrowse>) -> Self {
        Self(served)
    }

    async fn answer(
        &self,
        request: Request,
        peer: &Peer,
        events: EventSink,
    ) -> Result<Value, Error> {
        let served = &self.0;
        let meta = served.meta();
        match request {
            Request::Status => value(&served.status()?),
            Request::Access => value(&served.store.settings.s3),
            Request::Unmount {
                detach,
                options: how,
            } => {
                let arguments: UnmountArguments = options(how)?;
                if arguments.commit.is_some() {
                    require_writable(meta)?;
                }
                let end_asked = served.end_asked.by(peer.process());
                let _under_way = end_asked.inspect_err(|first| {
                    let note = joining::sentence(meta.id.as_str(), first);
                    if let Ok(event) = serde_json::to_value(NoteMessage { note }) {
                        events.send(event);
                    }
                });
                let how = match (detach, arguments.lazy) {
                    (true, _) => End::CutOff,
                    (false, true) => End::Detach,
                    (false, false) => End::IfUnused,
                };
                value(&served.end(how).await?)
            }
            Request::Diff { .. } | Request::Commit { .. } | Request::Discard { .. } => {
                require_writable(meta)?;
                Ok(Value::Null)
            }
            Request::Add { .. }
            | Request::Layers
            | Request::Stats
            | Request::Report
            | Request::Why { .. } => {
                let id = &meta.id;
                let sentence = format!(
                    "session {id} shows outputs of jobs, and this verb is for mounts of manifests"
                );
                Err(Error::usage(sentence).advise("`attachfs status` tells how it is"))
            }
        }
    }
}

impl ControlService for BrowseService {
    fn handle(&self, request: Request, peer: Peer, events: EventSink) -> ServiceFuture<'_> {
        Box::pin(async move {
            let answer = self.answer(request, &peer, events).await;
            answer.map_err(|error| Failure::from(&error)) as Response
        })
    }
}
