//! The side of the control socket that asks the process which has a session.

use std::ops::ControlFlow;

use attachfs_commit::Observer;
use attachfs_session::{ControlClient, ControlError, HangUp, Request, SessionEntry};
use attachfs_transfer::{Cancelled, ProgressEvent, TransferError};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::holder::no_answer;
use crate::message::{NoteMessage, ProgressMessage, answer};

/// Connects to the process that has a session; `None` if no process listens. Does not wait.
pub(crate) fn connect(entry: &SessionEntry) -> Result<Option<ControlClient>, Error> {
    ControlClient::connect(&entry.dir).map_err(|error| control_failed(entry, error))
}

fn control_failed(entry: &SessionEntry, error: ControlError) -> Error {
    match error {
        ControlError::Silent { pid, .. } => no_answer(entry, pid),
        error => error.into(),
    }
}

/// Closes the connection when it is dropped, so that a process does not go on for a client that has gone.
struct HangUpLater(Option<HangUp>);

impl Drop for HangUpLater {
    fn drop(&mut self) {
        if let Some(hang_up) = self.0.take() {
            hang_up.now();
        }
    }
}

/// Asks the process that has a session, through a connection to it. If the observer has had enough, or this is dropped, the connection is
/// closed: that cancels a commit which has not recorded its intent, and nothing else. A process that ends at this moment may not begin with the
/// request ([`ControlError::NotBegun`]).
pub(crate) async fn ask<T: DeserializeOwned>(
    entry: &SessionEntry,
    mut client: ControlClient,
    request: Request,
    observer: Option<&dyn Observer>,
) -> Result<T, Error> {
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let connection = HangUpLater(Some(client.hang_up()?));
    let asked = tokio::task::spawn_blocking(move || {
        client.request(&request, |event| {
            // The caller no longer listens to progress; the answer still counts.
            let _ = events.send(event);
        })
    });
    while let Some(event) = heard.recv().await {
        let Some(observer) = observer else { continue };
        if let Ok(NoteMessage { note }) = NoteMessage::deserialize(&event) {
            observer.note(&note);
        } else if let Ok(event) = ProgressMessage::deserialize(&event) {
            let event = ProgressEvent::from(event);
            if observer.update(&event) == ControlFlow::Break(()) {
                return Err(TransferError::from(Cancelled::after(event)).into());
            }
        }
    }
    let response = match asked.await {
        Ok(response) => response.map_err(|error| control_failed(entry, error))?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    drop(connection);
    answer(response?)
}
