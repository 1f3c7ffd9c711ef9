//! A mount that this process serves, in the foreground or the background, until it is unmounted.

use std::fs::File;
use std::path::Path;

use attachfs::{LogPlace, Stop, StopSignal, UnmountReport};

use super::unmounting::unmounted;
use crate::args::Globals;
use crate::daemon::{self, Ready, Starter};
use crate::exit::Failure;
use crate::output::{self, remark};

/// What is mounted.
pub(super) trait Served: Sized {
    /// What is said once it answers.
    fn ready(&self) -> Ready;

    /// Waits until it is unmounted.
    async fn ended(&self);

    /// Unmounts. Fails if it is in use, unless `detach`.
    async fn unmount(&self, detach: bool) -> Result<(), attachfs::Error>;

    /// Takes it away, as if it had never been.
    async fn undo(self) -> Result<(), attachfs::Error>;

    /// Ends this process's part of it.
    async fn finish(self) -> Result<UnmountReport, attachfs::Error>;
}

/// How this process serves: for the one that started it in the background, or for a person at a terminal.
#[derive(Debug)]
pub(super) struct Serving {
    starter: Option<Starter>,
    /// The log, if it is a file of the user's own or goes to the system's journal.
    log: Option<File>,
    place: LogPlace,
}

/// Starts the background process, waits until the mount answers, and says so.
pub(super) fn in_background(globals: &Globals) -> Result<(), Failure> {
    daemon::start(|ready| tell(globals, ready, ""))
}

/// Says that it is mounted.
fn tell(globals: &Globals, ready: &Ready, note: &str) -> anyhow::Result<()> {
    remark_on(ready);
    if globals.json {
        return output::print_json(ready);
    }
    let at = output::shown(&ready.mount_point);
    let mut text = format!("mounted    {at}{note}\n");
    if let Some(jobs) = &ready.browses {
        text += &format!("shows      {jobs}; `attachfs umount {at}` ends it\n");
    }
    text += &format!("session    {}\n", ready.session);
    if let Some(url) = &ready.metrics {
        text += &format!("metrics    {url}\n");
    }
    output::print(&text)
}

fn remark_on(ready: &Ready) {
    if ready.had_died && ready.browses.is_some() {
        remark("the process of an earlier browse had died: its dead mount was taken away");
    } else if ready.had_died {
        remark(
            "the process that had the session had died: nothing that had returned success is lost, \
             files that were open then are closed",
        );
    }
    if let Some(why) = &ready.without_store {
        remark_without_store(why);
    }
}

/// Says that a mount was made although its store cannot be read.
pub(super) fn remark_without_store(why: &str) {
    remark(&format!(
        "mounted from the cache, which has all objects: the store cannot be read ({why})"
    ));
}

impl Serving {
    /// Parts from the terminal if this is the background process, and opens the log. Before anything is made: a log that cannot be written
    /// is no reason to leave something behind.
    pub(super) fn begin(is_background: bool, log: Option<&Path>) -> anyhow::Result<Self> {
        let starter = is_background.then(Starter::leave).transpose()?;
        let place = log_place(is_background, log);
        let log = match log {
            Some(path) if is_background && path == Path::new(crate::logging::JOURNALD) => {
                Some(daemon::open_null()?)
            }
            Some(path) if is_background => Some(daemon::open_log(path)?),
            _ => None,
        };
        Ok(Self {
            starter,
            log,
            place,
        })
    }

    /// Where the log goes.
    pub(super) fn log_place(&self) -> LogPlace {
        self.place.clone()
    }

