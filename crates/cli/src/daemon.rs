//! A mount in the background: the program starts itself again and waits until that says it is ready.
//!
//! ```text
//!     attachfs mount ...            starts   attachfs mount --daemon ...   in a session of its own
//!         reads one line    <------ standard output     {"ready":{..}} or nothing
//!         passes on         <------ standard error      until ready
//!         exits                     goes on, its standard error now the log
//! ```

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// What the background process says once the mount answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) session: String,
    pub(crate) session_dir: String,
    pub(crate) mount_point: String,
    pub(crate) pid: u32,
    /// Whether it takes the place of a process that had died.
    pub(crate) had_died: bool,
    /// Why the store cannot be read, if it is mounted all the same.
    pub(crate) without_store: Option<String>,
}

/// Starts the background process with the same arguments, and waits until it is ready.
pub(crate) fn start() -> Result<Ready, Failure> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--daemon")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the background process")?;
    let errors = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            // Until the process ends or redirects it; what came so far counts in any case.
            let _ = stderr.read_to_end(&mut text);
            text
        })
    });
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("cannot hear the background process")?;
    }
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
    pass_on(errors)?;
    Ok(serde_json::from_str(&line).context("the background process says something strange")?)
}

fn pass_on(errors: Option<std::thread::JoinHandle<Vec<u8>>>) -> anyhow::Result<()> {
    if let Some(Ok(text)) = errors.map(std::thread::JoinHandle::join) {
        std::io::Write::write_all(&mut std::io::stderr(), &text)
            .context("cannot write to standard error")?;
    }
    Ok(())
}

/// In the background process: away from the terminal.
pub(crate) fn detach_from_terminal() -> anyhow::Result<()> {
    // The leader of a session already: nothing to leave.
    match rustix::process::setsid() {
        Ok(_) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error).context("cannot leave the terminal"),
    }
}

/// In the background process: says that it is ready, and from now on writes to the log only. One that is
/// the session's own is kept within bounds.
pub(crate) fn ready(ready: &Ready, log: Option<&Path>, is_own: bool) -> anyhow::Result<()> {
    let file = match log {
        Some(path) => open_log(path)?,
        None => open_null()?,
    };
    rustix::stdio::dup2_stderr(&file).context("cannot redirect standard error")?;
    if let Some(path) = log.filter(|_| is_own) {
        crate::logging::bound(path.to_owned(), file);
    }
    crate::output::print_json(ready)?;
    let null = open_null()?;
    rustix::stdio::dup2_stdout(&null).context("cannot redirect standard output")?;
    rustix::stdio::dup2_stdin(&null).context("cannot redirect standard input")?;
    // A mount must not keep the directory it was started in from being unmounted.
    std::env::set_current_dir("/").context("cannot leave the working directory")
}

/// Opens a log to append to.
pub(crate) fn open_log(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open the log {}", path.display()))
}

fn open_null() -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("cannot open /dev/null")
}
