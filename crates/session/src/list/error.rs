//! Why a session is not found, or its entry in the list cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::DurableError;

use crate::session::{SessionError, SessionId};

/// Why a session is not found, or its entry in the list cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionListError {
    /// No session has this id, and none was mounted at this path.
    #[error("there is no session and no mount \"{0}\"")]
    Unknown(String),
    /// A session that has ended, and published something before.
    #[error("session {id} has ended")]
    Ended {
        /// The session.
        id: SessionId,
    },
    /// Several sessions fit.
    #[error("\"{name}\" means several sessions: {}", listed(ids))]
    Ambiguous {
        /// The text that the user gave.
        name: String,
        /// The sessions that it may stand for.
        ids: Vec<SessionId>,
    },
    /// A session whose directory is not there now.
    #[error("session {id} in {} cannot be reached", dir.display())]
    Unreachable {
        /// The session.
        id: SessionId,
        /// Where it should be.
        dir: PathBuf,
        /// Why.
        #[source]
        source: Box<SessionListError>,
    },
    /// A session in whose place there is another one.
    #[error("{}", replaced(id.as_ref(), entry, dir, found))]
    Replaced {
        /// The entry in the list.
        entry: PathBuf,
        /// The session that is lost, if the entry has the name of one.
        id: Option<SessionId>,
        /// Where it was.
        dir: PathBuf,
        /// The session that is there.
        found: SessionId,
    },
    /// The session can be reached, so it is not forgotten.
    #[error("session {id} is in {}: only one that cannot be reached is forgotten", dir.display())]
    Reachable {
        /// The session.
        id: SessionId,
        /// Its directory.
        dir: PathBuf,
    },
    /// A session's directory cannot be used.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The account of an ended session cannot be written as JSON.
    #[error("cannot write down what session {id} published")]
    Account {
        /// The session.
        id: SessionId,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<DurableError> for SessionListError {
    fn from(error: DurableError) -> Self {
        Self::Session(error.into())
    }
}

impl SessionListError {
    /// Whether the session's directory is missing, or its disk does not answer.
    pub(super) fn is_absence(&self) -> bool {
        let source = match self {
            Self::Session(SessionError::Missing(_)) => return true,
            Self::Session(SessionError::Durable(DurableError { source, .. }))
            | Self::Io { source, .. } => source,
            _ => return false,
        };
        // An error of the disk, of the network, or of a mount whose process is gone or stopped.
        !matches!(
            source.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData
        )
    }

    /// Whether it is about the session in a directory, or about the one that an entry of this name, or
    /// of a name that begins so, stands for.
    pub(super) fn is_of(&self, dir: &Path) -> bool {
        let is_meant = |id: &SessionId| {
            let name = dir.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| {
                SessionId::may_begin_with(name) && id.as_str().starts_with(name)
            })
        };
        match self {
            Self::Unreachable { id, dir: of, .. } => of == dir || is_meant(id),
            Self::Replaced { id, .. } => id.as_ref().is_some_and(is_meant),
            Self::Session(SessionError::Format { path, .. }) => path == dir,
            Self::Session(SessionError::Description { path, .. }) => path.parent() == Some(dir),
            _ => false,
        }
    }
}

fn listed(ids: &[SessionId]) -> String {
    let ids: Vec<&str> = ids.iter().map(SessionId::as_str).collect();
    ids.join(", ")
}

fn replaced(id: Option<&SessionId>, entry: &Path, dir: &Path, found: &SessionId) -> String {
    match id {
        Some(id) => format!(
            "session {id} is lost: {}, where it was, holds session {found} now",
            dir.display()
        ),
        None => format!(
            "{} is session {found}, under a name that is not its own",
            entry.display()
        ),
    }
}
