//! `list`, `status`, `diff`, `commit`, `discard`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attachfs::causes::SessionListError;
use attachfs::session;
use attachfs::{
    Account, CancellationToken, CommitArguments, CommitReport, DiffArguments, FailureClass,
    ManifestFile, Places, SessionEntry, SessionId, SessionState, Uncommitted,
};
use serde::Serialize;

use super::stores::require_used;
use crate::args::committing::OutgoingLinks;
use crate::args::{Commit, Diff, Discard, Globals, HandedFormat, List, Session};
use crate::exit::Failure;
use crate::output::{self, remark};
use crate::places::places;
use crate::progress::Shown;

/// A session as it is listed. Fields that are kept in its own directory are `null` if that cannot be reached.
#[derive(Serialize)]
struct ListedSession {
    session: String,
    state: &'static str,
    #[serde(with = "attachfs::path_json::option")]
    mount_point: Option<PathBuf>,
    store: Option<String>,
    created: Option<i64>,
    read_only: Option<bool>,
    /// What was written and not committed; `null` where that is not known.
    uncommitted: Option<Uncommitted>,
    #[serde(with = "attachfs::path_json")]
    dir: PathBuf,
}

impl ListedSession {
    fn found(found: SessionEntry, uncommitted: Option<Uncommitted>) -> Self {
        Self {
            session: found.meta.id.to_string(),
            state: match found.state {
                SessionState::InUse => "mounted",
                SessionState::Left => "left",
                SessionState::Ending => "ending",
            },
            mount_point: Some(found.meta.mount_point),
            store: Some(found.meta.store.address),
            created: Some(found.meta.created.seconds),
            read_only: Some(found.meta.read_only),
            uncommitted,
            dir: found.dir,
        }
    }

    fn gone(id: &SessionId, state: &'static str, dir: &Path) -> Self {
        Self {
            session: id.to_string(),
            state,
            mount_point: None,
            store: None,
            created: None,
            read_only: None,
            uncommitted: None,
            dir: dir.to_owned(),
        }
    }

    fn line(&self) -> String {
        let Self {
            session,
            state,
            dir,
            ..
        } = self;
        match (&self.mount_point, self.read_only) {
            (Some(at), Some(true)) => {
                format!("{session} {state:8} {} (read-only)\n", output::shown(at))
            }
            (Some(at), _) => {
                let left = self.uncommitted.as_ref().map_or_else(String::new, left_in);
                format!("{session} {state:8} {}{left}\n", output::shown(at))
            }
            (None, _) => format!("{session} {state:8} in {}\n", output::shown(dir)),
        }
    }
}

/// What is uncommitted in a session, behind its line: how much was written, and how long ago the last change was.
fn left_in(left: &Uncommitted) -> String {
    let ago = output::ago(left.changed);
    if left.files == 0 {
        return format!("  (last change {ago})");
    }
    let files = output::count(left.files, "file");
    let bytes = output::bytes(left.bytes);
    format!("  ({files}, {bytes} not committed; last change {ago})")
}

pub(super) fn list(globals: &Globals, args: &List) -> Result<(), Failure> {
    let places = places();
    if args.prune {
        return prune(globals, &places);
    }
    if args.ended {
        return list_ended(globals, &places);
    }
    let mut listed = Vec::new();
    let sessions = attachfs::sessions(&places)?;
    let found: Vec<SessionEntry> = sessions.iter().flatten().cloned().collect();
    let mut uncommitted = attachfs::uncommitted_in(&found).into_iter();
    for found in sessions {
        match found {
            Ok(found) => {
                let uncommitted = uncommitted.next().flatten();
                listed.push(ListedSession::found(found, uncommitted));
            }
            Err(error) => {
                match &error {
                    SessionListError::Unreachable { id, dir, .. } => {
                        listed.push(ListedSession::gone(id, "unreachable", dir));
                    }
                    SessionListError::Replaced {
                        id: Some(id), dir, ..
                    } => listed.push(ListedSession::gone(id, "lost", dir)),
                    _ => {}
                }
                remark(&crate::exit::chain(&attachfs::Error::from(error).into()));
            }
        }
    }
    if globals.json {
        return Ok(output::print_json(&listed)?);
    }
    if listed.is_empty() {
        return Ok(output::print("no sessions\n")?);
    }
    let text: String = listed.iter().map(ListedSession::line).collect();
    Ok(output::print(&text)?)
}

