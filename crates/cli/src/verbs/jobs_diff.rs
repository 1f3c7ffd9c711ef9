//! `jobs diff`.

use attachfs::{
    CancellationToken, FoundFiles, FrameRange, JobAddress, JobDocuments, JobFiles, JobNames,
    JobsAddress, NamedJobs, OpenStore, Queue, RootDiff, SequenceDiff, SequenceFrames, Side,
    compare_jobs, find_job_files,
};

use super::job_files::tell;
use super::naming::document;
use super::stores::open_store;
use crate::args::Globals;
use crate::args::jobs_diff::JobsDiff;
use crate::exit::Failure;
use crate::output::{self, count, line_of};

/// How many lines of a kind are shown without `-v`.
const SHOWN: usize = 20;

pub(super) async fn jobs_diff(globals: &Globals, args: JobsDiff) -> Result<(), Failure> {
    let documents = JobDocuments {
        queue: document(args.queue_json.as_deref(), Queue::from_json)?,
        ..JobDocuments::default()
    };
    let named = |job: JobAddress| JobNames {
        address: Some(JobsAddress::Job(job)),
        store: args.store.clone(),
        documents: documents.clone(),
        ..JobNames::default()
    };
    let (a, b) = (named(args.a).resolve()?, named(args.b).resolve()?);
    let store = open_store(globals, &a.store).await?;
    let files = JobFiles::Outputs(args.latest_by.into());
    let (a, b) = (
        found(&a, &files, &store).await?,
        found(&b, &files, &store).await?,
    );
    let diff = compare_jobs(&a, &b);
    if globals.json {
        return Ok(output::print_json(&diff)?);
    }
    let shown = if globals.verbose > 0 {
        usize::MAX
    } else {
        SHOWN
    };
    let text = diff.roots.iter().map(|root| text(root, shown));
    Ok(output::print(&text.collect::<String>())?)
}

async fn found(
    job: &NamedJobs,
    files: &JobFiles,
    store: &OpenStore,
) -> Result<FoundFiles, attachfs::Error> {
    let found = find_job_files(job, files, store, &CancellationToken::new()).await?;
    tell(&found, files, &job.store);
    Ok(found)
}

/// The account of a root, its files, and its frames.
fn text(root: &RootDiff, shown: usize) -> String {
    let number = |of: &[String]| count(of.len() as u64, "file");
    if root.is_same() {
        let same = count(root.same as u64, "file");
        return format!("{}: {same}, all the same\n", line_of(&root.root));
    }
    let only = match root.side {
        Side::A => " (only in A)",
        Side::B => " (only in B)",
        Side::Both => "",
    };
    let mut text = format!(
        "{}{only}: {} added, {} changed, {} missing; {} the same\n",
        line_of(&root.root),
        number(&root.added),
        root.changed.len(),
        root.missing.len(),
        root.same
    );
    for (mark, paths) in [
        ('+', &root.added),
        ('~', &root.changed),
        ('-', &root.missing),
    ] {
        text += &first(paths, shown, |path| format!("{mark} {path}\n"));
    }
    if !root.sequences.is_empty() {
        let sequences = count(root.sequences.len() as u64, "sequence");
        text += &format!("frames are missing from {sequences}:\n");
    }
    text + &first(&root.sequences, shown, |of| sequence(of, shown))
}

/// A line for each job that lacks frames.
fn sequence(of: &SequenceDiff, shown: usize) -> String {
    let line = |job: &str, frames: &SequenceFrames| {
        if frames.missing.is_empty() {
            return String::new();
        }
        let ranges = frames.missing.iter().take(shown).map(FrameRange::to_string);
        let mut ranges = ranges.collect::<Vec<_>>().join(", ");
        if let Some(more @ 1..) = frames.missing.len().checked_sub(shown) {
            ranges += &format!(" and {} more", count(more as u64, "range"));
        }
        let has = match frames.span {
            None => "has none".to_owned(),
            Some(span) => format!("has {} of {span}", frames.frames),
        };
        format!("{}  {job} {has}, missing: {ranges}\n", of.sequence)
    };
    line("A", &of.a) + &line("B", &of.b)
}

/// The lines of the first, and how many more there are.
fn first<T>(all: &[T], shown: usize, line: impl Fn(&T) -> String) -> String {
    let mut text: String = all.iter().take(shown).map(line).collect();
    if let Some(more @ 1..) = all.len().checked_sub(shown) {
        text += &format!("  and {more} more; -v and --json show them\n");
    }
    text
}
