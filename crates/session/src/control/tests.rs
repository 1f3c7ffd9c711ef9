//! Both ends, over a real socket.

use std::io::{BufRead as _, BufReader, Write as _};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attachfs_durable::{Connection, SocketDir, create_private_dir};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::protocol::{LONGEST_ANSWER, LONGEST_REQUEST};
use super::*;
use crate::{Failure, FailureClass};

/// Longer than any test takes unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers with what it was asked, after two events.
#[derive(Debug)]
struct Echo;

impl ControlService for Echo {
    fn handle(&self, request: Request, peer: Peer, events: EventSink) -> ServiceFuture<'_> {
        Box::pin(async move {
            assert!(peer.is_mine());
            match request {
                Request::Commit { options } => {
                    events.send(json!(1));
                    events.send(json!(2));
                    Ok(options)
                }
                Request::Status => panic!("a bug"),
                Request::Diff { .. } => Ok(Value::String("x".repeat(LONGEST_ANSWER as usize))),
                _ => Err(Failure::plain(FailureClass::Busy, "in use")),
            }
        })
    }
}

/// Says that it has begun, and when its client has gone.
#[derive(Debug)]
struct Notices(std::sync::mpsc::Sender<()>);

impl ControlService for Notices {
    fn handle(&self, _: Request, _: Peer, events: EventSink) -> ServiceFuture<'_> {
        Box::pin(async move {
            assert!(!events.is_gone());
            events.send(json!("begun"));
            while !events.is_gone() {
                tokio::task::yield_now().await;
            }
            self.0.send(()).unwrap();
            Ok(Value::Null)
        })
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// A session's directory.
fn private_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    // Else it would take what the directory above hands down.
    #[cfg(windows)]
    attachfs_durable::make_private(dir.path()).unwrap();
    dir
}

struct Fixture {
    server: Option<ControlServer>,
    runtime: Runtime,
    // Removed last: what holds it open keeps it there on Windows.
    dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::below(Path::new("session"))
    }

    fn below(part: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        create_private_dir(&dir.path().join(part)).unwrap();
        let runtime = runtime();
        let session = dir.path().join(part);
        let server = ControlServer::start(&session, runtime.handle(), Arc::new(Echo)).unwrap();
        Self {
            server: Some(server),
            runtime,
            dir,
        }
    }

    fn client(&self) -> ControlClient {
        ControlClient::connect(&self.dir.path().join("session"))
            .unwrap()
            .unwrap()
    }

    /// A connection that says nothing by itself.
    fn connection(&self) -> Connection {
        let socket = SocketDir::open(&self.dir.path().join("session"), crate::session::SOCKET);
        let mut connection = socket.unwrap().connect().unwrap().unwrap();
        connection.set_read_timeout(PATIENCE).unwrap();
        connection.set_write_timeout(PATIENCE).unwrap();
        connection
    }

    /// Sends bytes and returns the lines that come back until the server closes.
    fn raw(&self, bytes: &[u8]) -> Vec<Value> {
        let mut connection = self.connection();
        // The server may have closed before it read everything.
        let _ = connection.write_all(bytes);
        answers(connection)
    }
}

fn answers(connection: Connection) -> Vec<Value> {
    let lines = BufReader::new(connection).lines().map_while(Result::ok);
    lines
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect()
}

#[test]
fn a_request_is_answered_after_its_events() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for round in 0..3 {
        let mut events = Vec::new();
        let options = json!({ "round": round });
        let request = Request::Commit {
            options: options.clone(),
        };
        let answer = client
            .request(&request, |event| events.push(event))
            .unwrap();
        assert_eq!(answer, Ok(options));
        assert_eq!(events, [json!(1), json!(2)]);
    }
}

#[test]
fn a_failure_arrives_as_it_was_given() {
    let request = Request::Unmount {
        detach: false,
        options: Value::Null,
    };
    let answer = Fixture::new().client().request(&request, |_| {}).unwrap();
    assert_eq!(answer, Err(Failure::plain(FailureClass::Busy, "in use")));
}

#[test]
fn a_panic_in_the_service_is_an_answer_and_the_next_request_is_served() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let answer = client.request(&Request::Status, |_| {}).unwrap();
    assert_eq!(answer.unwrap_err().class, FailureClass::Other);
    let commit = Request::Commit {
        options: Value::Null,
    };
    assert_eq!(client.request(&commit, |_| {}).unwrap(), Ok(Value::Null));
}

#[test]
fn an_answer_that_no_line_can_hold_is_a_failure() {
    let request = Request::Diff {
        options: Value::Null,
    };
    let answer = Fixture::new().client().request(&request, |_| {}).unwrap();
    assert!(
        answer
            .unwrap_err()
            .text
            .contains("longer than 67108864 bytes")
    );
}

