//! `list`, `status`, `diff`, `commit`, `discard`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attachfs::causes::SessionListError;
use attachfs::session;
use attachfs::{
    Account, CancellationToken, CommitArguments, CommitReport, DiffArguments, FailureClass, Places,
    SessionEntry, SessionId, SessionState,
};
use serde::Serialize;

use super::stores::require_used;
use crate::args::fsck::Fsck;
use crate::args::{Commit, Diff, Discard, Globals, List, OutgoingLinks, Session};
use crate::exit::{Failure, INTEGRITY};
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
    #[serde(with = "attachfs::path_json")]
    dir: PathBuf,
}

impl ListedSession {
    fn found(found: SessionEntry) -> Self {
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
            (Some(at), _) => format!("{session} {state:8} {}\n", output::shown(at)),
            (None, _) => format!("{session} {state:8} in {}\n", output::shown(dir)),
        }
    }
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
    for found in attachfs::sessions(&places)? {
        match found {
            Ok(found) => listed.push(ListedSession::found(found)),
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
    let how = DiffArguments { hash: args.hash };
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
    if !account.links.is_empty() && args.symlinks == OutgoingLinks::Stop {
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
        let session = Session {
            session: args.session.session.clone(),
        };
        let hash = true;
        let account = shown_diff(globals, Diff { session, hash }).await?;
        return would_stop(&args, &account);
    }
    let places = places();
    let found = attachfs::find(&places, &args.session.session)?;
    require_used(globals, &found).await?;
    check_place(args.manifest_to.output.as_deref())?;
    let arguments = CommitArguments {
        wait_ms: args.wait.saturating_mul(1000),
        skip_open: args.skip_open,
        accept_open: args.accept_open,
        accept_tainted: args.accept_tainted,
        skip_links: args.symlinks == OutgoingLinks::Skip,
        everything: args.everything,
        publish: args.manifest_to.publish,
    };
    let shown = Shown::cancellable(globals.json);
    let (access, cancel) = (globals.s3.access()?, shown.cancel());
    let report = session::commit(&found, &places, &access, &arguments, &shown, cancel).await?;
    shown.clear();
    let output = args.manifest_to.output.as_deref();
    let written = write_manifest(output, &found.dir, &report);
    // The published manifest is printed also if it could not be written to the file.
    if !is_piped(output) {
        told(globals, &report)?;
    }
    written
}

/// Whether the manifest goes to standard output.
pub(super) fn is_piped(output: Option<&Path>) -> bool {
    output == Some(Path::new("-"))
}

/// Fails if the manifest cannot be written where it was wanted, before anything is done.
pub(super) fn check_place(output: Option<&Path>) -> Result<(), attachfs::Error> {
    match output {
        Some(path) if !is_piped(output) => attachfs::check_place_of_manifest(path),
        _ => Ok(()),
    }
}

/// Writes the manifest of a commit to the file that was named, if there is one.
pub(super) fn write_manifest(
    output: Option<&Path>,
    session_dir: &Path,
    report: &CommitReport,
) -> Result<(), Failure> {
    if let (Some(path), Some(manifest)) = (output, &report.manifest) {
        let bytes = session::committed_bytes(session_dir, manifest)?;
        if is_piped(output) {
            let written = std::io::stdout().write_all(&bytes);
            written.context("cannot write to standard output")?;
        } else {
            attachfs::write_manifest(path, &bytes)?;
        }
    }
    Ok(())
}

fn told(globals: &Globals, report: &CommitReport) -> Result<(), Failure> {
    if globals.json {
        return Ok(output::print_json(report)?);
    }
    Ok(output::print(&output::commit(report))?)
}

pub(super) fn fsck(globals: &Globals, args: &Fsck) -> Result<(), Failure> {
    let places = places();
    let found = attachfs::find(&places, &args.session.session)?;
    let report = attachfs::fsck(&found, &places, args.repair)?;
    if globals.json {
        output::print_json(&report)?;
    } else {
        output::print(&output::fsck(&report))?;
    }
    if report.sound {
        Ok(())
    } else {
        Err(Failure::Code(INTEGRITY))
    }
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