fn list_ended(globals: &Globals, places: &Places) -> Result<(), Failure> {
    let ended = attachfs::ended_sessions(places)?;
    if globals.json {
        return Ok(output::print_json(&ended)?);
    }
    if ended.is_empty() {
        return Ok(output::print("no ended sessions\n")?);
    }
    let text: String = ended.iter().map(output::ended).collect();
    Ok(output::print(&text)?)
}

fn prune(globals: &Globals, places: &Places) -> Result<(), Failure> {
    let pruned = attachfs::prune(places)?;
    if globals.json {
        return Ok(output::print_json(&pruned)?);
    }
    let mut text = format!(
        "forgotten  {}\n",
        output::count(pruned.ended as u64, "ended session")
    );
    if pruned.unfinished > 0 {
        text += &format!(
            "removed    {} of sessions that were never made whole\n",
            output::count(pruned.unfinished as u64, "directory")
        );
    }
    for id in &pruned.replaced {
        text += &format!("forgotten  {id}, whose directory holds another session\n");
    }
    for id in &pruned.unreachable {
        text += &format!(
            "kept       {id}, which cannot be reached; `attachfs discard --forget {id}` takes it from the list\n"
        );
    }
    Ok(output::print(&text)?)
}

pub(super) async fn status(globals: &Globals, args: Session) -> Result<(), Failure> {
    let places = places();
    let found = match attachfs::find(&places, &args.session) {
        Err(error) if is_ended(&error) => {
            return match attachfs::find_ended(&places, &args.session.to_string_lossy())? {
                Some(ended) if globals.json => Ok(output::print_json(&ended)?),
                Some(ended) => Ok(output::print(&output::ended(&ended))?),
                None => Err(error.into()),
            };
        }
        found => found?,
    };
    require_used(globals, &found).await?;
    let access = globals.s3.access()?;
    let report = session::status(&found, &places, &access, &CancellationToken::new()).await?;
    if globals.json {
        return Ok(output::print_json(&report)?);
    }
    Ok(output::print(&output::status(&report))?)
}

fn is_ended(error: &attachfs::Error) -> bool {
    matches!(error.cause(), Some(SessionListError::Ended { .. }))
}

pub(super) async fn diff(globals: &Globals, args: Diff) -> Result<(), Failure> {
    shown_diff(globals, args).await.map(drop)
}

/// Shows what a commit would publish and leave.
async fn shown_diff(globals: &Globals, args: Diff) -> Result<Account, Failure> {
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
        output::print_json(&report)?;
        return Ok(report.account);
    }
    let mut text = String::new();
    for line in &report.changes {
        let mark = match line.change.as_str() {
            "added" => '+',
            "deleted" => '-',
            _ => '~',
        };
        let size = line
            .size
            .map(|size| format!("  ({})", output::bytes(size)))
            .unwrap_or_default();
        let maybe = if line.maybe_same {
            "  written to; maybe the same bytes"
        } else {
            ""
        };
        let slash = if line.kind == "dir" { "/" } else { "" };
        text += &format!("{mark} {}{slash}{size}{maybe}\n", line.path);
    }
    text += &output::dry_run(&report.account);
    output::print(&text)?;
    Ok(report.account)
}

