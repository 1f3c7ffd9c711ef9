//! `mount`, `umount`.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attachfs::UnmountReport;
use attachfs::{
    CancellationToken, CommitArguments, GivenManifest, LayerOptions, LogPlace, ManifestPath,
    ManifestSource, MountPoint, MountRequest, MountSession, Owner, Places, SessionEntry, Stop,
    StopSignal, UnmountArguments, session,
};

use super::reading::source;
use super::report::written;
use super::sessions::{check_place, is_piped, write_manifest};
use super::stores::{open, require_used, store_of};
use crate::args::{Globals, ManifestTo, Mount, Umount};
use crate::daemon::{self, Ready, Starter};
use crate::exit::Failure;
use crate::output::{self, remark};
use crate::paths::absolute;
use crate::places::{places, places_with};
use crate::progress::Shown;

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
    let metrics = ready.metrics.as_ref();
    let metrics = metrics.map_or_else(String::new, |url| format!("metrics    {url}\n"));
    output::print(&format!(
        "mounted    {}{note}\nsession    {}\n{metrics}",
        output::shown(&ready.mount_point),
        ready.session
    ))
}

fn remark_on(ready: &Ready) {
    if ready.had_died {
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

/// Which options were given that only a new session can have.
fn of_new_sessions(args: &Mount) -> Vec<&'static str> {
    let given = [
        ("--root", args.layering.shown.root.is_some()),
        ("--ignore-parent", args.layering.ignore_parent),
        ("--store", args.store.is_some()),
        ("--read-only", args.read_only),
        ("--case-insensitive", args.names.case_insensitive),
        ("--scratch-dir", args.scratch_dir.is_some()),
        ("--commit", args.commit),
        ("--output-dir", !args.output_dir.is_empty()),
    ];
    let given = given.into_iter().filter(|(_, is_given)| *is_given);
    given.map(|(option, _)| option).collect()
}

/// What a mount shows belongs to the user of this process.
pub(super) fn usual_owner() -> Owner {
    let (uid, gid) = attachfs::user_numbers();
    Owner {
        uid,
        gid,
        file_mode: 0o644,
        dir_mode: 0o755,
    }
}

/// Mounts and serves until it is unmounted.
pub(super) async fn mount(globals: &Globals, args: Mount) -> Result<(), Failure> {
    attachfs::Mount::supported()?;
    let starter = args.daemon.then(Starter::leave).transpose()?;
    // Before anything is made: a log that cannot be written is no reason to leave something behind.
    let log = match args.log.as_deref() {
        Some(path) if args.daemon && path == Path::new(crate::logging::JOURNALD) => {
            Some(daemon::open_null()?)
        }
        Some(path) if args.daemon => Some(daemon::open_log(path)?),
        _ => None,
    };
    let mut places = places_with(args.cache_dir.clone().map(absolute).transpose()?)?;
    places.cache = places.cache.with_limits(args.cache_bounds.limits());
    let Some((mount_point, manifests)) = args.paths.split_last() else {
        return Err(attachfs::Error::usage("there is no mount point").into());
    };
    let traces = args.traces.clone().options();
    let traces = traces.context("cannot find the working directory")?;
    let resume = match &args.session {
        Some(dir) => attachfs::session_in(dir)?,
        None => None,
    };
    let of_new_sessions = of_new_sessions(&args);
    let layers = LayerOptions::from(args.layering);
    let (what, store) = match (resume, manifests) {
        (Some(_), []) if !of_new_sessions.is_empty() => {
            let text = format!(
                "a session goes on with what it began with: leave out {}",
                of_new_sessions.join(", ")
            );
            return Err(attachfs::Error::usage(text).into());
        }
        (Some(found), []) => {
            let settings = found.meta.store.with(&globals.s3.access()?);
            let store = open(&settings).await?;
            (MountSession::Resume { dir: found.dir }, store)
        }
        (Some(found), _) => {
            let text = format!(
                "there is a session in {} already: name no manifests to take it up, or another directory",
                found.dir.display()
            );
            return Err(attachfs::Error::usage(text).into());
        }
        (None, []) if args.session.is_some() => {
            let dir = args.session.unwrap_or_default();
            let text = format!(
                "there is no session in {} to take up, and no manifest for a new one; `attachfs list --json` \
                 says in which directories the sessions are",
                dir.display()
            );
            return Err(attachfs::Error::usage(text).into());
        }
        (None, []) => {
            let text = "there is no manifest to mount: the last of the paths is the mount point";
            return Err(attachfs::Error::usage(text).into());
        }
        (None, manifests) => {
            let sources = placed_all(manifests)?;
            let plain: Vec<_> = sources.iter().map(|(source, _)| source.clone()).collect();
            let store = store_of(globals, args.store.as_deref(), &plain, &places).await?;
            let given = sources.into_iter();
            let manifests = given.map(|(source, at)| GivenManifest::At { source, at });
            let what = MountSession::New {
                manifests: manifests.collect(),
                layers,
                read_only: args.read_only,
                case_insensitive: args.names.case_insensitive,
                session_dir: args.session.clone(),
                scratch_dir: args.scratch_dir.map(absolute).transpose()?,
                commit: args.commit,
                output_dirs: args.output_dir,
            };
            (what, store)
        }
    };
    let (uid, gid) = attachfs::user_numbers();
    let owner = Owner {
        uid: args.uid.unwrap_or(uid),
        gid: args.gid.unwrap_or(gid),
        file_mode: args.file_mode,
        dir_mode: args.dir_mode,
    };
    let request = MountRequest {
        session: what,
        mount_point: MountPoint::At(PathBuf::from(mount_point)),
        owner,
        allow_other: args.allow_other,
        store,
        probe: !args.probing.no_probe,
        reading: args.reading.into(),
        no_open: args.no_open,
        traces,
        log: log_place(args.daemon, args.log.as_deref()),
        metrics: args.metrics.metrics_addr,
        reports: args.reports.wanted()?,
        places,
        step_hook: Some(crate::halt::halt_at),
        before_making: Some(daemon::before_making),
    };
    // Before the mount, so that no signal in between leaves a dead one.
    let mut interrupt = StopSignal::listen(Stop::Interrupt)?;
    let mut terminate = StopSignal::listen(Stop::Terminate)?;
    let mut hang_up = StopSignal::listen(Stop::HangUp)?;
    let never = CancellationToken::new();
    let mount = tokio::select! {
        mount = attachfs::Mount::start(request, &never) => mount?,
        () = interrupt.recv() => return Err(Failure::Code(crate::exit::CANCELLED)),
        () = terminate.recv() => return Err(Failure::Code(crate::exit::CANCELLED)),
        () = hang_up.recv() => return Err(Failure::Code(crate::exit::CANCELLED)),
        () = daemon::starter_gone() => return Err(Failure::Code(crate::exit::CANCELLED)),
    };
    // What was named is in the session now.
    globals.watch.end();
    let ready = Ready {
        session: mount.session_id().to_string(),
        session_dir: mount.session_dir().to_owned(),
        mount_point: mount.mount_point(),
        pid: std::process::id(),
        had_died: mount.had_died(),
        without_store: mount.without_store().map(str::to_owned),
        metrics: mount.metrics_url(),
    };
    let told = match starter {
        Some(starter) => hand_over(starter, &ready, log),
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
    if !args.daemon {
        // The terminal may be gone: that may be why it ended.
        let _ = if globals.json {
            output::print_json(&report)
        } else {
            output::print(&unmounted(&report, false))
        };
    }
    Ok(())
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

/// Where the log goes.
fn log_place(daemon: bool, log: Option<&Path>) -> LogPlace {
    match log {
        Some(path) if path == Path::new(crate::logging::JOURNALD) => {
            LogPlace::Elsewhere("the system's journal".to_owned())
        }
        Some(path) if daemon => LogPlace::Elsewhere(path.display().to_string()),
        None if daemon => LogPlace::Session,
        _ => LogPlace::Elsewhere("standard error".to_owned()),
    }
}

/// Unmounts in order; programs that still use the mount are cut off. The written files are in the session.
async fn stop(mount: &attachfs::Mount) -> Result<(), attachfs::Error> {
    match mount.unmount(false).await {
        Err(error) if error.class() == attachfs::FailureClass::Busy => {
            tracing::warn!(
                error = crate::exit::chain(&error.into()),
                "the mount is detached"
            );
            mount.unmount(true).await.map(drop)
        }
        result => result.map(drop),
    }
}

/// Manifests and where they are placed; one of them may be standard input.
pub(super) fn placed_all(
    manifests: &[OsString],
) -> Result<Vec<(ManifestSource, Option<ManifestPath>)>, attachfs::Error> {
    let sources: Vec<_> = manifests.iter().map(placed).collect::<Result<_, _>>()?;
    let is_stdin = |(source, _): &&(ManifestSource, _)| *source == ManifestSource::Stdin;
    if sources.iter().filter(is_stdin).count() > 1 {
        return Err(attachfs::Error::usage("standard input is named twice"));
    }
    Ok(sources)
}

/// `MANIFEST` or `MANIFEST=SUBDIR`. A file whose name has a `=` is meant if it is there.
fn placed(text: &OsString) -> Result<(ManifestSource, Option<ManifestPath>), attachfs::Error> {
    if Path::new(text).exists() {
        return Ok((source(text)?, None));
    }
    let bytes = text.as_encoded_bytes();
    let Some(equals) = bytes.iter().rposition(|&b| b == b'=') else {
        return Ok((source(text)?, None));
    };
    let at = attachfs::path_of_bytes(&bytes[equals + 1..]);
    let at = at.to_str().ok_or_else(|| {
        attachfs::Error::usage(format!(
            "the directory in {} is not UTF-8 text",
            text.display()
        ))
    })?;
    Ok((
        source(attachfs::path_of_bytes(&bytes[..equals]).as_os_str())?,
        attachfs::parse_path(at)?,
    ))
}

pub(super) async fn umount(globals: &Globals, args: Umount) -> Result<(), Failure> {
    let places = places();
    let found = attachfs::find(&places, &args.session)?;
    require_used(globals, &found).await?;
    let shown = Shown::new(globals.json);
    let ManifestTo { output, publish } = args.manifest_to;
    check_place(output.as_deref())?;
    let wants_commit = args.commit || output.is_some() || publish.is_some();
    let arguments = UnmountArguments {
        commit: wants_commit.then(|| CommitArguments {
            publish,
            ..CommitArguments::default()
        }),
        // The session keeps the manifest's bytes until they are in the file that was named.
        keep: output.is_some(),
    };
    let cancel = shown.cancel();
    let ending = session::unmount(&found, &places, args.force, &arguments, &shown, cancel);
    let mut report = ending.await?;
    if let (true, Some(commit)) = (report.was_dead, &arguments.commit) {
        let access = globals.s3.access()?;
        report.commit =
            Some(session::commit(&found, &places, &access, commit, &shown, cancel).await?);
    }
    let nothing_left = report.was_dead
        && report.kept
        && report.commit.is_none()
        && nothing_left(globals, &found, &places, &mut report).await;
    shown.clear();
    let written = match (&output, &report.commit) {
        (Some(output), Some(commit)) => {
            let written = write_manifest(Some(output), &found.dir, commit);
            match written {
                Ok(()) if !report.was_dead => discard(globals, &found, &places, &mut report).await,
                written => written,
            }
        }
        _ => Ok(()),
    };
    if is_piped(output.as_deref()) {
        // Standard output has the manifest.
    } else if globals.json {
        output::print_json(&report)?;
    } else {
        output::print(&unmounted(&report, nothing_left))?;
    }
    match report.commit_failure {
        None => written,
        Some(failure) => Err(attachfs::Error::from(failure).into()),
    }
}

/// Whether the session of a process that died has nothing to commit, which only its journal says now. Where that cannot be told there
/// may be something.
async fn nothing_left(
    globals: &Globals,
    found: &SessionEntry,
    places: &Places,
    report: &mut UnmountReport,
) -> bool {
    let Ok(access) = globals.s3.access() else {
        return false;
    };
    let never = CancellationToken::new();
    match session::status(found, places, &access, &never).await {
        Ok(status) => {
            report.uncommitted = status.uncommitted;
            status.uncommitted == 0
                && status.unknown == 0
                && status.set_aside == 0
                && status.left_open.is_empty()
                && !status.commit_unfinished
        }
        Err(error) => {
            remark(&format!(
                "what is in the session cannot be told: {}",
                crate::exit::chain(&error.into())
            ));
            false
        }
    }
}

/// Deletes a session that was kept for its manifest only.
async fn discard(
    globals: &Globals,
    found: &SessionEntry,
    places: &Places,
    report: &mut UnmountReport,
) -> Result<(), Failure> {
    let (access, never) = (globals.s3.access()?, CancellationToken::new());
    Ok(session::discard_committed(found, places, &access, report, &never).await?)
}

fn unmounted(report: &UnmountReport, nothing_left: bool) -> String {
    let mut text = String::new();
    if let Some(process) = report.process {
        let waiting = if report.still_waiting {
            "whatever waits for it does so until it ends"
        } else {
            "whatever waited for it got an error"
        };
        text += &format!(
            "detached   the mount of process {process}, which does not answer; {waiting}\n           \
             the process still has the session: nobody can commit it before it ends\n"
        );
    } else if report.was_dead {
        text += "detached   a mount whose process had died; nothing that had returned success is lost\n";
    } else {
        text += &format!("unmounted  {}\n", output::shown(&report.mount_point));
    }
    for held in &report.held {
        text += &format!("           it was also {held}: it does not answer there any more\n");
    }
    if let Some(commit) = &report.commit {
        text += &output::commit(commit);
    }
    text += &written(&report.reports);
    text += &output::failed_reads(report.reads_failed, report.last_error.as_ref());
    text += &output::not_cached(report.not_cached);
    text += &output::prefetched(report.prefetch);
    if let Some(why) = &report.trace_failure {
        text += &format!("trace      is not written: {}\n", output::line_of(why));
    }
    if let Some(trace) = &report.trace {
        text += &format!("trace      {}\n", output::shown(trace));
    }
    if let Some(log) = &report.log {
        text += &format!("log        {}\n", output::shown(log));
    }
    if !report.kept && !report.still_deleting {
        text += "session    ended: nothing in it is needed any more\n";
    }
    if report.still_deleting && !report.kept {
        text += &format!(
            "session    {} is still being deleted by its process\n",
            report.session
        );
    }
    if report.kept {
        let id = &report.session;
        text += &format!("session    {id} is kept");
        if report.uncommitted > 0 {
            text += &format!(
                " with {} not committed",
                output::count(report.uncommitted, "changed path")
            );
        }
        if let Some(dir) = &report.set_aside_in {
            text += &format!(
                "\n           {} that no record speaks of in {dir}",
                output::count(report.set_aside, "file")
            );
        }
        if nothing_left {
            text += &format!(
                "; nothing in it is uncommitted\n           attachfs discard {}\n",
                &id[..8]
            );
            return text;
        }
        if report.commit_left_undone {
            text += "\n           nothing was committed: `--commit` is for `attachfs umount`, and not for signals or umount(8)";
        }
        text += &format!(
            "\n           attachfs {1} {0}\n           attachfs discard {0}\n",
            &id[..8],
            if report.all_outside {
                "commit --everything"
            } else {
                output::how_to_commit(report.commit.as_ref().map(|commit| &commit.account))
            }
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_still_being_deleted_is_said_to_be_and_not_to_be_kept() {
        let report = |is_kept: bool| -> UnmountReport {
            let report = serde_json::json!({
                "session": "0123456789abcdef", "mount_point": "/m", "kept": is_kept, "was_dead": false,
                "uncommitted": 0, "commit": null, "still_deleting": true,
            });
            serde_json::from_value(report).unwrap()
        };
        let deleting = "session    0123456789abcdef is still being deleted by its process\n";
        let text = unmounted(&report(false), false);
        assert_eq!(text, format!("unmounted  /m\n{deleting}"));
        let text = unmounted(&report(true), false);
        assert!(
            !text.contains(deleting) && text.contains("is kept"),
            "{text}"
        );
        assert!(text.contains("attachfs commit 01234567"), "{text}");
    }

    #[test]
    fn a_session_in_which_nothing_is_uncommitted_is_not_offered_to_commit() {
        let report = serde_json::json!({
            "session": "0123456789abcdef", "mount_point": "/m\u{1b}[2J", "kept": true, "was_dead": true,
            "uncommitted": 0, "commit": null,
        });
        let report: UnmountReport = serde_json::from_value(report).unwrap();
        let text = unmounted(&report, true);
        assert!(text.contains("nothing in it is uncommitted"), "{text}");
        assert!(!text.contains("attachfs commit"), "{text}");
        assert!(text.contains("attachfs discard 01234567"), "{text}");
    }
}
