//! `jobs`.

use attachfs::{CancellationToken, JobsListing, JobsRequest, ListedJobs, PassedKey, StoredOutputs};
use serde_json::json;

use super::jobs_diff::jobs_diff;
use super::looking::time;
use super::naming::named;
use super::stores::open_store;
use crate::args::Globals;
use crate::args::listing_jobs::{Jobs, JobsVerb};
use crate::exit::Failure;
use crate::output::{self, line_of, remark};

pub(super) async fn jobs(globals: &Globals, args: Jobs) -> Result<(), Failure> {
    let is_for_listing = args.is_for_listing();
    if let Some(JobsVerb::Diff(diff)) = args.verb {
        if is_for_listing {
            let sentence = "what stands before `diff` is for the listing of `attachfs jobs`";
            let advice = "options of `attachfs jobs diff` come behind it";
            return Err(attachfs::Error::usage(sentence).advise(advice).into());
        }
        return jobs_diff(globals, diff).await;
    }
    let meant = named(args.address.as_deref(), &args.which, args.store.as_deref())?;
    let store = open_store(globals, &meant.store).await?;
    let request = JobsRequest {
        address: meant.address,
        action: args.which.session_action,
        since: args.since,
        after: args.after,
        limit: args.limit,
        long: args.long,
    };
    let address = request.address.to_string();
    let mut many = 0_u64;
    let mut failed = None;
    let show = |entry: ListedJobs| {
        many += 1;
        let text = if globals.json {
            let before = if many == 1 { "" } else { "," };
            serde_json::to_string(&entry).map(|entry| format!("{before}{entry}"))
        } else {
            let with_steps = address == address_of(&entry);
            Ok(line(&entry, with_steps))
        };
        let shown = text
            .map_err(Into::into)
            .and_then(|text| output::print(&text));
        shown.map_err(|error| {
            failed = Some(error);
            attachfs::Error::new(attachfs::FailureClass::Other, "the listing cannot be shown")
        })
    };
    if globals.json {
        let (store, address) = (json!(meant.store), json!(address));
        output::print(&format!(
            "{{\"store\":{store},\"address\":{address},\"entries\":["
        ))?;
    }
    let never = CancellationToken::new();
    let listed = attachfs::list_jobs(&store, &request, show, &never).await;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let listed = listed?;
    if globals.json {
        let rest = serde_json::to_string(&listed)?;
        // The document goes on with the fields of this one.
        output::print(&format!("],{}\n", rest.trim_start_matches('{')))?;
    } else if many == 0 {
        remark(&nothing(&request, &meant.store));
    }
    tell(&listed);
    Ok(())
}

fn address_of(entry: &ListedJobs) -> &str {
    match entry {
        ListedJobs::Inputs(inputs) => &inputs.address,
        ListedJobs::Job(job) => &job.address,
        ListedJobs::Run(run) => &run.address,
    }
}

/// That there is nothing, and what there is nothing of.
fn nothing(request: &JobsRequest, store: &str) -> String {
    let of = match (&request.action, request.address) {
        (Some(action), _) => format!("outputs of {action}"),
        (None, attachfs::JobsAddress::All) => "manifests of jobs".to_owned(),
        (None, address) => format!("manifests of {address}"),
    };
    let since = request.since.map_or_else(String::new, |since| {
        let since = jiff::Timestamp::try_from(since);
        since.map_or_else(|_| String::new(), |since| format!(" since {since:.0}"))
    });
    let behind = request
        .after
        .map_or_else(String::new, |after| format!(" behind {after}"));
    format!("there are no {of}{since}{behind} in the store {store}")
}

/// What is to be known beside the entries.
fn tell(listed: &JobsListing) {
    let named = |what: &str, many: u64, keys: &[PassedKey]| {
        if many == 0 {
            return;
        }
        remark(&format!("{} {what}", output::count(many, "key")));
        for PassedKey { key, reason } in keys {
            remark(&format!("           {key}: {reason}"));
        }
        if let Some(more @ 1..) = many.checked_sub(keys.len() as u64) {
            remark(&format!("           and {more} more"));
        }
    };
    named(
        "passed over: not those of a job's manifests",
        listed.foreign,
        &listed.first_foreign,
    );
    named(
        "not counted: the manifests cannot be used",
        listed.unread,
        &listed.first_unread,
    );
    if let Some(next) = &listed.next {
        remark(&format!("there is more: go on with --after {next}"));
    }
}

/// `address  time  what there is`.
fn line(entry: &ListedJobs, with_steps: bool) -> String {
    match entry {
        ListedJobs::Inputs(inputs) => {
            let when = inputs.last_written.map(time).unwrap_or_default();
            let manifests = output::count(inputs.manifests, "manifest");
            format!("{}  {when:20}  submitted: {manifests}\n", inputs.address)
        }
        ListedJobs::Job(job) => {
            let steps = output::count(job.steps.len() as u64, "step");
            let mut text = one(&job.address, &format!("{steps}, "), &job.outputs);
            if with_steps {
                for step in &job.steps {
                    text += &one(&step.address, "", &step.outputs);
                }
            }
            text
        }
        ListedJobs::Run(run) => {
            let when = run.outputs.last_began.map(time).unwrap_or_default();
            format!(
                "{}  {when:20}  {}, {}{}\n",
                run.address,
                line_of(&run.session_action),
                output::count(run.outputs.manifests, "manifest"),
                files(&run.outputs)
            )
        }
    }
}

fn one(address: &str, steps: &str, outputs: &StoredOutputs) -> String {
    let when = outputs.last_written.or(outputs.last_began);
    let tasks = match outputs.tasks {
        0 => String::new(),
        tasks => format!("{}, ", output::count(tasks, "task")),
    };
    format!(
        "{address}  {:20}  {steps}{tasks}{}, {}{}\n",
        when.map(time).unwrap_or_default(),
        output::count(outputs.runs, "run"),
        output::count(outputs.manifests, "manifest"),
        files(outputs)
    )
}

fn files(outputs: &StoredOutputs) -> String {
    match (outputs.files, outputs.bytes) {
        (Some(files), Some(bytes)) => {
            format!(
                "; {}, {}",
                output::count(files, "file"),
                output::bytes(bytes)
            )
        }
        _ => String::new(),
    }
}
