//! A socket in a directory, over which the processes of one user talk to each other.
//!
//! ```text
//!     SocketDir::listen()   ->  Listener::accept()  ->  Accepted      one end, for a runtime
//!     SocketDir::connect()  ->  Connection                            the other end, which blocks
//! ```
//!
//! On Unix it is a Unix socket. On Windows it is a named pipe that nobody else may open; its name is random, and a file in
//! the directory, which is this user's alone, says what it is. Each end can ask whose process the other one is
//! ([`Peer`]), and has to: that the directory is private says nothing of who got at the socket before.

use std::io::{self, Read, Write};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Kind, platform};

/// What a socket's name in its directory is: something else than a file on Unix, a file on Windows.
pub const SOCKET_KIND: Kind = platform::SOCKET_KIND;

/// A directory for a socket, held open.
#[derive(Debug)]
pub struct SocketDir(platform::SocketDir);

impl SocketDir {
    /// Opens a directory whose socket has this name. Fails with [`io::ErrorKind::PermissionDenied`] if it is not
    /// this user's, or others may write to it: then another user could listen there.
    pub fn open(path: &Path, name: &'static str) -> io::Result<Self> {
        platform::SocketDir::open(path, name).map(Self)
    }

    /// Listens, within a runtime of tokio. A socket that is there is replaced: the caller knows that its process is dead.
    /// Fails with [`io::ErrorKind::AlreadyExists`] if something else has the name.
    pub fn listen(&self) -> io::Result<Listener> {
        self.0.listen().map(Listener)
    }

    /// Removes the socket. Anything else of that name stays, and is an error ([`io::ErrorKind::AlreadyExists`]).
    pub fn remove(&self) -> io::Result<()> {
        self.0.remove()
    }

    /// Connects; `None` if nobody listens. Fails with [`io::ErrorKind::WouldBlock`] if so many wait to be accepted
    /// already that no more can: at once, on Windows within two seconds.
    pub fn connect(&self) -> io::Result<Option<Connection>> {
        Ok(self.0.connect()?.map(Connection))
    }
}

/// Accepts connections until it is dropped.
#[derive(Debug)]
pub struct Listener(platform::Listener);

impl Listener {
    /// The next connection. A future that is dropped loses none.
    pub async fn accept(&mut self) -> io::Result<Accepted> {
        self.0.accept().await.map(Accepted)
    }
}

/// A connection in the process that listens.
#[derive(Debug)]
pub struct Accepted(platform::Accepted);

impl Accepted {
    /// Who connected.
    pub fn peer(&self) -> io::Result<Peer> {
        platform::accepted_from(&self.0)
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            // The other end of a pipe was closed.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Poll::Ready(Ok(()))
            }
            read => read,
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// What a platform's [`Connection`] does beside reading and writing.
pub(crate) trait BlockingEnd: Read + Write {
    /// Who listens.
    fn peer(&self) -> io::Result<Peer>;

    /// How long one call may wait for bytes.
    fn set_longest_read(&mut self, longest: Duration) -> io::Result<()>;

    /// How long one call may wait for room for bytes.
    fn set_longest_write(&mut self, longest: Duration) -> io::Result<()>;

    /// A way to close it while another thread waits for bytes.
    fn hang_up(&self) -> io::Result<platform::HangUp>;
}

/// A connection in the process that connected. Reading and writing block, each for as long as was said, and fail with
/// [`io::ErrorKind::WouldBlock`] or [`io::ErrorKind::TimedOut`] then.
#[derive(Debug)]
pub struct Connection(platform::Connection);

impl Connection {
    /// Who listens.
    pub fn peer(&self) -> io::Result<Peer> {
        self.0.peer()
    }

    /// How long one call may wait for bytes.
    pub fn set_read_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.0.set_longest_read(timeout)
    }

    /// How long one call may wait until the other end has room for bytes.
    pub fn set_write_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.0.set_longest_write(timeout)
    }

    /// A way to close the connection while another thread waits for bytes.
    pub fn hang_up(&self) -> io::Result<HangUp> {
        self.0.hang_up().map(HangUp)
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Closes a [`Connection`].
#[derive(Debug)]
pub struct HangUp(platform::HangUp);

impl HangUp {
    /// Closes it: a thread that waits here gets an error or the end of the stream, and the other end sees the end.
    pub fn now(self) {
        self.0.now();
    }
}

/// Whose process the other end of a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub(crate) owner: platform::Owner,
    pub(crate) me: platform::Owner,
    pub(crate) process: Option<u32>,
}

impl Peer {
    /// Whether it is a process of this process's user.
    pub fn is_mine(&self) -> bool {
        self.owner == self.me
    }

    /// Whether it is a process of the system: root; on Windows the system's own account.
    pub fn is_of_system(&self) -> bool {
        self.owner.is_system()
    }

    /// Its user, for messages.
    pub fn user(&self) -> String {
        self.owner.to_string()
    }

