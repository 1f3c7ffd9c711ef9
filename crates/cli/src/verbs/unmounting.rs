//! `umount`.

use std::path::{Path, PathBuf};
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
mod telling;

pub(super) use self::again::commit_again;
use self::again::{Again, shell_word};
pub(super) use self::telling::unmounted;
use super::committing::{is_piped, print_bytes, reserve};
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
    /// No session, or not one alone, or one that cannot be reached.
    Unknown(attachfs::Error),
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
    let files_only = args.manifest_to.files_only();
    let ManifestTo {
        output, publish, ..
    } = args.manifest_to;
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
            files_only,
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
                let state = outcome.state().name();
                let name = output::shown(&outcome.name);
                output::print(&format!("{state:<10} {name}\n"))?;
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
                (Some(_), true) if has_files(name) => {
                    let text = format!(
                        "nothing is mounted at {}, and there are files in it that no session has: the one that was mounted there has ended",
                        name.display()
                    );
                    let error = attachfs::Error::usage(text).because(error);
                    if names.len() == 1 {
                        return Err(error);
                    }
                    Named::Unknown(error)
                }
                (Some(ended), true) => Named::Ended(ended),
                // The others are ended all the same.
                _ if names.len() > 1 => Named::Unknown(error),
                _ => return Err(error),
            },
        };
        found.push((name.clone(), named));
    }
    Ok(found)
}

/// Whether it is a directory with something in it: a job may have written there when its mount had failed.
fn has_files(name: &Path) -> bool {
    std::fs::read_dir(name).is_ok_and(|mut entries| entries.next().is_some())
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
            Named::Unknown(error) => {
                return Outcome {
                    name,
                    result: Err(error),
                    nothing_left: false,
                };
            }
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

/// How the end of one of several is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    /// The same command goes on with it.
    Pending,
    /// The same command fails again: the name means nothing, or what was asked for cannot be.
    Failed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}

/// The end of several: what is done, what is pending, what failed, and how to go on.
fn of_several(
    globals: &Globals,
    again: &Again,
    order: &[PathBuf],
    mut done: Vec<Outcome>,
) -> Result<(), Failure> {
    let place = |outcome: &Outcome| order.iter().position(|name| *name == outcome.name);
    done.sort_by_key(place);
    let of = |state| done.iter().filter(move |outcome| outcome.state() == state);
    let names: Vec<String> = of(State::Pending).map(Outcome::named_again).collect();
    let (ended, pending, failed) = (
        of(State::Done).count(),
        names.len(),
        of(State::Failed).count(),
    );
    let resume = (pending > 0).then(|| {
        format!(
            "attachfs umount{}{} {}",
            again.umount,
            again.commit,
            names.join(" ")
        )
    });
    if globals.json {
        let mounts: Vec<Value> = done.iter().map(Outcome::as_json).collect();
        output::print_json(&json!({
            "mounts": mounts,
            "done": ended,
            "pending": pending,
            "failed": failed,
            "resume": resume,
        }))?;
    }
    for outcome in &done {
        if let Some(error) = outcome.error() {
            let name = output::shown(&outcome.name);
            report_error(&anyhow::anyhow!("{name}: {error}"));
        }
    }
    let failures = match failed {
        0 => String::new(),
        _ => format!(", {failed} failed"),
    };
    let Some(resume) = resume else {
        let Some(first) = of(State::Failed).next() else {
            return Ok(());
        };
        remark(&format!("nothing is lost: {ended} done{failures}"));
        return Err(Failure::Code(first.exit_code()));
    };
    let pending = output::count(pending as u64, "mount");
    let sentence = format!(
        "nothing is lost: {ended} done, {pending} pending{failures}; go on with `{resume}`"
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
    fn state(&self) -> State {
        match &self.result {
            Ok(report) if report.commit_failure.is_some() || report.commit_to_come => {
                State::Pending
            }
            Ok(_) => State::Done,
            Err(error) => match (error.class(), error.cause::<SessionListError>()) {
                (FailureClass::Usage, _) | (_, Some(_)) => State::Failed,
                _ => State::Pending,
            },
        }
    }

    /// The exit code of an error.
    fn exit_code(&self) -> u8 {
        let class = self.result.as_ref().err().map(attachfs::Error::class);
        class.map_or(INCOMPLETE, crate::exit::code_of_class)
    }

    /// Why it is pending, or failed.
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
        json!({
            "name": self.name.to_string_lossy(),
            "state": self.state().name(),
            "error": self.error(),
            "report": self.result.as_ref().ok(),
        })
    }
}
