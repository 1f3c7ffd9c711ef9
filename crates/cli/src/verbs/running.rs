//! `run`.

use anyhow::Context as _;
use attachfs::causes::CommandError;
use attachfs::{
    CancellationToken, FailureClass, GivenManifest, ManifestBytes, OpenFiles, OpenStore, Places,
    RunReport, RunRequest, SnapshotOptions, SnapshotReport, Stop, StopSignal,
};

use super::committing::{check_place, is_piped};
use super::mounting::usual_owner;
use super::reading::source;
use super::report::written;
use super::serving::remark_without_store;
use super::snapshotting::Aloud;
use super::stores::{open_store, store_of};
use super::unmounting::commit_again;
use crate::args::{Globals, Run};
use crate::exit::{self, Failure};
use crate::output::{self, remark, remark_lines};
use crate::places::places;
use crate::progress::Shown;

pub(super) async fn run(
    globals: &Globals,
    args: Run,
    open_files: OpenFiles,
) -> Result<(), Failure> {
    match Box::pin(run_it(globals, args, open_files)).await {
        Err(Failure::Error(error)) => Err(run_failed(&error)),
        result => result,
    }
}

async fn run_it(globals: &Globals, args: Run, open_files: OpenFiles) -> Result<(), Failure> {
    attachfs::Mount::supported()?;
    let mut places = places();
    places.cache = places.cache.with_limits(args.cache_bounds.limits());
    // The command shares the terminal and gets Ctrl-C and Ctrl-\ itself: here they only must not end this
    // program before the command.
    let mut interrupt = StopSignal::listen(Stop::Interrupt)?;
    let mut quit = StopSignal::listen(Stop::Quit)?;
    let mut terminate = StopSignal::listen(Stop::Terminate)?;
    let mut hang_up = StopSignal::listen(Stop::HangUp)?;
    attachfs::check_output_dirs(&args.output_dir)?;
    args.early_upload.check(!args.output_dir.is_empty())?;
    if is_piped(args.manifest_to.output.as_deref()) {
        let reason = "standard output is the command's: name a file for the manifest";
        return Err(attachfs::Error::usage(reason).into());
    }
    check_place(args.manifest_to.output.as_deref())?;
    let traces = args.traces.clone().options();
    let traces = traces.context("cannot find the working directory")?;
    let shown = Shown::new(globals.json);
    let (manifests, store, snapshot) = tokio::select! {
        prepared = prepare(globals, &args, &places, &shown) => prepared?,
        () = interrupt.recv() => return Err(Failure::Code(130)),
        () = quit.recv() => return Err(Failure::Code(131)),
        () = terminate.recv() => return Err(Failure::Code(143)),
        () = hang_up.recv() => return Err(Failure::Code(129)),
    };
    // The command may take hours, and reads the mount that is made for it.
    globals.watch.end();
    shown.clear();
    if let Some(report) = &snapshot
        && !globals.json
    {
        remark_lines(&output::snapshot(report));
        remark(&format!("           {}", manifests[0].name()));
    }
    let names: Vec<String> = manifests.iter().map(GivenManifest::name).collect();
    let commit = commit_again(&args.chosen, args.links, &args.manifest_to);
    let commit = format!("commit{commit}");
    let request = RunRequest {
        manifests,
        layers: args.layering.into(),
        case_insensitive: args.names.case_insensitive,
        protect_inputs: args.names.protect_inputs,
        max_scratch: args.scratch.max_scratch,
        output_dirs: args.output_dir,
        chosen: args.chosen.into(),
        links: args.links.symlinks.into(),
        command: args.command,
        owner: usual_owner(),
        store,
        probe: !args.probing.no_probe,
        reading: args.reading.into(),
        early_uploads: args.early_upload.into(),
        writeback_cache: args.writing.writeback_cache,
        traces,
        places,
        files_only: args.manifest_to.files_only(),
        publish: args.manifest_to.publish,
        output: args.manifest_to.output,
        metrics: args.metrics.metrics_addr,
        reports: args.reports.wanted()?,
        open_files,
    };
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            loop {
                tokio::select! {
                    () = interrupt.recv() => {}
                    () = quit.recv() => {}
                    () = terminate.recv() => break,
                    () = hang_up.recv() => break,
                }
            }
            stop.cancel();
        }
    });
    let running = attachfs::run(request, &shown, &stop, &cancelled_by_signals);
    let ran = match Box::pin(running).await {
        Ok(ran) => ran,
        Err(failed)
            if failed.session.is_none() && failed.source.class() == FailureClass::Cancelled =>
        {
            return Err(Failure::Code(130));
        }
        Err(failed) => {
            let code = code_of(&failed.source);
            exit::report(&failed.source.into());
            if let Some(session) = failed.session {
                remark(&advice(session.as_str(), &commit));
            }
            return Err(Failure::Code(code));
        }
    };
    shown.clear();
    report(globals, snapshot.as_ref(), &names, &ran, &commit)?;
    if ran
        .commit
        .as_ref()
        .is_some_and(|commit| !commit.account.open.is_empty())
    {
        return Err(Failure::Code(exit::RUN_FAILED));
    }
    let code = match (ran.status.code(), attachfs::signal_of(ran.status)) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => i32::from(exit::RUN_FAILED),
    };
    match u8::try_from(code) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Code(code)),
        Err(_) => Err(Failure::Code(exit::RUN_FAILED)),
    }
}

