//! The verbs, one family a file.

mod browsing;
mod cache;
mod client;
mod committing;
mod downloading;
mod fetching;
mod fsck;
mod job_files;
mod job_manifests;
mod jobs_diff;
mod layering;
mod listing_jobs;
mod looking;
mod manifest;
mod mounting;
mod naming;
mod placing;
mod publishing;
mod reading;
mod report;
mod running;
mod serving;
mod sessions;
mod snapshotting;
mod stats;
mod store;
mod stores;
mod submitting;
mod syncing;
mod unmounting;
mod uploading;
mod why;

use std::time::Duration;

use crate::args::{Args, Verb};
use crate::exit::Failure;

/// How long the program stays to give up uploads that were broken off.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Runs the verb that was typed.
pub(crate) fn dispatch(args: Args) -> Result<(), Failure> {
    let Args { globals, verb } = args;
    let open_files = attachfs::raise_open_files();
    let is_to_be_started = match &verb {
        Verb::Mount(mount) => !mount.foreground && !mount.daemon,
        Verb::Browse(browse) => !browse.foreground && !browse.daemon,
        _ => false,
    };
    if is_to_be_started {
        attachfs::Mount::supported()?;
        return serving::in_background(&globals);
    }
    if matches!(verb, Verb::Mount(_) | Verb::Browse(_) | Verb::Run(_)) {
        attachfs::keep_little_freed_memory();
    }
    let runtime = attachfs::Runtime::new()?;
    let result = runtime.wait(async {
        match verb {
            Verb::Run(run) => Box::pin(running::run(&globals, run, open_files)).await,
            Verb::Snapshot(snapshot) => snapshotting::snapshot(&globals, snapshot).await,
            Verb::Upload(upload) => uploading::upload(&globals, upload).await,
            Verb::Mount(mount) => Box::pin(mounting::mount(&globals, mount)).await,
            Verb::Browse(browse) => Box::pin(browsing::browse(&globals, browse)).await,
            Verb::Umount(umount) => Box::pin(unmounting::umount(&globals, umount)).await,
            Verb::Add(add) => layering::add(&globals, add).await,
            Verb::Layers(session) => layering::layers(&globals, session).await,
            Verb::Why(args) => why::why(&globals, args).await,
            Verb::List(list) => sessions::list(&globals, &list).await,
            Verb::Status(session) => sessions::status(&globals, session).await,
            Verb::Report(args) => report::report(&globals, args).await,
            Verb::Stats(args) => stats::stats(&globals, args).await,
            Verb::Diff(diff) => committing::diff(&globals, diff).await,
            Verb::Commit(commit) => committing::commit(&globals, commit).await,
            Verb::Fsck(fsck) => fsck::fsck(&globals, &fsck),
            Verb::Discard(discard) => sessions::discard(&globals, discard).await,
            Verb::Download(of) if fetching::is_of_job(&of) => {
                Box::pin(fetching::fetch(&globals, of)).await
            }
            Verb::Download(download) => downloading::download(&globals, download).await,
            Verb::Submit(args) => Box::pin(submitting::submit(&globals, *args)).await,
            Verb::Check(args) => Box::pin(submitting::check(&globals, *args)).await,
            Verb::SyncOutput(sync) => syncing::sync_output(&globals, sync).await,
            Verb::Ls(ls) => looking::ls(&globals, ls).await,
            Verb::Cat(cat) => looking::cat(&globals, cat).await,
            Verb::Inspect(inspect) => looking::inspect(&globals, inspect).await,
            Verb::Jobs(jobs) => listing_jobs::jobs(&globals, jobs).await,
            Verb::Manifest(args) => manifest::manifest(&globals, args.verb).await,
            Verb::Store(args) => store::store(&globals, args.verb).await,
            Verb::Cache(args) => cache::cache(&globals, args.verb).await,
        }
    });
    // Parts of an upload that was broken off cost money until they are given up.
    let given_up = runtime.wait_for_uploads(GIVE_UP);
    result?;
    Ok(given_up?)
}
