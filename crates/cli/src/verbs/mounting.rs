//! `mount`.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attachfs::{
    CancellationToken, GivenManifest, LayerOptions, LogPlace, ManifestPath, ManifestSource,
    MountPoint, MountRequest, MountSession, Owner, Stop, StopSignal,
};

use super::job_files;
use super::reading::source;
use super::stores::{open, store_of};
use super::unmounting::unmounted;
use crate::args::{Globals, Mount};
use crate::daemon::{self, Ready, Starter};
use crate::exit::Failure;
use crate::output::{self, remark};
use crate::paths::absolute;
use crate::places::places_with;

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
        ("--protect-inputs", args.names.protect_inputs),
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
    attachfs::check_output_dirs(&args.output_dir)?;
    let declared = resume.as_ref().map(|found| &found.meta.output_dirs);
    args.early_upload
        .check(!declared.unwrap_or(&args.output_dir).is_empty())?;
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
            let what = MountSession::Resume {
                dir: found.dir,
                max_scratch: args.scratch.max_scratch,
            };
            (what, store)
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
            let of_job = match manifests {
                [one] if job_files::is_job(Some(one), &args.of_job) => one.to_str(),
                _ if args.of_job.which.is_given() => {
                    let text = "options of a job go with its address: deadline://FARM/QUEUE/JOB, and no other manifest";
                    return Err(attachfs::Error::usage(text).into());
                }
                _ => None,
            };
            let (manifests, store) = if of_job.is_some() {
                let named = args.store.as_deref();
                let (files, store) = job_files::read(globals, of_job, &args.of_job, named).await?;
                let manifests = files.manifests()?.into_iter();
                (manifests.map(GivenManifest::Bytes).collect(), store)
            } else {
                let sources = placed_all(manifests)?;
                let plain: Vec<_> = sources.iter().map(|(source, _)| source.clone()).collect();
                let store = store_of(globals, args.store.as_deref(), &plain, &places).await?;
                let given = sources.into_iter();
                let manifests = given.map(|(source, at)| GivenManifest::At { source, at });
                (manifests.collect(), store)
            };
            let what = MountSession::New {
                manifests,
                layers,
                read_only: args.read_only,
                case_insensitive: args.names.case_insensitive,
                protect_inputs: args.names.protect_inputs,
                session_dir: args.session.clone(),
                scratch_dir: args.scratch_dir.map(absolute).transpose()?,
                max_scratch: args.scratch.max_scratch,
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
        early_uploads: args.early_upload.into(),
        writeback_cache: args.writing.writeback_cache,
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
            output::print(&unmounted(&report, false, ""))
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
