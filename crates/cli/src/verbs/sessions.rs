//! `list`, `status`, `discard`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attachfs::causes::SessionListError;
use attachfs::session;
use attachfs::{
    CancellationToken, Places, Presence, SessionEntry, SessionId, SessionState, Uncommitted,
};
use serde::Serialize;

use super::stores::require_used;
use crate::args::{Discard, Globals, List, Session};
use crate::exit::Failure;
use crate::output::{self, remark};
use crate::places::places;

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
    /// The jobs whose outputs it shows; `null` if it shows manifests.
    browses: Option<String>,
    /// Paths that changed and are not committed, as `status` counts them; `null` where that is not known.
    uncommitted: Option<u64>,
    /// The lengths together of the files that were written since.
    uncommitted_bytes: Option<u64>,
    /// When it was changed for the last time, in seconds since 1970.
    changed: Option<i64>,
    #[serde(with = "attachfs::path_json")]
    dir: PathBuf,
}

impl ListedSession {
    fn found(found: SessionEntry, presence: Presence, uncommitted: Option<Uncommitted>) -> Self {
        Self {
            session: found.meta.id.to_string(),
            state: match (presence, found.state) {
                (Presence::Mounted, _) if found.meta.browses.is_some() => "browsing",
                (Presence::Mounted, _) => "mounted",
                (Presence::InUse, _) => "in use",
                (Presence::Dead, _) => "dead",
                (Presence::Left, SessionState::Ending) => "ending",
                (Presence::Left, _) => "left",
            },
            mount_point: Some(found.meta.mount_point),
            store: Some(found.meta.store.address),
            created: Some(found.meta.created.seconds),
            read_only: Some(found.meta.read_only),
            browses: found.meta.browses,
            uncommitted: uncommitted.and_then(|left| left.paths),
            uncommitted_bytes: uncommitted.map(|left| left.bytes),
            changed: uncommitted.map(|left| left.changed),
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
            browses: None,
            uncommitted: None,
            uncommitted_bytes: None,
            changed: None,
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
            (Some(at), Some(true)) if self.browses.is_some() => {
                let jobs = self.browses.as_deref().unwrap_or_default();
                format!("{session} {state:8} {} ({jobs})\n", output::shown(at))
            }
            (Some(at), Some(true)) => {
                format!("{session} {state:8} {} (read-only)\n", output::shown(at))
            }
            (Some(at), _) => {
                format!("{session} {state:8} {}{}\n", output::shown(at), self.left())
            }
            (None, _) => format!("{session} {state:8} in {}\n", output::shown(dir)),
        }
    }

    /// What is uncommitted in it, behind its line: how many paths, how much was written, and how long ago the last change was.
    fn left(&self) -> String {
        let (Some(bytes), Some(changed)) = (self.uncommitted_bytes, self.changed) else {
            return String::new();
        };
        let (bytes, ago) = (output::bytes(bytes), output::ago(changed));
        match self.uncommitted {
            Some(0) => format!("  (last change {ago})"),
            Some(paths) => {
                let paths = output::count(paths, "changed path");
                format!("  ({paths} not committed, {bytes} written; last change {ago})")
            }
            None => format!(
                "  (how many changed paths are not committed is not known, {bytes} written; last change {ago})"
            ),
        }
    }
}

pub(super) async fn list(globals: &Globals, args: &List) -> Result<(), Failure> {
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
    let mut uncommitted = attachfs::uncommitted_in(&found, &places).await.into_iter();
    let mut presence = attachfs::presence_of(&found).into_iter();
    for found in sessions {
        match found {
            Ok(found) => {
                let uncommitted = uncommitted.next().flatten();
                let presence = presence.next().unwrap_or(Presence::Left);
                listed.push(ListedSession::found(found, presence, uncommitted));
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