    /// Mounts with `start`, says so, and serves until it is unmounted.
    pub(super) async fn serve<M: Served>(
        self,
        globals: &Globals,
        start: impl Future<Output = Result<M, attachfs::Error>>,
    ) -> Result<(), Failure> {
        const CANCELLED: Failure = Failure::Code(crate::exit::CANCELLED);
        // Before the mount, so that no signal in between leaves a dead one.
        let mut interrupt = StopSignal::listen(Stop::Interrupt)?;
        let mut terminate = StopSignal::listen(Stop::Terminate)?;
        let mut hang_up = StopSignal::listen(Stop::HangUp)?;
        let mount = tokio::select! {
            mount = start => mount?,
            () = interrupt.recv() => return Err(CANCELLED),
            () = terminate.recv() => return Err(CANCELLED),
            () = hang_up.recv() => return Err(CANCELLED),
            () = daemon::starter_gone() => return Err(CANCELLED),
        };
        // What was named is in the session now.
        globals.watch.end();
        let ready = mount.ready();
        let is_background = self.starter.is_some();
        let told = match self.starter {
            Some(starter) => hand_over(starter, &ready, self.log),
            None => tell(globals, &ready, "; Ctrl-C unmounts"),
        };
        if let Err(error) = told {
            mount.undo().await?;
            return Err(error.into());
        }
        tokio::select! {
            () = mount.ended() => {}
            () = interrupt.recv() => stop(&mount).await?,
            () = terminate.recv() => stop(&mount).await?,
            () = hang_up.recv() => stop(&mount).await?,
        }
        let report = mount.finish().await?;
        if !is_background {
            // The terminal may be gone: that may be why it ended.
            let _ = if globals.json {
                output::print_json(&report)
            } else {
                output::print(&unmounted(&report, false, ""))
            };
        }
        Ok(())
    }
}

/// Parts from the process that started this one in the background: standard error goes to the log from now on. The
/// session's own log is kept within bounds.
fn hand_over(starter: Starter, ready: &Ready, log: Option<File>) -> anyhow::Result<()> {
    if let Some(log) = log {
        return starter.ready(ready, &log);
    }
    let path = ready.session_dir.join("log");
    let log = daemon::open_log(&path)?;
    starter.ready(ready, &log)?;
    crate::logging::bound(path, log);
    Ok(())
}

fn log_place(is_background: bool, log: Option<&Path>) -> LogPlace {
    match log {
        Some(path) if path == Path::new(crate::logging::JOURNALD) => {
            LogPlace::Elsewhere("the system's journal".to_owned())
        }
        Some(path) if is_background => LogPlace::Elsewhere(path.display().to_string()),
        None if is_background => LogPlace::Session,
        _ => LogPlace::Elsewhere("standard error".to_owned()),
    }
}

/// Unmounts in order; programs that still use the mount are cut off. The written files are in the session.
async fn stop(mount: &impl Served) -> Result<(), attachfs::Error> {
    match mount.unmount(false).await {
        Err(error) if error.class() == attachfs::FailureClass::Busy => {
            tracing::warn!(
                error = crate::exit::chain(&error.into()),
                "the mount is detached"
            );
            mount.unmount(true).await
        }
        result => result,
    }
}

impl Served for attachfs::Mount {
    fn ready(&self) -> Ready {
        Ready {
            session: self.session_id().to_string(),
            session_dir: self.session_dir().to_owned(),
            mount_point: self.mount_point(),
            pid: std::process::id(),
            had_died: self.had_died(),
            browses: None,
            without_store: self.without_store().map(str::to_owned),
            metrics: self.metrics_url(),
        }
    }

    async fn ended(&self) {
        Self::ended(self).await;
    }

    async fn unmount(&self, detach: bool) -> Result<(), attachfs::Error> {
        Self::unmount(self, detach).await.map(drop)
    }

    async fn undo(self) -> Result<(), attachfs::Error> {
        Self::undo(self).await
    }

    async fn finish(self) -> Result<UnmountReport, attachfs::Error> {
        Self::finish(self).await
    }
}

impl Served for attachfs::BrowseMount {
    fn ready(&self) -> Ready {
        Ready {
            session: self.session_id().to_string(),
            session_dir: self.session_dir().to_owned(),
            mount_point: self.mount_point(),
            pid: std::process::id(),
            had_died: self.had_died(),
            browses: Some(self.shows().to_owned()),
            without_store: None,
            metrics: None,
        }
    }

    async fn ended(&self) {
        Self::ended(self).await;
    }

    async fn unmount(&self, detach: bool) -> Result<(), attachfs::Error> {
        Self::unmount(self, detach).await.map(drop)
    }

    async fn undo(self) -> Result<(), attachfs::Error> {
        Self::undo(self).await
    }

    async fn finish(self) -> Result<UnmountReport, attachfs::Error> {
        Self::finish(self).await
    }
}
