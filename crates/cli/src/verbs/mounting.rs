//! `mount`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attachfs::{
    CancellationToken, GivenManifest, LayerOptions, ManifestPath, ManifestSource, MountPoint,
    MountRequest, MountSession, Owner,
};

use super::job_files;
use super::naming::is_job_address;
use super::reading::source;
use super::serving::Serving;
use super::stores::{open, store_of};
use crate::args::{Globals, Mount};
use crate::daemon;
use crate::exit::Failure;
use crate::paths::absolute;
use crate::places::places_with;

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
    let serving = Serving::begin(args.daemon, args.log.as_deref())?;
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
        (None, []) if !args.of_job.job.is_given() => {
            let text = "there is no manifest to mount: the last of the paths is the mount point";
            return Err(attachfs::Error::usage(text).into());
        }
        (None, manifests) => {
            let of_job = match manifests {
                [] if args.of_job.job.is_given() => Some(None),
                [one] if is_job_address(one) => Some(one.to_str()),
                _ if args.of_job.job.is_given() => {
                    let text = "the options name a job, and there are manifests, too";
                    return Err(attachfs::Error::usage(text).into());
                }
                _ => None,
            };
            let (manifests, store) = if let Some(address) = of_job {
                let named = args.store.as_deref();
                let (found, store) = job_files::read(globals, address, &args.of_job, named).await?;
                let manifests = found.manifests()?.into_iter();
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
        log: serving.log_place(),
        metrics: args.metrics.metrics_addr,
        reports: args.reports.wanted()?,
        places,
        step_hook: Some(crate::halt::halt_at),
        before_making: Some(daemon::before_making),
    };
    let never = CancellationToken::new();
    let start = Box::pin(attachfs::Mount::start(request, &never));
    serving.serve(globals, start).await
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