/// Fails as the commit would that was asked for, which publishes nothing where it may not leave these out.
fn would_stop(args: &Commit, account: &Account) -> Result<(), Failure> {
    let named = |paths: &[String]| {
        let shown: Vec<_> = paths.iter().take(5).map(String::as_str).collect();
        let more = if paths.len() > shown.len() {
            ", ..."
        } else {
            ""
        };
        format!("{}{more}", shown.join(", "))
    };
    let stops = |class, paths: &[String], why: &str, advice: &str| {
        let sentence = format!("the commit would stop: {why}: {}", named(paths));
        Err(attachfs::Error::new(class, sentence).advise(advice).into())
    };
    if !account.too_long.is_empty() {
        let why = "no manifest can hold a path of more than 4,095 bytes";
        return stops(
            FailureClass::Other,
            &account.too_long,
            why,
            "shorten or remove them",
        );
    }
    if !account.open.is_empty() && !args.skip_open {
        let advice = "`--skip-open` leaves them out, `--wait` waits for them";
        return stops(
            FailureClass::Busy,
            &account.open,
            "files are open for writing",
            advice,
        );
    }
    if !account.links.is_empty() && args.links.symlinks == OutgoingLinks::Stop {
        let why = "symbolic links lead out of the mount";
        return stops(
            FailureClass::Other,
            &account.links,
            why,
            "`--symlinks skip` leaves them out",
        );
    }
    Ok(())
}

pub(super) async fn commit(globals: &Globals, args: Commit) -> Result<(), Failure> {
    if args.dry_run {
        let diff = Diff {
            session: Session {
                session: args.session.session.clone(),
            },
            hash: true,
            chosen: args.chosen.clone(),
        };
        let account = shown_diff(globals, diff).await?;
        return would_stop(&args, &account);
    }
    let places = places();
    let found = attachfs::find(&places, &args.session.session)?;
    require_used(globals, &found).await?;
    let output = args.manifest_to.output.as_deref();
    let reserved = reserve(output)?;
    let arguments = CommitArguments {
        wait_ms: args.wait.saturating_mul(1000),
        skip_open: args.skip_open,
        accept_open: args.accept_open,
        accept_tainted: args.accept_tainted,
        links: args.links.symlinks.into(),
        everything: args.everything,
        chosen: args.chosen.into(),
        publish: args.manifest_to.publish,
        files_only: args.format == HandedFormat::Files,
        expect_parent: args.expect_parent.as_ref().map(ToString::to_string),
        only_resume: args.resume,
    };
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
        if args.resume && report.unchanged && !globals.json {
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

pub(super) async fn discard(globals: &Globals, args: Discard) -> Result<(), Failure> {
    let places = places();
    if args.forget {
        return forget(globals, &places, &args.session.session);
    }
    let found = attachfs::find(&places, &args.session.session)?;
    require_used(globals, &found).await?;
    if !args.yes {
        confirm(&found.meta.id.to_string())?;
    }
    session::discard(&found, &places, &CancellationToken::new()).await?;
    if globals.json {
        return Ok(output::print_json(
            &serde_json::json!({ "discarded": found.meta.id }),
        )?);
    }
    Ok(output::print(&format!("discarded  {}\n", found.meta.id))?)
}

fn forget(globals: &Globals, places: &Places, session: &Path) -> Result<(), Failure> {
    let id = attachfs::forget(places, session)?;
    if globals.json {
        return Ok(output::print_json(&serde_json::json!({ "forgotten": id }))?);
    }
    Ok(output::print(&format!(
        "forgotten  {id}; nothing on its disk was deleted\n"
    ))?)
}

/// Asks a person before uncommitted work is deleted for good; a script must say `--yes`.
#[expect(clippy::print_stderr, reason = "a question to a person")]
fn confirm(id: &str) -> Result<(), Failure> {
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        let advice = "nobody can be asked here; say --yes to delete what was not committed";
        return Err(attachfs::Error::usage(advice).into());
    }
    eprint!("Delete session {id} and everything in it that was not committed? [y/N] ");
    std::io::stderr().flush().context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("cannot hear the answer")?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Code(crate::exit::CANCELLED)),
    }
}
