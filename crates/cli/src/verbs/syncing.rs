//! `sync-output`.

use std::time::{Duration, SystemTime};

use attachfs::causes::StoppedSync;
use attachfs::{
    Beginning, ClientCheckpoint, Conflict, Permissions, SyncReport, SyncRequest, SyncedJob,
    read_jobs, sync_outputs,
};

use super::manifest::hashing;
use super::naming::{document, named};
use super::placing::placing;
use super::stores::open_store;
use crate::args::Globals;
use crate::args::download::OnConflict;
use crate::args::sync_output::SyncOutput;
use crate::exit::{self, Failure};
use crate::output;
use crate::places::places_with;
use crate::progress::Shown;

pub(super) async fn sync_output(globals: &Globals, args: SyncOutput) -> Result<(), Failure> {
    let places = places_with(args.hashing.remembering.cache_dir.clone())?;
    let named = named(args.address.as_deref(), &args.which, args.store.as_deref())?;
    let mut jobs = Vec::new();
    for path in &args.jobs_json {
        jobs.extend(document(Some(path), read_jobs)?.unwrap_or_default());
    }
    let import = args.import_checkpoint.as_deref();
    let store = open_store(globals, &named.store).await?;
    let request = SyncRequest {
        placing: placing(&args.placing)?,
        jobs,
        conflict: match args.conflict_resolution {
            OnConflict::CreateCopy => Conflict::CreateCopy,
            OnConflict::Skip => Conflict::Skip,
            OnConflict::Overwrite => Conflict::Overwrite,
        },
        permissions: Permissions::default(),
        hashing: hashing(&args.hashing)?,
        checkpoint_dir: args.checkpoint_dir.clone(),
        beginning: Beginning {
            anew: args.force_bootstrap,
            since: args.since.or_else(|| lookback(&args)),
            import: document(import, ClientCheckpoint::from_json)?,
        },
        retry_failed: args.retry_failed,
        dry_run: args.dry_run,
        named,
    };
    let shown = Shown::cancellable(globals.json);
    let synced = sync_outputs(&request, &store, &places, &shown, shown.cancel()).await;
    shown.clear();
    match synced {
        Ok(report) => {
            print(globals, &report)?;
            if report.has_failed() {
                Err(Failure::Code(exit::INCOMPLETE))
            } else if report.has_unmapped() {
                Err(Failure::Code(exit::UNMAPPED))
            } else {
                Ok(())
            }
        }
        Err(error) => {
            if let Some(stopped) = error.cause::<StoppedSync>() {
                print(globals, &stopped.report)?;
            }
            Err(error.into())
        }
    }
}

fn lookback(args: &SyncOutput) -> Option<SystemTime> {
    let minutes = args.bootstrap_lookback_minutes?;
    SystemTime::now().checked_sub(Duration::from_mins(minutes.into()))
}

fn print(globals: &Globals, report: &SyncReport) -> anyhow::Result<()> {
    for (job, of) in report.jobs.iter().filter(|(_, of)| of.given_up) {
        output::remark(&format!(
            "{} failed {} times and is not tried again: --retry-failed does",
            named_job(&job.to_string(), of),
            of.tries
        ));
    }
    if !report.given_up.is_empty() {
        output::remark(&format!(
            "{} that failed five times passed over, so files are missing: --retry-failed tries again",
            output::count(report.given_up_manifests, "manifest")
        ));
    }
    if report.foreign_keys > 0 {
        output::remark(&format!(
            "{} among the outputs that are no keys of outputs are passed over",
            output::count(report.foreign_keys, "key")
        ));
    }
    if globals.json {
        output::print_json(report)
    } else {
        output::print(&text(report))
    }
}

fn named_job(id: &str, of: &SyncedJob) -> String {
    match &of.name {
        Some(name) => format!("{} ({id})", output::line_of(name)),
        None => id.to_owned(),
    }
}

fn tally(files: u64, bytes: u64) -> String {
    format!("{}, {}", output::count(files, "file"), output::bytes(bytes))
}

fn text(report: &SyncReport) -> String {
    let mut text = String::new();
    for (id, of) in &report.jobs {
        text += &format!("job        {}\n", named_job(&id.to_string(), of));
        for root in &of.roots {
            text += &format!(
                "  {} from {} to {}\n",
                tally(root.files, root.bytes),
                output::line_of(&root.root),
                output::shown(&root.folder)
            );
        }
        for root in &of.unmapped {
            text += &format!(
                "  unmapped {} from {}\n",
                tally(root.files, root.bytes),
                output::line_of(&root.root)
            );
        }
        text += &output::listed(&of.errors, |failed| {
            format!("  failed   {}: {}\n", failed.path, failed.error)
        });
    }
    text += &output::listed(&report.copied, |copied| {
        format!("copied     {}: {}\n", copied.path, copied.name)
    });
    text += &output::listed(&report.left, |remark| {
        format!("left       {}: {}\n", remark.path, remark.why)
    });
    text + &summary(report)
}

fn summary(report: &SyncReport) -> String {
    let done = if report.dry_run {
        "would fetch"
    } else {
        "fetched"
    };
    let mut text = format!(
        "{done:<10} {} of {}\n",
        tally(report.downloaded_files, report.downloaded_bytes),
        output::count(report.read_manifests, "new manifest")
    );
    if report.skipped_files > 0 {
        text += &format!(
            "in place   {}\n",
            tally(report.skipped_files, report.skipped_bytes)
        );
    }
    let without = &report.jobs_without_downloads;
    let with = &report.jobs_with_downloads;
    text += &format!(
        "jobs       {} new, {} updated, {} unchanged\n",
        with.added, with.updated, without.unchanged
    );
    for (number, what) in [
        (
            without.missing_storage_profile,
            "without a storage profile, so nothing says where their files go",
        ),
        (report.unmapped_paths, "with files that have no place here"),
    ] {
        if number > 0 {
            text += &format!("           {} {what}\n", output::count(number, "job"));
        }
    }
    text += &output::listed(&report.given_up, |of| {
        let job = of.job.to_string();
        let name = of.name.as_deref().map(output::line_of);
        let job = name.map_or_else(|| job.clone(), |name| format!("{name} ({job})"));
        let (key, error) = (output::line_of(&of.key), output::line_of(&of.error));
        format!("given up   {key} of {job}: {error}\n")
    });
    if report.given_up_manifests > 0 {
        text += &format!(
            "given up   {}: --retry-failed tries again\n",
            output::count(report.given_up_manifests, "manifest")
        );
    }
    text
}
