//! `umount`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use attachfs::causes::SessionListError;
use attachfs::{
    CancellationToken, ChosenPaths, CommitArguments, Deliver, EndedSession, FailureClass, Places,
    S3Access, SessionEntry, UnmountReport, UnmountRequest, session,
};
use futures::StreamExt as _;
use serde_json::{Value, json};

mod again;

use self::again::{Again, shell_word};
use super::report::written;
use super::sessions::{is_piped, print_bytes, reserve};
use super::stores::require_used;
use crate::args::unmounting::Umount;
use crate::args::{Globals, ManifestTo};
use crate::exit::{Failure, INCOMPLETE, chain, report as report_error};
use crate::output::{self, remark};
use crate::places::places;
use crate::progress::Shown;

/// How many mounts are ended at the same time. Each is work of its own process.
const AT_ONCE: usize = 16;

/// What was named.
enum Named {
    Session(Box<SessionEntry>),
    /// Nothing of it is left to be done.
    Ended(EndedSession),
}

/// A mount, and what came of its end.
struct Outcome {
    /// How it was named.
    name: PathBuf,
    result: Result<UnmountReport, attachfs::Error>,
    /// Whether the session of a process that died has nothing to commit.
    nothing_left: bool,
}

pub(super) async fn umount(globals: &Globals, args: Umount) -> Result<(), Failure> {
    let places = places();
    let again = Again::of(&args);
    let ManifestTo { output, publish } = args.manifest_to;
    let is_one = args.session.len() == 1;
    if !is_one && (output.is_some() || publish.is_some()) {
        let sentence =
            "--output and --publish are for one mount: each manifest needs a place of its own";
        return Err(attachfs::Error::usage(sentence).into());
    }
    let chosen = ChosenPaths::from(args.chosen);
    let is_chosen = chosen != ChosenPaths::default();
    let wants_commit = args.commit || is_chosen || output.is_some() || publish.is_some();
    // With --output or --publish a mount point does not stand for a session that has ended: another session may have been mounted there
    // since.
    let takes_ended = !is_one || wants_commit && output.is_none() && publish.is_none();
    let named = find_all(&places, &args.session, takes_ended)?;
    let reserved = reserve(output.as_deref())?;
    let request = UnmountRequest {
        force: args.force,
        lazy: args.lazy,
        timeout: Duration::from_secs(args.timeout),
        commit: wants_commit.then(|| CommitArguments {
            chosen,
            links: args.links.symlinks.into(),
            publish,
            ..CommitArguments::default()
        }),
    };
    for (_, named) in &named {
        if let Named::Session(found) = named {
            require_used(globals, found).await?;
            request.check(found)?;
        }
    }
    let reserved = Mutex::new(reserved);
    let deliver = |bytes: &[u8]| {
        let file = reserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match file {
            Some(file) => file.write(bytes),
            None => print_bytes(bytes),
        }
    };
    let shown = Shown::cancellable(globals.json);
    let batch = Batch {
        places: &places,
        access: &globals.s3.access()?,
        request: &request,
        deliver: output.as_ref().map(|_| &deliver as Deliver<'_>),
        shown: &shown,
    };
    let piped = is_piped(output.as_deref());
    let mut done: Vec<Outcome> = Vec::new();
    let mut ending = futures::stream::iter(named)
        .map(|(name, named)| batch.end(name, named))
        .buffer_unordered(AT_ONCE);
    while let Some(outcome) = ending.next().await {
        if !globals.json && !piped {
            shown.clear();
            if let Ok(report) = &outcome.result {
                output::print(&unmounted(report, outcome.nothing_left, &again.commit))?;
            } else if !is_one {
                output::print(&format!("pending    {}\n", output::shown(&outcome.name)))?;
            }
        }
        done.push(outcome);
    }
    drop(ending);
    shown.clear();
    if is_one {
        return of_one(globals, piped, done);
    }
    of_several(globals, &again, &args.session, done)
}

/// Looks for all of them before anything is done. A session that is named twice is ended once.
fn find_all(
    places: &Places,
    names: &[PathBuf],
    takes_ended: bool,
) -> Result<Vec<(PathBuf, Named)>, attachfs::Error> {
    let mut found: Vec<(PathBuf, Named)> = Vec::new();
    for name in names {
        let named = match attachfs::find(places, name) {
            Ok(entry) => {
                let is_it = |(_, other): &(PathBuf, Named)| matches!(other, Named::Session(other) if other.meta.id == entry.meta.id);
                if found.iter().any(is_it) {
                    continue;
                }
                Named::Session(Box::new(entry))
            }
            Err(error) => match (ended(places, &error)?, takes_ended) {
                (Some(ended), true) => Named::Ended(ended),
                _ => return Err(error),
            },
        };
        found.push((name.clone(), named));
    }
    Ok(found)
}

/// The session that has ended, if the error says so.
fn ended(
    places: &Places,
    error: &attachfs::Error,
) -> Result<Option<EndedSession>, attachfs::Error> {
    match error.cause() {
        Some(SessionListError::Ended { id }) => attachfs::find_ended(places, id.as_str()),
        _ => Ok(None),
    }
}

/// What all mounts of a command have in common.
struct Batch<'a> {
    places: &'a Places,
    access: &'a S3Access,
    request: &'a UnmountRequest,
    deliver: Option<Deliver<'a>>,
    shown: &'a Shown,
}

