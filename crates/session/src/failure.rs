//! Why something was not done, for people, for exit codes and for programs.

use std::error::Error;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The classes of failure that programs tell apart. There is no other list of them: a library's error, the control
/// socket and the exit code of the program all say which of these it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The request itself is wrong: an unknown option, a bad value.
    Usage,
    /// Mounting, unmounting or the file system.
    Mount,
    /// The store.
    Store,
    /// Bytes are not what their hash says.
    Integrity,
    /// A part of the work is done; the same request continues with the rest.
    Incomplete,
    /// Another process uses the session, mount or file that was to be changed.
    Busy,
    /// The user cancelled the request.
    Cancelled,
    /// Anything else: the operating system refused, or a bug.
    #[serde(rename = "internal")]
    Other,
}

/// A failure with its causes, as it travels between processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// Which class of failure it is.
    #[serde(rename = "kind")]
    pub class: FailureClass,
    /// What failed.
    pub text: String,
    /// Why, from the outermost cause to the innermost.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What the user can do about the failure, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Further details for programs.
    #[serde(default)]
    pub details: Value,
}

impl Failure {
    /// A failure with an error's causes.
    pub fn new(class: FailureClass, error: &dyn Error) -> Self {
        let first = error.source();
        let causes = std::iter::successors(first, |&cause| cause.source());
        Self {
            class,
            text: error.to_string(),
            causes: causes.map(ToString::to_string).collect(),
            advice: None,
            details: Value::Null,
        }
    }

    /// A failure without causes.
    pub fn plain(class: FailureClass, text: impl Into<String>) -> Self {
        Self {
            class,
            text: text.into(),
            causes: Vec::new(),
            advice: None,
            details: Value::Null,
        }
    }
}
