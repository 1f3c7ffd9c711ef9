//! Programs that a test starts: to their end, or for a while.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::machine::until;

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code; that of a shell if a signal ended it.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn new(status: ExitStatus, out: &[u8], err: &[u8]) -> Self {
        Self {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            out: String::from_utf8_lossy(out).into_owned(),
            err: String::from_utf8_lossy(err).into_owned(),
        }
    }

    /// Fails the test unless the program ended with this code.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Fails the test unless the program said this on standard error.
    #[track_caller]
    pub(crate) fn saying(self, text: &str) -> Self {
        assert!(self.err.contains(text), "{text:?} is not in {self:#?}");
        self
    }

    /// Fails the test unless the program printed this.
    #[track_caller]
    pub(crate) fn printing(self, text: &str) -> Self {
        assert!(self.out.contains(text), "{text:?} is not in {self:#?}");
        self
    }

    /// What it printed, as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Runs a program to its end.
pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said::new(output.status, &output.stdout, &output.stderr)
}

/// A program that is running.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// Starts a program whose output goes to these files.
    pub(crate) fn start(mut command: Command, out: PathBuf, err: PathBuf) -> Self {
        let child = command
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Self { child, out, err }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Types at it, if its standard input is a pipe.
    pub(crate) fn type_keys(&mut self, keys: &str) {
        let input = self.child.stdin.as_mut().expect("its input is a pipe");
        input.write_all(keys.as_bytes()).unwrap();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Waits until it said this on standard error.
    pub(crate) fn wait_for_error(&mut self, text: &str) {
        let path = self.err.clone();
        self.wait_for_text(&path, text);
    }

    /// Waits until it printed this.
    pub(crate) fn wait_for_output(&mut self, text: &str) {
        let path = self.out.clone();
        self.wait_for_text(&path, text);
    }

    fn wait_for_text(&mut self, path: &Path, text: &str) {
        until(text, || {
            if String::from_utf8_lossy(&fs::read(path).unwrap()).contains(text) {
                return true;
            }
            assert!(
                self.is_running(),
                "ended before {text:?}: {:#?}",
                self.so_far()
            );
            false
        });
    }

    /// What it printed and said up to now.
    pub(crate) fn so_far(&self) -> (String, String) {
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        (read(&self.out), read(&self.err))
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Said {
        let status = self.child.wait().unwrap();
        let (out, err) = self.so_far();
        Said::new(status, out.as_bytes(), err.as_bytes())
    }
}

/// Sends a signal to a process.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process has a number above 0");
    kill_process(pid, signal).unwrap();
}

/// Stops a process, and waits until all its threads have: until then some of them may go on for a moment. `false` if it has ended.
pub(crate) fn stop(pid: u32) -> bool {
    let number = Pid::from_raw(pid.cast_signed()).expect("a process has a number above 0");
    if kill_process(number, Signal::STOP).is_err() {
        return false;
    }
    let mut ended = false;
    until("the process is stopped", || {
        ended = has_ended(pid);
        ended || threads_are(pid, &['T', 't', 'Z', 'X'])
    });
    !ended
}

/// Kills a process that is not a child of this one, and waits until it is gone.
pub(crate) fn kill_and_wait(pid: u32) {
    kill(pid, Signal::KILL);
    until("the process is gone", || has_ended(pid));
}

/// Whether a process is gone with all its threads, or only waits for its parent to ask how it ended. What it had open is closed then.
pub(crate) fn has_ended(pid: u32) -> bool {
    threads_are(pid, &['Z', 'X'])
}

/// Whether all threads of a process that there are have one of these states.
fn threads_are(pid: u32, states: &[char]) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, state)| state);
        state.is_none_or(|state| state.starts_with(states))
    })
}