impl Batch<'_> {
    async fn end(&self, name: PathBuf, named: Named) -> Outcome {
        let found = match named {
            Named::Session(found) => found,
            Named::Ended(ended) => {
                return Outcome {
                    name,
                    result: Ok(attachfs::report_of_ended(&ended)),
                    nothing_left: false,
                };
            }
        };
        let ending = attachfs::unmount(
            &found,
            self.places,
            self.access,
            self.request,
            self.deliver,
            self.shown,
            self.shown.cancel(),
        );
        let mut result = Box::pin(ending).await;
        let nothing_left = match &mut result {
            Ok(report)
                if report.was_dead
                    && report.kept
                    && report.commit.is_none()
                    && report.commit_failure.is_none() =>
            {
                self.nothing_left(&found, report).await
            }
            _ => false,
        };
        Outcome {
            name,
            result,
            nothing_left,
        }
    }

    /// Whether the session of a process that died has nothing to commit, which only its journal says now. Where that cannot be told there
    /// may be something.
    async fn nothing_left(&self, found: &SessionEntry, report: &mut UnmountReport) -> bool {
        let never = CancellationToken::new();
        match session::status(found, self.places, self.access, &never).await {
            Ok(status) => {
                report.uncommitted = status.uncommitted;
                status.uncommitted == 0
                    && status.unknown == 0
                    && status.set_aside == 0
                    && status.left_open.is_empty()
                    && !status.commit_unfinished
            }
            Err(error) => {
                let why = chain(&error.into());
                remark(&format!("what is in the session cannot be told: {why}"));
                false
            }
        }
    }
}

/// The end of one: its own exit code.
fn of_one(globals: &Globals, piped: bool, done: Vec<Outcome>) -> Result<(), Failure> {
    let Some(outcome) = done.into_iter().next() else {
        return Ok(());
    };
    let report = outcome.result?;
    if globals.json && !piped {
        output::print_json(&report)?;
    }
    if report.commit_to_come {
        return Err(Failure::Code(INCOMPLETE));
    }
    match report.commit_failure.or(report.output_failure) {
        None => Ok(()),
        Some(failure) => Err(attachfs::Error::from(failure).into()),
    }
}

/// The end of several: what is done, what is pending, and how to go on.
fn of_several(
    globals: &Globals,
    again: &Again,
    order: &[PathBuf],
    mut done: Vec<Outcome>,
) -> Result<(), Failure> {
    let place = |outcome: &Outcome| order.iter().position(|name| *name == outcome.name);
    done.sort_by_key(place);
    let pending: Vec<&Outcome> = done.iter().filter(|outcome| outcome.is_pending()).collect();
    let resume = (!pending.is_empty()).then(|| {
        let names = pending.iter().map(|outcome| outcome.named_again());
        let names: Vec<String> = names.collect();
        format!(
            "attachfs umount{}{} {}",
            again.umount,
            again.commit,
            names.join(" ")
        )
    });
    let (all, left) = (done.len(), pending.len());
    if globals.json {
        let mounts: Vec<Value> = done.iter().map(Outcome::as_json).collect();
        output::print_json(&json!({
            "mounts": mounts,
            "done": all - left,
            "pending": left,
            "resume": resume,
        }))?;
    }
    for outcome in &done {
        if let Some(error) = outcome.error() {
            let name = output::shown(&outcome.name);
            report_error(&anyhow::anyhow!("{name}: {error}"));
        }
    }
    let Some(resume) = resume else {
        return Ok(());
    };
    let pending = output::count(left as u64, "mount");
    let sentence = format!(
        "nothing is lost: {} done, {pending} pending; go on with `{resume}`",
        all - left
    );
    remark(&sentence);
    // Who interrupts it, knows that.
    let is_cancelled = |outcome: &Outcome| matches!(&outcome.result, Err(error) if error.class() == FailureClass::Cancelled);
    if done.iter().any(is_cancelled) {
        return Err(Failure::Code(crate::exit::CANCELLED));
    }
    Err(Failure::Code(INCOMPLETE))
}

