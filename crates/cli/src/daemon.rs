//! A mount in the background: the program starts itself again and waits until that says it is ready.
//!
//! ```text
//!     attachfs mount ...            starts   attachfs mount --daemon ...   in a session of its own
//!         reads one line    <------ standard output     {"ready":{..}} or nothing
//!         passes on         <------ standard error      until ready, then that is the log
//!         prints that it is mounted
//!         says that it has the line ----> the same socket
//!         exits                     goes on
//! ```
//!
//! If the starter ends before it has said that it has the line, there is no mount: until something is made, the
//! background process ends at once; after that, it undoes what it made.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use attachfs::{StandardStream, StarterLink, Stop, StopSignal, redirect};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::exit::{CANCELLED, Failure};

/// What the background process says once the mount answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) session: String,
    #[serde(with = "attachfs::path_json")]
    pub(crate) session_dir: PathBuf,
    #[serde(with = "attachfs::path_json")]
    pub(crate) mount_point: PathBuf,
    pub(crate) pid: u32,
    /// Whether it takes the place of a process that had died.
    pub(crate) had_died: bool,
    /// The jobs whose outputs it shows; nothing if it shows manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) browses: Option<String>,
    /// Why the store cannot be read, if it is mounted all the same.
    pub(crate) without_store: Option<String>,
    /// The address that answers with metrics, if there is one.
    #[serde(default)]
    pub(crate) metrics: Option<String>,
}

/// What the starter says when it has the line.
const HEARD: &[u8] = b"heard\n";
/// How long the background process may take to undo what it made.
const UNDONE_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Starts the background process with the same arguments, waits until it is ready, and tells of that with
/// `tell`. SIGINT and SIGTERM end both, and nothing is mounted then; nor is it if nobody can be told.
pub(crate) fn start(tell: impl FnOnce(&Ready) -> anyhow::Result<()>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let mut interrupt = StopSignal::listen(Stop::Interrupt)?;
        let mut terminate = StopSignal::listen(Stop::Terminate)?;
        let (mut child, socket) = spawn()?;
        let errors = child.stderr.take().map(Errors::listen);
        let reading = socket.try_clone().context(CANNOT_HEAR)?;
        let read = tokio::task::spawn_blocking(move || {
            let mut line = Vec::new();
            BufReader::new(&reading)
                .read_until(b'\n', &mut line)
                .map(|_| line)
        });
        let line = tokio::select! {
            line = read => line.context(CANNOT_HEAR)?.context(CANNOT_HEAR)?,
            () = interrupt.recv() => return Err(cancel(child, &socket)),
            () = terminate.recv() => return Err(cancel(child, &socket)),
        };
        if line.is_empty() {
            let status = child
                .wait()
                .context("cannot wait for the background process")?;
            pass_on(errors)?;
            let code = status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1);
            return Err(Failure::Code(code));
        }
        let ready = serde_json::from_slice(&line)
            .context("the background process says something strange")?;
        // Until this process says that it has the line, its end is the end of the mount: nobody is left with a
        // mount that was never told.
        pass_on(errors)
            .and_then(|()| tell(&ready))
            .map_err(|error| undo(error, child, &socket))?;
        (&socket)
            .write_all(HEARD)
            .context("the background process has ended")?;
        Ok(())
    });
    // A thread that still reads must not keep the program from ending.
    runtime.shutdown_background();
    result
}

const CANNOT_HEAR: &str = "cannot hear the background process";

fn spawn() -> anyhow::Result<(Child, StarterLink)> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command
        .args(as_daemon(std::env::args_os().skip(1)))
        .stderr(Stdio::piped());
    attachfs::start_linked(&mut command).context("cannot start the background process")
}

/// The arguments of the background process. What follows `--` is no option.
fn as_daemon(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    let options = arguments.iter().position(|argument| argument == "--");
    let at = options.unwrap_or(arguments.len());
    arguments.insert(at, "--daemon".into());
    arguments
}

/// What the user cancelled.
fn cancel(child: Child, socket: &StarterLink) -> Failure {
    let error = undo(anyhow::Error::msg("cancelled"), child, socket);
    crate::exit::report(&error);
    Failure::Code(CANCELLED)
}

/// Lets the background process undo what it made, waits for that, and says so beside the reason.
fn undo(reason: anyhow::Error, mut child: Child, socket: &StarterLink) -> anyhow::Error {
    socket.shut_down();
    let until = Instant::now() + UNDONE_WITHIN;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => {
                return anyhow::anyhow!("{}: nothing is mounted", crate::exit::chain(&reason));
            }
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
            Ok(None) | Err(_) => {
                let reason = crate::exit::chain(&reason);
                let process = child.id();
                return anyhow::anyhow!("{reason}; process {process} still undoes what it began");
            }
        }
    }
}

