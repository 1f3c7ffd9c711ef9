//! `list`, `status`, `diff`, `commit`, `discard`.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use attachfs::session;
use attachfs::{CommitArguments, CommitReport, DiffArguments, SessionState};
use serde::Serialize;

use super::remark;
use crate::args::{Commit, Diff, Discard, Globals, OutgoingLinks, Session};
use crate::exit::Failure;
use crate::output;
use crate::places::places;
use crate::progress::Shown;

#[derive(Serialize)]
struct ListedSession {
    session: String,
    state: &'static str,
    mount_point: String,
    store: String,
    created: i64,
    read_only: bool,
    dir: String,
}

pub(super) fn list(globals: &Globals) -> Result<(), Failure> {
    let mut listed = Vec::new();
    for found in attachfs::sessions(&places(None))? {
        match found {
            Ok(found) => listed.push(ListedSession {
                session: found.meta.id.to_string(),
                state: match found.state {
                    SessionState::InUse => "mounted",
                    SessionState::Left => "left",
                },
                mount_point: found.meta.mount_point.display().to_string(),
                store: found.meta.store.address,
                created: found.meta.created.seconds,
                read_only: found.meta.read_only,
                dir: found.dir.display().to_string(),
            }),
            Err(error) => remark(&crate::exit::chain(&error.into())),
        }
    }
    if globals.json {
        return Ok(output::print_json(&listed)?);
    }
    if listed.is_empty() {
        return Ok(output::print("no sessions\n")?);
    }
    let mut text = String::new();
    for session in &listed {
        let read_only = if session.read_only {
            " (read-only)"
        } else {
            ""
        };
        text += &format!(
            "{} {:8} {}{read_only}\n",
            session.session, session.state, session.mount_point
        );
    }
    Ok(output::print(&text)?)
}

pub(super) async fn status(globals: &Globals, args: Session) -> Result<(), Failure> {
    let places = places(None);
    let found = attachfs::find(&places, &args.session)?;
    let report = session::status(&found, &places, &globals.s3.access()?).await?;
    if globals.json {
        return Ok(output::print_json(&report)?);
    }
    Ok(output::print(&output::status(&report))?)
}

pub(super) async fn diff(globals: &Globals, args: Diff) -> Result<(), Failure> {
    let places = places(None);
    let found = attachfs::find(&places, &args.session.session)?;
    let shown = Shown::cancellable(globals.json);
    let how = DiffArguments { hash: args.hash };
    let report = session::diff(&found, &places, &globals.s3.access()?, how, &shown).await?;
    shown.clear();
    if globals.json {
        return Ok(output::print_json(&report)?);
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
    Ok(output::print(&text)?)
}

pub(super) async fn commit(globals: &Globals, args: Commit) -> Result<(), Failure> {
    if args.dry_run {
        let (session, hash) = (args.session, true);
        return diff(globals, Diff { session, hash }).await;
    }
    let places = places(None);
    let found = attachfs::find(&places, &args.session.session)?;
    let arguments = CommitArguments {
        wait_ms: args.wait.saturating_mul(1000),
        skip_open: args.skip_open,
        skip_links: args.symlinks == OutgoingLinks::Skip,
        everything: args.everything,
        publish: args.manifest_to.publish,
    };
    let shown = Shown::cancellable(globals.json);
    let report =
        session::commit(&found, &places, &globals.s3.access()?, &arguments, &shown).await?;
    shown.clear();
    let output = args.manifest_to.output.as_deref();
    let written = write_manifest(output, &found.dir, &report);
    // What was published is told also if it could not be written here.
    if !is_piped(output) {
        told(globals, &report)?;
    }
    written
}

/// Whether the manifest goes to standard output.
pub(super) fn is_piped(output: Option<&Path>) -> bool {
    output == Some(Path::new("-"))
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

pub(super) async fn discard(globals: &Globals, args: Discard) -> Result<(), Failure> {
    let places = places(None);
    let found = attachfs::find(&places, &args.session.session)?;
    if !args.yes {
        confirm(&found.meta.id.to_string())?;
    }
    session::discard(&found, &places).await?;
    if globals.json {
        return Ok(output::print_json(
            &serde_json::json!({ "discarded": found.meta.id }),
        )?);
    }
    Ok(output::print(&format!("discarded  {}\n", found.meta.id))?)
}

/// What is deleted is gone: a person is asked, a script must say so.
#[expect(clippy::print_stderr, reason = "a question to a person")]
fn confirm(id: &str) -> Result<(), Failure> {
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        let advice = "nobody can be asked here; say --yes to delete what was not committed";
        return Err(attachfs::Error::Usage(advice.to_owned()).into());
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
