//! The side of the control socket that asks the process which has a session.

use std::ops::ControlFlow;

use attachfs_commit::Observer;
use attachfs_session::{ControlClient, ControlError, Request};
use attachfs_transfer::{Cancelled, ProgressEvent, TransferError};
use serde::de::DeserializeOwned;

use crate::Error;
use crate::holder::no_answer;
use crate::message::ProgressMessage;
use crate::registry::SessionEntry;

/// Connects to the process that has a session; `None` if nobody listens. Does not wait.
pub(crate) fn connect(found: &SessionEntry) -> Result<Option<ControlClient>, Error> {
    ControlClient::connect(&found.dir).map_err(|error| control_failed(found, error))
}

fn control_failed(found: &SessionEntry, error: ControlError) -> Error {
    match error {
        ControlError::Silent { pid, .. } => no_answer(found, pid),
        error => error.into(),
    }
}

/// Asks the process that has a session. If the observer has had enough, the connection is closed:
/// that cancels a commit which has not recorded its intent, and nothing else.
pub(crate) async fn ask<T: DeserializeOwned>(
    found: &SessionEntry,
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
        if let (Some(observer), Ok(event)) =
            (observer, serde_json::from_value::<ProgressMessage>(event))
        {
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