/// What the background process says on standard error, until it ends or that becomes the log.
struct Errors {
    text: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
}

impl Errors {
    fn listen(mut from: ChildStderr) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = channel();
        std::thread::spawn({
            let text = text.clone();
            move || {
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = from.read(&mut bytes) {
                    let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                    text.extend_from_slice(&bytes[..read]);
                }
                // The caller may have given up waiting.
                let _ = end.send(());
            }
        });
        Self { text, ended }
    }
}

/// Programs that the background process started may have the same standard error, and keep it open.
const LAST_WORDS: Duration = Duration::from_secs(2);

fn pass_on(errors: Option<Errors>) -> anyhow::Result<()> {
    if let Some(Errors { text, ended }) = errors {
        // What came so far counts in any case.
        let _ = ended.recv_timeout(LAST_WORDS);
        let text = text.lock().unwrap_or_else(PoisonError::into_inner);
        std::io::stderr()
            .write_all(&text)
            .context("cannot write to standard error")?;
    }
    Ok(())
}

/// Whether something was made that has to be undone. Locked while the process ends because nothing was.
static MADE: Mutex<bool> = Mutex::new(false);

/// Told when the starter ends after something was made, and before the mount is ready.
static STARTER_GONE: Notify = Notify::const_new();

/// Waits until the starter has ended, and something that was made has to be undone for that.
/// For ever in a process that was not started in the background, and once the mount is ready.
pub(crate) async fn starter_gone() {
    STARTER_GONE.notified().await;
}

/// Says that from now on there is something to be undone.
pub(crate) fn before_making() {
    *MADE.lock().unwrap_or_else(PoisonError::into_inner) = true;
}

/// The process that started this one in the background.
#[derive(Debug)]
pub(crate) struct Starter(StarterLink);

impl Starter {
    /// In the background process, first of all: away from the terminal and from the limits that its starter
    /// happens to have. From here on, until [`before_making`], it ends when they do.
    pub(crate) fn leave() -> anyhow::Result<Self> {
        attachfs::leave_terminal().context("cannot leave the terminal")?;
        let socket = StarterLink::of_this_process().context("there is no standard output")?;
        let watched = socket.try_clone().context("cannot hear the starter")?;
        std::thread::Builder::new()
            .name("starter".to_owned())
            .spawn(move || end_with(&watched))
            .context("cannot start a thread")?;
        Ok(Self(socket))
    }

    /// Says that the mount is ready, and waits until that was heard. Fails if the starter is
    /// gone. Standard error is the log from before that: the starter passes on the rest of what came before it says
    /// that it has heard.
    pub(crate) fn ready(self, ready: &Ready, log: &File) -> anyhow::Result<()> {
        const GONE: &str = "the program that started this mount is gone";
        let null = open_null()?;
        // A mount must not keep the directory it was started in from being unmounted.
        std::env::set_current_dir("/").context("cannot leave the working directory")?;
        redirect(StandardStream::Input, &null).context("cannot redirect standard input")?;
        let mut line = serde_json::to_vec(ready)?;
        line.push(b'\n');
        redirect(StandardStream::Error, log).context("cannot redirect standard error")?;
        (&self.0).write_all(&line).context(GONE)?;
        let mut heard = [0; HEARD.len()];
        (&self.0).read_exact(&mut heard).context(GONE)?;
        redirect(StandardStream::Output, &null).context("cannot redirect standard output")
    }
}

/// Ends this process when its starter ends, unless this process has already made a session.
fn end_with(starter: &StarterLink) {
    // Something comes only when the mount is ready.
    if !starter.wait_for_word() {
        let made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if !*made {
            std::process::exit(i32::from(CANCELLED));
        }
        STARTER_GONE.notify_one();
    }
}

/// Opens a log to append to: never through a link, and never what another user may have prepared.
pub(crate) fn open_log(path: &Path) -> anyhow::Result<File> {
    let opened = attachfs::open_to_append(path);
    opened.with_context(|| format!("cannot open the log {}", path.display()))
}

pub(crate) fn open_null() -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("cannot open /dev/null")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_background_process_is_told_by_an_option_and_not_by_a_name_after_two_dashes() {
        let told = |words: &[&str]| as_daemon(words.iter().map(OsString::from));
        assert_eq!(
            told(&["mount", "m", "at"]),
            ["mount", "m", "at", "--daemon"]
        );
        let expected = ["mount", "--daemon", "--", "-m", "at"];
        assert_eq!(told(&["mount", "--", "-m", "at"]), expected);
    }
}
