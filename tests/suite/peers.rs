//! Asks the reference implementations themselves: that the vectors are current, and that random manifests have one text.
//!
//! This is the client of the drivers in `tests/peers`, whose README has the protocol. A driver is started when a test needs one and
//! none is idle, and goes from test to test; it ends with the input that this process holds open. [`entries`] makes the
//! random names and trees, the other modules compare with one peer each.

mod client;
mod collecting;
mod downloads;
mod entries;
mod fetching;
mod folders;
mod jobs;
mod lenient;
mod openjd;
mod operations;
mod outputs;
mod python;
mod submits;
pub(crate) mod transfers;

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::machine::skipped;

/// No request takes as long as this.
const LONGEST: Duration = Duration::from_mins(1);

/// The Python reference, or nothing where it is not there. In CI it has to be.
pub(crate) fn python() -> Option<Borrowed> {
    static IDLE: Mutex<Vec<Peer>> = Mutex::new(Vec::new());
    borrow(&IDLE, "ATTACHFS_PYTHON", |python| {
        let mut command = Command::new(python);
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/python/driver.py");
        // Local times go into its cache; the vectors have those of UTC.
        command.args(["-I", "-X", "utf8"]).arg(driver);
        command.env("TZ", "UTC");
        command
    })
}

/// `openjd-snapshots`, or nothing where it is not there. In CI it has to be.
pub(crate) fn openjd() -> Option<Borrowed> {
    static IDLE: Mutex<Vec<Peer>> = Mutex::new(Vec::new());
    borrow(&IDLE, "ATTACHFS_OPENJD", |driver| Command::new(driver))
}

fn borrow(
    idle: &'static Mutex<Vec<Peer>>,
    variable: &'static str,
    command: impl FnOnce(&Path) -> Command,
) -> Option<Borrowed> {
    let Some(path) = std::env::var_os(variable) else {
        let must = std::env::var_os("CI").is_some();
        assert!(!must, "{variable} names no peer to compare with");
        skipped(&format!(
            "{variable} is not set; `cargo xtask test --only peers` makes what it names"
        ));
        return None;
    };
    let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let peer = kept.unwrap_or_else(|| Peer::start(variable, command(Path::new(&path))));
    Some(Borrowed {
        peer: Some(peer),
        idle,
    })
}

/// A peer for as long as a test needs it.
pub(crate) struct Borrowed {
    peer: Option<Peer>,
    idle: &'static Mutex<Vec<Peer>>,
}

impl Deref for Borrowed {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        self.peer.as_ref().expect("it is given back when dropped")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // A test that failed may have left an answer unread.
        if !std::thread::panicking() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.extend(self.peer.take());
        }
    }
}

/// A driver that is running.
pub(crate) struct Peer {
    variable: &'static str,
    child: RefCell<Child>,
    requests: RefCell<ChildStdin>,
    answers: Receiver<String>,
    errors: RefCell<File>,
}

/// What a peer says that will not do what it was asked for: its own error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The exception's class or the error's variant.
    pub(crate) kind: String,
    pub(crate) text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.text)
    }
}

impl Peer {
    fn start(variable: &'static str, mut command: Command) -> Self {
        let errors = tempfile::tempfile().unwrap();
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().unwrap())
            .spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("{variable} names no program: {error}"));
        let requests = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (said, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            variable,
            child: RefCell::new(child),
            requests: RefCell::new(requests),
            answers,
            errors: RefCell::new(errors),
        }
    }

    /// One request (`tests/peers/README.md`) and what is answered under `ok`. A peer that ends, hangs or speaks otherwise fails the
    /// test, with what it said on standard error.
    #[track_caller]
    pub(crate) fn ask(&self, request: &Value) -> Result<Value, Refusal> {
        let written = writeln!(self.requests.borrow_mut(), "{request}");
        if let Err(error) = written {
            self.give_up(request, &format!("cannot be asked ({error})"));
        }
        let line = self.answers.recv_timeout(LONGEST);
        let line = line.unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => self.give_up(request, "does not answer"),
            RecvTimeoutError::Disconnected => self.give_up(request, "ended"),
        });
        let Ok(mut answer) = serde_json::from_str::<Value>(&line) else {
            self.give_up(request, &format!("said {line:?}"));
        };
        if let Some(done) = answer.get_mut("ok") {
            return Ok(done.take());
        }
        let field = |name: &str| answer["error"][name].as_str().map(str::to_owned);
        match (field("type"), field("text")) {
            (Some(kind), Some(text)) => Err(Refusal { kind, text }),
            _ => self.give_up(request, &format!("said {line:?}")),
        }
    }

    /// As [`Peer::ask`], where a refusal fails the test.
    #[track_caller]
    pub(crate) fn told(&self, request: &Value) -> Value {
        self.ask(request)
            .unwrap_or_else(|refusal| panic!("{refusal}, asked for {request}"))
    }

    #[track_caller]
    fn give_up(&self, request: &Value, what: &str) -> ! {
        // Reaped here, so that it has said all that it will.
        let mut child = self.child.borrow_mut();
        let killed = child.kill().and_then(|()| child.wait());
        let mut said = Vec::new();
        let mut errors = self.errors.borrow_mut();
        let read = errors
            .rewind()
            .and_then(|()| errors.read_to_end(&mut said).map(drop));
        panic!(
            "the peer of {} {what}, asked for {request}\nit ended with {killed:?} and said ({read:?}):\n{}",
            self.variable,
            String::from_utf8_lossy(&said)
        );
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        // It may have ended already; there is nothing to do about it either way.
        let _ = child.kill().and_then(|()| child.wait());
    }
}

/// Bytes as they travel.
pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of a field of an answer.
#[track_caller]
pub(crate) fn bytes_of(field: &Value) -> Vec<u8> {
    let text = field
        .as_str()
        .unwrap_or_else(|| panic!("not bytes: {field}"));
    STANDARD.decode(text).unwrap()
}

/// The text of a manifest in an answer.
#[track_caller]
pub(crate) fn text_of(field: &Value) -> String {
    String::from_utf8(bytes_of(field)).unwrap()
}

mod protocol {
    use serde_json::json;

    use super::*;

    fn shell(script: &str) -> Peer {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Peer::start("NO_PEER", command)
    }

    #[test]
    fn an_answer_or_a_refusal_comes_for_each_request() {
        let peer = shell(
            r#"read a; echo '{"ok":{"hash":"00"}}'
            read b; echo '{"error":{"type":"E","text":"no"}}'; read c"#,
        );
        assert_eq!(peer.ask(&json!({})), Ok(json!({ "hash": "00" })));
        let refusal = peer.ask(&json!({})).unwrap_err();
        assert_eq!(refusal.to_string(), "E: no");
    }

    #[test]
    #[should_panic(expected = "out of memory")]
    fn a_peer_that_ends_fails_the_test_with_its_last_words() {
        let peer = shell("read a; echo out of memory >&2");
        let _ = peer.ask(&json!({}));
    }

    #[test]
    #[should_panic(expected = "said \"hello\"")]
    fn a_peer_that_speaks_otherwise_fails_the_test() {
        let _ = shell("read a; echo hello; read b").ask(&json!({}));
    }
}
