//! Sessions: what one mount keeps on disk, and how other programs talk to the process that has it.
//!
//! ```text
//!     session     a session's directory: its description, its lock, its manifests, the files that its commits keep
//!     list        the sessions of a user, and those that have ended
//!     control     the control socket in that directory: a server in the process that has the session, and its clients
//!     failure     the classes of failure that scripts tell apart, and a failure as it travels
//! ```
//!
//! This crate neither mounts, writes nor commits: the file system gets the places of its files from
//! [`Session`], and the process that has the session carries out the requests to its socket ([`ControlService`]).

mod control;
mod failure;
mod list;
pub mod path_json;
mod session;

pub use control::{
    ControlClient, ControlError, ControlServer, ControlService, EventSink, HangUp,
    PROTOCOL_VERSION, Peer, Request, Response, ServiceFuture,
};
pub use failure::{Failure, FailureClass};
pub use list::{
    EndedCommit, EndedSession, EndedSessions, Named, Pruned, SessionEntry, SessionList,
    SessionListError, SessionState,
};
pub use session::{
    BaseManifest, NewSession, ParseSessionIdError, Session, SessionError, SessionId, SessionMeta,
    Stack, StackedManifest, StoreSettings, Taint,
};
