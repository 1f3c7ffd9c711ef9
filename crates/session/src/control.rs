//! The control socket: how other programs talk to the process that has a session mounted.
//!
//! ```text
//!     <session>/control.sock
//!
//!     client  {"v":2,"request":"commit","options":{..}}\n
//!     server  {"v":2,"message":"event","event":{..}}\n         any number of these,
//!             {"v":2,"message":"alive"}\n                      and of these: at once, and while there is no news
//!             {"v":2,"message":"done","result":{..}}\n         then exactly one of these
//!             {"v":2,"message":"failed","kind":"busy","text":..,"causes":[..]}\n
//! ```
//!
//! Both ends check which user runs the other: only the owner of the session and root are served and trusted. On Windows the socket
//! is a named pipe ([`attachfs_durable::SocketDir`]), and the system's own account takes root's place.
//! No credentials pass. A line has at most a mebibyte.

mod client;
mod protocol;
mod server;

pub use attachfs_durable::{HangUp, Peer};
pub use client::{ControlClient, ControlError};
pub use protocol::{PROTOCOL_VERSION, Request, Response};
pub use server::{ControlServer, ControlService, EventSink, ServiceFuture};

#[cfg(test)]
mod tests;
