//! Sessions: what one mount keeps on disk, and how other programs talk to the process that has it.
//!
//! ```text
//!     session     a session's directory: its description, its lock, its manifests, what its commits keep
//!     control     the control socket in that directory: a server in the process that has the session, and its clients
//!     failure     the classes of failure that scripts tell apart, and a failure as it travels
//! ```
//!
//! What is mounted, written or committed is not known here: the file system gets the places of its files from
//! [`Session`], and whoever serves the socket says what a request does ([`ControlService`]).

mod control;
mod failure;
pub mod path_json;
mod session;

pub use control::{
    ControlClient, ControlError, ControlServer, ControlService, EventSink, HangUp,
    PROTOCOL_VERSION, Peer, Request, Response, ServiceFuture,
};
pub use failure::{Failure, FailureClass};
pub use session::{
    BaseManifest, ParseSessionIdError, Session, SessionError, SessionId, SessionMeta, Stack,
    StackedManifest, StoreSettings,
};
