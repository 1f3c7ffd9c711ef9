//! The messages. The JSON of options and results is agreed between the process that serves and the one that asks.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Failure;

/// The version of the messages that this code writes and understands. 2: a client hands in the manifests that are to be added
/// under names of their own.
pub const PROTOCOL_VERSION: u32 = 2;

/// The longest request, in bytes.
pub(super) const LONGEST_REQUEST: u64 = 1 << 20;
/// The longest answer, in bytes: the paths of some hundred thousand changes.
pub(super) const LONGEST_ANSWER: u64 = 64 << 20;
/// How often a client hears that its request is still being worked on.
pub(super) const ALIVE: Duration = Duration::from_secs(5);

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// How the mount is doing.
    Status,
    /// What has changed since the base, or since the last commit.
    Diff {
        /// Which.
        #[serde(default)]
        options: Value,
    },
    /// Commit what has changed.
    Commit {
        /// How.
        #[serde(default)]
        options: Value,
    },
    /// Lay manifests over those that are shown, or put them in the place of one of those.
    Add {
        /// Which.
        options: Value,
    },
    /// The manifests that are shown.
    Layers,
    /// How the process reaches S3: what it was started with, and no secret.
    Access,
    /// What is counted of the mount.
    Stats,
    /// What was used of the mount's inputs.
    Report,
    /// Why the mount shows what it shows at a path.
    Why {
        /// Which.
        options: Value,
    },
    /// Unmount, then commit if the mount asked for that.
    Unmount {
        /// Even if someone uses the mount.
        #[serde(default)]
        detach: bool,
        /// What else.
        #[serde(default)]
        options: Value,
    },
    /// Unmount and delete the session.
    Discard {
        /// How.
        #[serde(default)]
        options: Value,
    },
}

/// The result of a request.
pub type Response = Result<Value, Failure>;

/// A message from a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(super) enum Message {
    Alive,
    Event { event: Value },
    Done { result: Value },
    Failed(Failure),
}

impl From<Response> for Message {
    fn from(response: Response) -> Self {
        match response {
            Ok(result) => Self::Done { result },
            Err(failure) => Self::Failed(failure),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    body: T,
}

/// A line that is no message of this version.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error(
        "the other end speaks version {0} of the control protocol, this one version {PROTOCOL_VERSION}"
    )]
    Version(u32),
    #[error("the line is no message of the control protocol")]
    Malformed(#[source] serde_json::Error),
}

/// A message as a line.
pub(super) fn encode<T: Serialize>(body: &T) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Versioned {
        v: PROTOCOL_VERSION,
        body,
    })?;
    line.push(b'\n');
    Ok(line)
}

/// A line as a message. The version is looked at first: the rest of another version may be anything.
pub(super) fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, DecodeError> {
    #[derive(Deserialize)]
    struct VersionOnly {
        v: u32,
    }
    let VersionOnly { v } = serde_json::from_slice(line).map_err(DecodeError::Malformed)?;
    if v != PROTOCOL_VERSION {
        return Err(DecodeError::Version(v));
    }
    let Versioned { body, .. } = serde_json::from_slice(line).map_err(DecodeError::Malformed)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use attachfs_durable::DurableError;

    use super::*;
    use crate::{FailureClass, SessionError};

    fn text(line: Vec<u8>) -> String {
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn the_lines_look_like_this() {
        assert_eq!(
            text(encode(&Request::Status).unwrap()),
            "{\"v\":2,\"request\":\"status\"}\n"
        );
        assert_eq!(
            text(
                encode(&Request::Commit {
                    options: json!({"dry_run": true})
                })
                .unwrap()
            ),
            "{\"v\":2,\"request\":\"commit\",\"options\":{\"dry_run\":true}}\n"
        );
        let failed = Message::Failed(Failure::plain(FailureClass::Busy, "it is in use"));
        assert_eq!(
            text(encode(&failed).unwrap()),
            "{\"v\":2,\"message\":\"failed\",\"kind\":\"busy\",\"text\":\"it is in use\",\"causes\":[],\"details\":null}\n"
        );
        assert_eq!(
            text(encode(&Message::Alive).unwrap()),
            "{\"v\":2,\"message\":\"alive\"}\n"
        );
    }

    #[test]
    fn options_may_be_left_out() {
        let request: Request = decode(br#"{"v":2,"request":"unmount"}"#).unwrap();
        assert_eq!(
            request,
            Request::Unmount {
                detach: false,
                options: Value::Null
            }
        );
    }

    #[test]
    fn another_version_is_recognised_whatever_else_it_says() {
        match decode::<Request>(br#"{"v":3,"please":["do"]}"#) {
            Err(DecodeError::Version(3)) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_that_this_version_does_not_have_is_malformed() {
        for line in [
            &br#"{"v":2,"request":"fly"}"#[..],
            b"{}",
            b"",
            b"\xff",
            b"[2]",
            b"nonsense",
        ] {
            assert!(
                matches!(decode::<Request>(line), Err(DecodeError::Malformed(_))),
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_failure_keeps_the_causes_of_its_error() {
        let error = SessionError::Durable(DurableError {
            doing: "open",
            path: "journal".into(),
            source: std::io::Error::other("no route to host"),
        });
        let failure = Failure::new(FailureClass::Store, &error);
        assert_eq!(failure.causes, ["no route to host"]);
    }
}
