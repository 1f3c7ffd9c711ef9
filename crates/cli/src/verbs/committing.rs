//! `diff`, `commit`.

use std::io::Write as _;
use std::path::Path;

use attachfs::{CommitArguments, CommitReport, DiffArguments, Error, ManifestFile, session};

use super::stores::require_used;
use crate::args::{Commit, Diff, Globals};
use crate::exit::Failure;
use crate::output::{self, remark};
use crate::places::places;
use crate::progress::Shown;

/// Shows what changed.
pub(super) async fn diff(globals: &Globals, args: Diff) -> Result<(), Failure> {
    let places = places();
    let found = attachfs::find(&places, &args.session.session)?;
    require_used(globals, &found).await?;
    let shown = Shown::cancellable(globals.json);
    let how = DiffArguments {
        hash: args.hash,
        chosen: args.chosen.into(),
    };
    let (access, cancel) = (globals.s3.access()?, shown.cancel());
    let report = session::diff(&found, &places, &access, how, &shown, cancel).await?;
    shown.clear();
    if globals.json {
        return Ok(output::print_json(&report)?);
    }
    Ok(output::print(&output::shown_changes(&report))?)
}

/// Shows what a commit would do, and fails as it would.
async fn rehearse(
    globals: &Globals,
    session: &Path,
    arguments: &CommitArguments,
) -> Result<(), Failure> {
    let places = places();
    let found = attachfs::find(&places, session)?;
    require_used(globals, &found).await?;
    let shown = Shown::cancellable(globals.json);
    let (access, cancel) = (globals.s3.access()?, shown.cancel());
    let rehearsed = session::rehearse(&found, &places, &access, arguments, &shown, cancel).await?;
    shown.clear();
    if globals.json {
        output::print_json(&rehearsed)?;
    } else {
        output::print(&output::rehearsal(&rehearsed))?;
    }
    match rehearsed.would_stop {
        Some(stop) => Err(Error::from(stop).into()),
        None => Ok(()),
    }
}

pub(super) async fn commit(globals: &Globals, args: Commit) -> Result<(), Failure> {
    let arguments = CommitArguments {
        wait_ms: args.wait.saturating_mul(1000),
        skip_open: args.skip_open,
        accept_open: args.accept_open,
        accept_tainted: args.accept_tainted,
        links: args.links.symlinks.into(),
        everything: args.everything,
        chosen: args.chosen.into(),
        publish: args.manifest_to.publish.clone(),
        files_only: args.manifest_to.files_only(),
        expect_parent: args.expect_parent.as_ref().map(ToString::to_string),
        only_resume: args.resume,
    };
    if args.dry_run {
        return rehearse(globals, &args.session.session, &arguments).await;
    }
    let places = places();
    let found = attachfs::find(&places, &args.session.session)?;
    require_used(globals, &found).await?;
    let output = args.manifest_to.output.as_deref();
    let reserved = reserve(output)?;
    let shown = Shown::cancellable(globals.json);
    let (access, cancel) = (globals.s3.access()?, shown.cancel());
    let report = session::commit(&found, &places, &access, &arguments, &shown, cancel).await?;
    shown.clear();
    let written = match (output, &report.manifest) {
        (Some(_), Some(manifest)) => {
            let bytes = session::committed_bytes(&found.dir, manifest, &arguments);
            let written = bytes.and_then(|bytes| match reserved {
                Some(file) => file.write(&bytes),
                None => print_bytes(&bytes),
            });
            let published = || format!("it is published as {}", manifest.address);
            written.map_err(|error| error.advise(published()).into())
        }
        _ => Ok(()),
    };
    // The published manifest is printed also if it could not be written to the file.
    if !is_piped(output) {
        told(globals, &report)?;
        if report.nothing_to_resume && !globals.json {
            remark(NOTHING_TO_RESUME);
        }
    }
    written
}

const NOTHING_TO_RESUME: &str = "no commit was interrupted when its manifest was ready; `attachfs commit` publishes what changed, \
and sends only what the store does not have yet";

/// Whether the manifest goes to standard output.
pub(super) fn is_piped(output: Option<&Path>) -> bool {
    output == Some(Path::new("-"))
}

/// Fails if the manifest cannot be written where it was wanted, before anything is done.
pub(super) fn check_place(output: Option<&Path>) -> Result<(), attachfs::Error> {
    reserve(output).map(drop)
}

/// Takes room for a manifest where it was wanted, before anything is done. `None` if it goes nowhere, or to standard output.
pub(super) fn reserve(output: Option<&Path>) -> Result<Option<ManifestFile>, attachfs::Error> {
    match output {
        Some(path) if !is_piped(output) => Ok(Some(ManifestFile::reserve(path)?)),
        _ => Ok(None),
    }
}

/// Writes a manifest to standard output.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), attachfs::Error> {
    let written = std::io::stdout().write_all(bytes);
    written.map_err(|source| {
        let sentence = "cannot write the manifest to standard output";
        attachfs::Error::new(attachfs::FailureClass::Other, sentence).because(source)
    })
}

fn told(globals: &Globals, report: &CommitReport) -> Result<(), Failure> {
    if globals.json {
        return Ok(output::print_json(report)?);
    }
    Ok(output::print(&output::commit(report))?)
}