    /// Its number, if it can be seen from here.
    pub fn process(&self) -> Option<u32> {
        self.process
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::runtime::Runtime;
    use tokio::task::JoinHandle;

    use super::*;

    const NAME: &str = "test.sock";
    /// Longer than anything takes that does not hang.
    const PATIENCE: Duration = Duration::from_mins(1);

    struct Fixture {
        dir: tempfile::TempDir,
        runtime: Runtime,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            crate::create_private_dir(&dir.path().join("own")).unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            Self { dir, runtime }
        }

        fn socket(&self) -> SocketDir {
            SocketDir::open(&self.dir.path().join("own"), NAME).unwrap()
        }

        fn listen(&self) -> Listener {
            let _inside = self.runtime.enter();
            self.socket().listen().unwrap()
        }

        /// Accepts one connection and sends back what comes, until its end.
        fn echo(&self, mut listener: Listener) -> JoinHandle<(Peer, usize)> {
            self.runtime.spawn(async move {
                let mut accepted = listener.accept().await.unwrap();
                let peer = accepted.peer().unwrap();
                let (mut bytes, mut sum) = ([0; 1000], 0);
                loop {
                    match accepted.read(&mut bytes).await {
                        Ok(0) | Err(_) => return (peer, sum),
                        Ok(read) => {
                            sum += read;
                            accepted.write_all(&bytes[..read]).await.unwrap();
                        }
                    }
                }
            })
        }

        fn connect(&self) -> Connection {
            let mut connection = self.socket().connect().unwrap().unwrap();
            connection.set_read_timeout(PATIENCE).unwrap();
            connection.set_write_timeout(PATIENCE).unwrap();
            connection
        }

        fn joined<T>(&self, task: JoinHandle<T>) -> T {
            let within = self
                .runtime
                .block_on(async { tokio::time::timeout(PATIENCE, task).await });
            within.unwrap().unwrap()
        }
    }

    #[test]
    fn bytes_go_both_ways_and_each_end_knows_the_others_user_and_process() {
        let fixture = Fixture::new();
        let server = fixture.echo(fixture.listen());
        let mut connection = fixture.connect();
        let peer = connection.peer().unwrap();
        assert!(peer.is_mine());
        assert!(!peer.user().is_empty());
        assert_eq!(peer.process(), Some(std::process::id()));
        for round in 0..3_u8 {
            let sent = vec![round; 70_000];
            let mut received = vec![0; sent.len()];
            for (part, back) in sent.chunks(500).zip(received.chunks_mut(500)) {
                connection.write_all(part).unwrap();
                connection.read_exact(back).unwrap();
            }
            assert_eq!(received, sent);
        }
        drop(connection);
        let (peer, sum) = fixture.joined(server);
        assert!(peer.is_mine());
        assert_eq!((peer.process(), sum), (Some(std::process::id()), 210_000));
    }

    #[test]
    fn an_end_that_says_nothing_is_given_up_after_the_time_that_was_set() {
        let fixture = Fixture::new();
        let _listener = fixture.listen();
        let mut connection = fixture.connect();
        connection
            .set_read_timeout(Duration::from_millis(50))
            .unwrap();
        let error = connection.read(&mut [0; 10]).unwrap_err();
        let kinds = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
        assert!(kinds.contains(&error.kind()), "{error}");
        // Nobody reads: sooner or later there is no room.
        connection
            .set_write_timeout(Duration::from_millis(50))
            .unwrap();
        let bytes = vec![0; 100_000];
        let error = loop {
            if let Err(error) = connection.write(&bytes) {
                break error;
            }
        };
        assert!(kinds.contains(&error.kind()), "{error}");
    }

    #[test]
    fn hanging_up_ends_the_waiting_here_and_the_connection_there() {
        let fixture = Fixture::new();
        let server = fixture.echo(fixture.listen());
        let mut connection = fixture.connect();
        connection.write_all(b"x").unwrap();
        connection.read_exact(&mut [0]).unwrap();
        let hang_up = connection.hang_up().unwrap();
        let waiting = std::thread::spawn(move || {
            let read = connection.read(&mut [0]);
            (connection, read)
        });
        hang_up.now();
        let (_still_there, read) = waiting.join().unwrap();
        if let Err(error) = read {
            let kinds = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
            assert!(!kinds.contains(&error.kind()), "{error}");
        }
        assert_eq!(fixture.joined(server).1, 1);
    }

    #[test]
    fn several_are_accepted_one_after_the_other() {
        let fixture = Fixture::new();
        let mut listener = fixture.listen();
        let server = fixture.runtime.spawn(async move {
            for _ in 0..5 {
                let mut accepted = listener.accept().await.unwrap();
                let byte = accepted.read_u8().await.unwrap();
                accepted.write_all(&[byte + 1]).await.unwrap();
            }
        });
        for byte in 0..5 {
            let mut connection = fixture.connect();
            connection.write_all(&[byte]).unwrap();
            let mut answer = [0];
            connection.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [byte + 1]);
        }
        fixture.joined(server);
    }

    #[test]
    fn nobody_listens_where_nothing_is_and_where_a_process_died() {
        let fixture = Fixture::new();
        assert!(fixture.socket().connect().unwrap().is_none());
        drop(fixture.listen());
        assert!(fixture.socket().connect().unwrap().is_none());
        let server = fixture.echo(fixture.listen());
        drop(fixture.connect());
        fixture.joined(server);
        fixture.socket().remove().unwrap();
        fixture.socket().remove().unwrap();
        let names = fs::read_dir(fixture.dir.path().join("own")).unwrap();
        assert_eq!(names.count(), 0);
    }

    #[test]
    fn what_is_no_socket_is_neither_replaced_nor_removed() {
        let fixture = Fixture::new();
        let path = fixture.dir.path().join("own").join(NAME);
        fs::write(&path, "precious").unwrap();
        let _inside = fixture.runtime.enter();
        for refused in [
            fixture.socket().listen().map(drop),
            fixture.socket().remove(),
        ] {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn the_sockets_name_has_the_kind_that_is_said() {
        let fixture = Fixture::new();
        let _listener = fixture.listen();
        let path = fixture.dir.path().join("own").join(NAME);
        assert_eq!(crate::Facts::at(&path).unwrap().kind, SOCKET_KIND);
    }
}