#[test]
fn garbage_is_answered_and_the_connection_closed() {
    let fixture = Fixture::new();
    for bytes in [&b"nonsense\n"[..], b"\xff\xfe\n", b"{\"v\":2}\n{\"v\":2}\n"] {
        let lines = fixture.raw(bytes);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            (&lines[0]["message"], &lines[0]["kind"]),
            (&json!("failed"), &json!("usage"))
        );
    }
}

// On Windows nobody can end only what they send.
#[cfg(unix)]
#[test]
fn a_line_that_breaks_off_is_answered() {
    let fixture = Fixture::new();
    let socket = fixture.dir.path().join("session/control.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"no end").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut lines = BufReader::new(stream).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains("the line has no end"), "{line}");
}

#[test]
fn another_version_is_told_which_one_is_spoken_here() {
    let lines = Fixture::new().raw(b"{\"v\":7,\"request\":\"status\"}\n");
    let text = lines[0]["text"].as_str().unwrap();
    assert!(
        text.contains("version 7") && text.contains("version 2"),
        "{text}"
    );
}

#[test]
fn a_line_without_end_is_given_up() {
    let fixture = Fixture::new();
    let lines = fixture.raw(&vec![b'x'; 3 * LONGEST_REQUEST as usize]);
    // The rest of what was sent may make the kernel drop the answer with the connection.
    assert!(lines.len() <= 1, "{lines:?}");
    let commit = Request::Commit {
        options: Value::Null,
    };
    assert_eq!(
        fixture.client().request(&commit, |_| {}).unwrap(),
        Ok(Value::Null)
    );
}

#[test]
fn a_service_sees_that_its_client_has_hung_up() {
    let dir = private_dir();
    let runtime = runtime();
    let (sender, noticed) = std::sync::mpsc::channel();
    let service = Arc::new(Notices(sender));
    let _server = ControlServer::start(dir.path(), runtime.handle(), service).unwrap();
    let mut client = ControlClient::connect(dir.path()).unwrap().unwrap();
    let mut hang_up = Some(client.hang_up().unwrap());
    let answer = client.request(&Request::Status, |_| {
        if let Some(hang_up) = hang_up.take() {
            hang_up.now();
        }
    });
    assert!(matches!(answer, Err(ControlError::Closed)), "{answer:?}");
    noticed.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_request_that_a_server_which_ends_does_not_begin_with_is_told_from_one_that_broke_off() {
    let mut fixture = Fixture::new();
    let (mut accepted, mut early) = (fixture.client(), fixture.client());
    // It has been accepted when its first request is answered.
    let commit = Request::Commit {
        options: Value::Null,
    };
    assert!(accepted.request(&commit, |_| {}).is_ok());
    let server = fixture.server.take().unwrap();
    fixture.runtime.block_on(server.shut_down());
    for client in [&mut accepted, &mut early] {
        let answer = client.request(&commit, |_| {});
        assert!(matches!(answer, Err(ControlError::NotBegun)), "{answer:?}");
    }
}

#[test]
fn a_server_that_never_answers_is_given_up_and_named() {
    let dir = private_dir();
    let runtime = runtime();
    // As a process that is stopped: the kernel accepts connections for it.
    let socket = SocketDir::open(dir.path(), crate::session::SOCKET).unwrap();
    let listener = {
        let _inside = runtime.enter();
        socket.listen().unwrap()
    };
    let mut client = ControlClient::connect(dir.path()).unwrap().unwrap();
    let silent = client.request(&Request::Status, |_| {});
    let me = std::process::id();
    assert!(
        matches!(silent, Err(ControlError::Silent { pid: Some(pid), .. }) if pid == me),
        "{silent:?}"
    );
    // When no more can wait, it says so at once.
    let mut waiting = Vec::new();
    let full = loop {
        match ControlClient::connect(dir.path()) {
            Ok(client) => waiting.push(client),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, ControlError::Silent { .. }), "{full:?}");
    drop(listener);
}

#[test]
fn clients_that_hang_keep_neither_others_nor_the_end_waiting() {
    let mut fixture = Fixture::new();
    let silent = fixture.connection();
    let mut in_mid_line = fixture.connection();
    in_mid_line.write_all(b"{\"v\":2,").unwrap();
    // Its answer is longer than the system keeps for who does not read.
    let mut deaf = fixture.connection();
    let diff = b"{\"v\":2,\"request\":\"commit\",\"options\":\"";
    deaf.write_all(diff).unwrap();
    deaf.write_all(&vec![b'x'; LONGEST_REQUEST as usize / 2])
        .unwrap();
    deaf.write_all(b"\"}\n").unwrap();
    let commit = Request::Commit {
        options: Value::Null,
    };
    let answer = fixture.client().request(&commit, |_| {});
    assert_eq!(answer.unwrap(), Ok(Value::Null));
    let server = fixture.server.take().unwrap();
    let ended = async { tokio::time::timeout(PATIENCE, server.shut_down()).await };
    fixture.runtime.block_on(ended).unwrap();
    drop((silent, in_mid_line, deaf));
}

#[test]
fn a_path_longer_than_a_sockets_address_is_no_obstacle() {
    let part = Path::new("session").join("a-rather-long-name".repeat(10));
    let fixture = Fixture::below(&part);
    let dir = fixture.dir.path().join(part);
    let mut client = ControlClient::connect(&dir).unwrap().unwrap();
    let commit = Request::Commit {
        options: Value::Null,
    };
    assert_eq!(client.request(&commit, |_| {}).unwrap(), Ok(Value::Null));
}

#[test]
fn nobody_listens_before_and_after() {
    let mut fixture = Fixture::new();
    let session = fixture.dir.path().join("session");
    let other = fixture.dir.path().join("other");
    assert!(ControlClient::connect(&other).unwrap().is_none());
    create_private_dir(&other).unwrap();
    assert!(ControlClient::connect(&other).unwrap().is_none());
    let server = fixture.server.take().unwrap();
    fixture.runtime.block_on(server.shut_down());
    assert!(!session.join("control.sock").exists());
    assert!(ControlClient::connect(&session).unwrap().is_none());
}

#[cfg(unix)]
#[test]
fn a_socket_that_a_dead_process_left_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(ControlClient::connect(dir.path()).unwrap().is_none());
    let runtime = runtime();
    let _server = ControlServer::start(dir.path(), runtime.handle(), Arc::new(Echo)).unwrap();
    assert!(ControlClient::connect(dir.path()).unwrap().is_some());
    assert_eq!(
        std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap()) & 0o777,
        0o600
    );
}