impl Outcome {
    fn is_pending(&self) -> bool {
        match &self.result {
            Ok(report) => report.commit_failure.is_some() || report.commit_to_come,
            Err(_) => true,
        }
    }

    /// Why it is pending.
    fn error(&self) -> Option<String> {
        match &self.result {
            Ok(report) => {
                let failure = report.commit_failure.clone()?;
                Some(chain(&attachfs::Error::from(failure).into()))
            }
            Err(error) => Some(match error.advice() {
                Some(advice) => format!("{}; {advice}", attachfs::error_chain(error)),
                None => attachfs::error_chain(error),
            }),
        }
    }

    /// How it is named to go on with it: by the session if it is not mounted any more.
    fn named_again(&self) -> String {
        match &self.result {
            Ok(report) => report
                .session
                .get(..8)
                .unwrap_or(&report.session)
                .to_owned(),
            Err(_) => shell_word(&self.name),
        }
    }

    fn as_json(&self) -> Value {
        let state = if self.is_pending() { "pending" } else { "done" };
        json!({
            "name": self.name.to_string_lossy(),
            "state": state,
            "error": self.error(),
            "report": self.result.as_ref().ok(),
        })
    }
}

/// What came of an unmount. `chosen`: the options that say what is committed.
pub(super) fn unmounted(report: &UnmountReport, nothing_left: bool, chosen: &str) -> String {
    let at = output::shown(&report.mount_point);
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
    } else if report.detached {
        text += &format!("detached   {at}; it ends when nobody uses it any more\n");
        for user in &report.users {
            text += &format!("           used by {}\n", output::line_of(user));
        }
        let id = report.session.get(..8).unwrap_or(&report.session);
        text += &format!("           attachfs status {id}\n");
        return text;
    } else if report.ended {
        text += &format!("ended      {at}: session {} has ended\n", report.session);
    } else if report.was_dead {
        text += "detached   a mount whose process had died; nothing that had returned success is lost\n";
    } else if report.was_left {
        text += &format!("left       {at}: it was not mounted any more\n");
    } else {
        text += &format!("unmounted  {at}\n");
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
    if !report.kept && !report.still_deleting && !report.ended {
        text += "session    ended: nothing in it is needed any more\n";
    }
    if report.still_deleting && !report.kept {
        text += &format!(
            "session    {} is still being deleted by its process\n",
            report.session
        );
    }
    if report.kept {
        text += &kept(report, nothing_left, chosen);
    }
    text
}

/// What to do with a session that is kept.
fn kept(report: &UnmountReport, nothing_left: bool, chosen: &str) -> String {
    let id = &report.session;
    let mut text = format!("session    {id} is kept");
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
    let account = report.commit.as_ref().map(|commit| &commit.account);
    text += &format!(
        "\n           attachfs {1}{chosen} {0}\n           attachfs discard {0}\n",
        &id[..8],
        if report.all_outside {
            "commit --everything"
        } else {
            output::how_to_commit(account)
        }
    );
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
        let text = unmounted(&report(false), false, "");
        assert_eq!(text, format!("unmounted  /m\n{deleting}"));
        let text = unmounted(&report(true), false, "");
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
        let text = unmounted(&report, true, "");
        assert!(text.contains("nothing in it is uncommitted"), "{text}");
        assert!(!text.contains("attachfs commit"), "{text}");
        assert!(text.contains("attachfs discard 01234567"), "{text}");
    }
}