/// As env(1), nice(1) and shells have it.
fn code_of(error: &attachfs::Error) -> u8 {
    match error.cause::<CommandError>() {
        Some(error) if error.source.kind() == std::io::ErrorKind::NotFound => exit::NO_COMMAND,
        Some(_) => exit::NOT_RUNNABLE,
        None => exit::RUN_FAILED,
    }
}

/// A token that the next signal cancels. It is made anew when the command has ended: a signal that the command got is
/// not meant for the commit.
fn cancelled_by_signals() -> CancellationToken {
    let cancel = CancellationToken::new();
    let signals = (
        StopSignal::listen(Stop::Interrupt),
        StopSignal::listen(Stop::Quit),
        StopSignal::listen(Stop::Terminate),
    );
    if let (Ok(mut interrupt), Ok(mut quit), Ok(mut terminate)) = signals {
        let cancel = cancel.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = interrupt.recv() => {}
                () = quit.recv() => {}
                () = terminate.recv() => {}
            }
            cancel.cancel();
        });
    }
    cancel
}

/// An error of `run` itself.
fn run_failed(error: &anyhow::Error) -> Failure {
    exit::report(error);
    Failure::Code(exit::RUN_FAILED)
}

async fn prepare(
    globals: &Globals,
    args: &Run,
    places: &Places,
    shown: &Shown,
) -> Result<(Vec<GivenManifest>, OpenStore, Option<SnapshotReport>), attachfs::Error> {
    let Some(input) = &args.input else {
        if args.extent.is_said() {
            return Err(super::manifest::only_of_a_folder("--input"));
        }
        let sources = args
            .manifest
            .iter()
            .map(|text| source(text))
            .collect::<Result<Vec<_>, _>>()?;
        let store = store_of(globals, args.store.as_deref(), &sources, places).await?;
        let given = sources.into_iter();
        let manifests = given.map(|source| GivenManifest::At { source, at: None });
        return Ok((manifests.collect(), store, None));
    };
    let options = SnapshotOptions {
        selection: attachfs::manifest::Selection {
            hidden: args.extent.hidden(),
            cross_mounts: args.extent.cross_mounts(),
            ..attachfs::manifest::Selection::default()
        },
        ..SnapshotOptions::default()
    };
    let cancel = shown.cancel();
    let address = args.store.as_deref().map(str::parse).transpose()?;
    let (taken, store) = match address {
        Some(address @ attachfs::StoreAddress::S3 { .. }) => {
            let store = open_store(globals, &address.to_string()).await?;
            let taken =
                attachfs::take_snapshot(input, Some(&store), &Aloud, &options, shown, cancel)
                    .await?;
            (taken, store)
        }
        directory => {
            let root = match directory {
                Some(attachfs::StoreAddress::Directory(root)) => root,
                _ => places.embedded_store(),
            };
            let (directory, store) = attachfs::create_directory_store(&root)?;
            let embedded = (&directory, &store);
            let taken =
                attachfs::take_embedded_snapshot(input, embedded, &Aloud, &options, shown, cancel)
                    .await?;
            (taken, store)
        }
    };
    let name = attachfs::publish_snapshot(&taken.bytes, &store, cancel).await?;
    let manifest = ManifestBytes {
        name,
        bytes: taken.bytes,
        at: None,
    };
    Ok((vec![manifest.into()], store, Some(taken.report)))
}

/// What to do with a session that is kept; `commit` is how it is committed.
fn advice(session: &str, commit: &str) -> String {
    let id = session.get(..8).unwrap_or(session);
    format!(
        "what was written is kept: `attachfs diff {id}` shows it, `attachfs {commit} {id}` publishes it, `attachfs discard {id}` deletes it"
    )
}

/// The account; `commit_again` is how to commit what the command left if it failed. It goes to standard error: standard output is the command's.
fn report(
    globals: &Globals,
    snapshot: Option<&SnapshotReport>,
    manifests: &[String],
    ran: &RunReport,
    commit_again: &str,
) -> anyhow::Result<()> {
    if globals.json {
        return output::print_json(&serde_json::json!({
            "session": ran.session,
            "kept": ran.kept,
            "exit_code": ran.status.code(),
            "signal": attachfs::signal_of(ran.status),
            "snapshot": snapshot,
            "manifests": manifests,
            "counters": ran.counters,
            "fetched": ran.fetched,
            "prefetch": ran.prefetch,
            "last_error": ran.last_error,
            "without_store": ran.without_store,
            "commit": ran.commit,
            "held": ran.held,
            "reports": ran.reports,
        }));
    }
    if let Some(why) = &ran.without_store {
        remark_without_store(why);
    }
    remark_lines(&output::read(ran.counters, Some(ran.fetched)));
    remark_lines(&output::prefetched(ran.prefetch));
    remark_lines(&written(&ran.reports));
    remark_lines(&output::failed_reads(
        ran.counters.reads_failed,
        ran.last_error.as_ref(),
    ));
    match &ran.commit {
        Some(commit) => remark_lines(&output::commit(commit)),
        None => remark(&format!("the command failed ({})", ran.status)),
    }
    for held in &ran.held {
        remark(&format!(
            "still used when the command had ended, and cut off: {held}"
        ));
    }
    if ran.kept {
        let commit = match &ran.commit {
            Some(commit) => output::how_to_commit(&commit.account),
            None => commit_again,
        };
        remark(&advice(ran.session.as_str(), commit));
    }
    Ok(())
}