#[test]
fn a_file_in_the_sockets_place_is_not_deleted() {
    let dir = private_dir();
    std::fs::write(dir.path().join("control.sock"), b"precious").unwrap();
    let runtime = runtime();
    let error = ControlServer::start(dir.path(), runtime.handle(), Arc::new(Echo)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(
        std::fs::read(dir.path().join("control.sock")).unwrap(),
        b"precious"
    );
}

#[cfg(unix)]
const NOBODY: u32 = 65_534;

#[cfg(unix)]
#[test]
fn a_directory_in_which_others_could_listen_is_refused_by_both_ends() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new();
    let session = fixture.dir.path().join("session");
    let others_may_write = std::fs::Permissions::from_mode(0o770);
    std::fs::set_permissions(&session, others_may_write).unwrap();
    let error = ControlClient::connect(&session).unwrap_err();
    let ControlError::Connect { source, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
    let runtime = fixture.runtime.handle();
    let error = ControlServer::start(&session, runtime, Arc::new(Echo)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
}

#[cfg(unix)]
#[test]
fn a_stranger_who_listens_is_not_trusted() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become someone else");
        return;
    }
    let dir = private_dir();
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    let address = SocketAddrUnix::new(dir.path().join("control.sock")).unwrap();
    bind(&socket, &address).unwrap();
    // The kernel names the user who called listen(2).
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(NOBODY)).unwrap();
            listen(&socket, 1).unwrap();
        });
    });
    let refused = ControlClient::connect(dir.path());
    assert!(
        matches!(&refused, Err(ControlError::NotTrusted { user, .. }) if *user == NOBODY.to_string()),
        "{refused:?}"
    );
}

#[cfg(unix)]
#[test]
fn only_the_owner_and_root_are_served() {
    use std::os::unix::fs::PermissionsExt as _;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become someone else");
        return;
    }
    let fixture = Fixture::new();
    let socket = fixture.dir.path().join("session/control.sock");
    for path in [
        fixture.dir.path(),
        &fixture.dir.path().join("session"),
        &socket,
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let ask = |socket: &Path| {
        let mut stream = UnixStream::connect(socket).unwrap();
        // It may have been closed already.
        let _ = stream.write_all(b"{\"v\":2,\"request\":\"unmount\"}\n");
        BufReader::new(stream).lines().map_while(Result::ok).next()
    };
    assert!(ask(&socket).is_some());
    // A thread has its own identity as far as the kernel is concerned.
    let stranger = std::thread::spawn(move || {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(NOBODY)).unwrap();
        ask(&socket)
    });
    assert_eq!(stranger.join().unwrap(), None, "a stranger got an answer");
}
