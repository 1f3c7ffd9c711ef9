//! What travels over the control socket, as JSON: options, results and progress.

use attachfs_transfer::{Phase, ProgressEvent};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Doing as _, Error};

/// A sentence for who waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NoteMessage {
    pub(crate) note: String,
}

/// Progress as it travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProgressMessage {
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

impl From<&ProgressEvent> for ProgressMessage {
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

impl From<ProgressMessage> for ProgressEvent {
    fn from(event: ProgressMessage) -> Self {
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

/// Results and options as they travel.
pub(crate) fn value<T: Serialize>(result: &T) -> Result<Value, Error> {
    let value = serde_json::to_value(result);
    value.doing(|| format!("cannot write {} as JSON", std::any::type_name::<T>()))
}

/// The options of a request; the default ones if it has none.
pub(crate) fn options<T: DeserializeOwned + Default>(options: Value) -> Result<T, Error> {
    match options {
        Value::Null => Ok(T::default()),
        options => serde_json::from_value(options).map_err(|error| {
            Error::usage("the options of the request make no sense").because(error)
        }),
    }
}

/// The answer to a request.
pub(crate) fn answer<T: DeserializeOwned>(answer: Value) -> Result<T, Error> {
    serde_json::from_value(answer)
        .doing(|| "the answer of the process that has the session makes no sense".to_owned())
}
