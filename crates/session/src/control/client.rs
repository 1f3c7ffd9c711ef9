//! The client: the end in a program that asks the process of a mounted session. It blocks.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use attachfs_durable::{Connection, HangUp, SocketDir};
use serde_json::Value;

use super::protocol::{
    ALIVE, DecodeError, LONGEST_ANSWER, Message, Request, Response, decode, encode,
};
use crate::session::SOCKET;

/// How long a server may be silent. It says every [`ALIVE`] that it is there.
const LONGEST_SILENCE: Duration = ALIVE.saturating_mul(6);
/// How long the first sign of life may take: a server gives one at once. A process that is stopped
/// accepts connections, and never answers.
const FIRST_SIGN: Duration = ALIVE.saturating_mul(2);
/// How long it may take to read a request.
const SLOWEST_READER: Duration = Duration::from_secs(10);

/// Why a session's process could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket cannot be used.
    #[error("cannot connect to the control socket in {}", dir.display())]
    Connect {
        /// The session's directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another user listens on the session's socket.
    #[error("the control socket in {} is not the session owner's: user {user} listens on it", dir.display())]
    NotTrusted {
        /// The session's directory.
        dir: PathBuf,
        /// The user who listens.
        user: String,
    },
    /// The connection broke.
    #[error("the connection to the session's process broke")]
    Connection(#[source] io::Error),
    /// The process ended before it began with the request, of which nothing was done.
    #[error("the session's process ended before it heard the request")]
    NotBegun,
    /// The process ended without an answer, in the midst of the request.
    #[error("the session's process ended before it answered")]
    Closed,
    /// The process is stopped or stuck.
    #[error("the session's process has not said anything for {} s", after.as_secs())]
    Silent {
        /// How long it was listened to.
        after: Duration,
        /// Its number, if it is known.
        pid: Option<u32>,
    },
    /// The process is of another version.
    #[error(
        "the session was mounted by another version of the program: it speaks version {0} of the control protocol"
    )]
    Version(u32),
    /// The process sent something that is no message.
    #[error("the session's process sent something that is no message")]
    Malformed(#[source] io::Error),
}

/// A connection to the process that has a session mounted.
#[derive(Debug)]
pub struct ControlClient {
    reader: BufReader<Connection>,
    pid: Option<u32>,
    patience: Duration,
}

impl ControlClient {
    /// Connects to the process that has the session in `dir`; `None` if none listens there.
    pub fn connect(dir: &Path) -> Result<Option<Self>, ControlError> {
        let failed = |source| ControlError::Connect {
            dir: dir.to_owned(),
            source,
        };
        let socket_dir = match SocketDir::open(dir, SOCKET) {
            Ok(socket_dir) => socket_dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut connection = match socket_dir.connect() {
            Ok(Some(connection)) => connection,
            Ok(None) => return Ok(None),
            // The queue of waiting clients is full: the process has accepted none for long.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let after = Duration::ZERO;
                return Err(ControlError::Silent { after, pid: None });
            }
            Err(error) => return Err(failed(error)),
        };
        let peer = connection.peer().map_err(failed)?;
        if !peer.is_mine() && !peer.is_of_system() {
            return Err(ControlError::NotTrusted {
                dir: dir.to_owned(),
                user: peer.user(),
            });
        }
        connection.set_read_timeout(FIRST_SIGN).map_err(failed)?;
        connection
            .set_write_timeout(SLOWEST_READER)
            .map_err(failed)?;
        Ok(Some(Self {
            reader: BufReader::new(connection),
            pid: peer.process(),
            patience: FIRST_SIGN,
        }))
    }

    /// A way to close the connection while another thread waits for an answer.
    pub fn hang_up(&self) -> Result<HangUp, ControlError> {
        let hang_up = self.reader.get_ref().hang_up();
        hang_up.map_err(ControlError::Connection)
    }

    /// Asks, and waits for the answer, however long it takes as long as the process is there.
    /// `on_event` is told of progress. [`ControlError::NotBegun`] is certain: a process says that it heard a request before it begins.
    pub fn request(
        &mut self,
        request: &Request,
        mut on_event: impl FnMut(Value),
    ) -> Result<Response, ControlError> {
        let line = encode(request).map_err(|error| ControlError::Malformed(error.into()))?;
        let not_begun = |error| match error {
            ControlError::Closed => ControlError::NotBegun,
            error => error,
        };
        let written = self.reader.get_mut().write_all(&line);
        written.map_err(|error| not_begun(self.connection_error(error, SLOWEST_READER)))?;
        let mut message = self.read().map_err(not_begun)?;
        loop {
            match message {
                Message::Alive => {}
                Message::Event { event } => on_event(event),
                Message::Done { result } => return Ok(Ok(result)),
                Message::Failed(failure) => return Ok(Err(failure)),
            }
            message = self.read()?;
        }
    }

    fn read(&mut self) -> Result<Message, ControlError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.reader).take(LONGEST_ANSWER);
        let read = bounded.read_until(b'\n', &mut line);
        read.map_err(|error| self.connection_error(error, self.patience))?;
        self.is_alive()?;
        match line.pop() {
            None => Err(ControlError::Closed),
            Some(b'\n') => decode(&line).map_err(|error| match error {
                DecodeError::Version(version) => ControlError::Version(version),
                DecodeError::Malformed(error) => ControlError::Malformed(error.into()),
            }),
            Some(_) if line.len() as u64 + 1 < LONGEST_ANSWER => Err(ControlError::Closed),
            Some(_) => Err(ControlError::Malformed(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an answer has at most {LONGEST_ANSWER} bytes"),
            ))),
        }
    }
}

impl ControlClient {
    /// From its first sign of life on, the process may be silent for longer.
    fn is_alive(&mut self) -> Result<(), ControlError> {
        if self.patience != LONGEST_SILENCE {
            self.patience = LONGEST_SILENCE;
            let connection = self.reader.get_mut();
            let set = connection.set_read_timeout(LONGEST_SILENCE);
            set.map_err(ControlError::Connection)?;
        }
        Ok(())
    }

    fn connection_error(&self, error: io::Error, after: Duration) -> ControlError {
        match error.kind() {
            // What a timeout is, depends on the platform.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ControlError::Silent {
                after,
                pid: self.pid,
            },
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ControlError::Closed,
            _ => ControlError::Connection(error),
        }
    }
}
