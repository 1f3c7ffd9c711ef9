//! What `submit` and `check` do before anything is sent, and the sending itself.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attachfs::manifest::Hashing;
use attachfs::{
    AssetRequest, CancellationToken, Error, FarmId, FileSystemKind, GatheredAssets, JobsAddress,
    PathIsRequired, Progress, QueueId, SeenPlaces, StorageProfile, Submission, SubmitOptions,
    SubmitPlace, Uploading, gather_assets,
};
use serde_json::json;

use crate::args::Globals;
use crate::args::jobs::JobOptions;
use crate::args::submit::{Assets, FileSystem, QueueOptions, Submit};
use crate::exit::Failure;
use crate::output::{self, remark, remark_lines};
use crate::places::places_with;
use crate::progress::Shown;
use crate::verbs::manifest::{deadline, hashing};
use crate::verbs::naming::{document, named};
use crate::verbs::snapshotting::Aloud;
use crate::verbs::stores::create_or_open;

/// What the call that is printed names where the document went to standard output.
const SAVED_AS: &str = "attachments.json";

/// What was typed, with the documents that it names. Reading them may wait for a pipe: it is to be done before anything listens for signals,
/// so that one ends the program.
pub(super) struct Typed {
    request: AssetRequest,
    /// `None` for a dry run.
    place: Option<(SubmitPlace, String)>,
}

impl Typed {
    pub(super) fn read(args: &Submit) -> Result<Self, Failure> {
        let request = request(&args.assets, PathIsRequired::No)?;
        let place = if args.dry_run {
            None
        } else {
            Some(place(&args.place, args.snapshot_to.as_deref())?)
        };
        Ok(Self { request, place })
    }
}

/// What is known before anything is sent.
pub(super) struct Prepared {
    pub(super) request: AssetRequest,
    pub(super) assets: GatheredAssets,
    place: SubmitPlace,
    store: String,
    options: SubmitOptions,
}

impl Prepared {
    /// Opens the caches of hashes, when there is something to hash: what is refused leaves none.
    pub(super) fn with_caches(mut self, args: &Submit) -> Result<Self, Failure> {
        self.options.hashing = hashing(&args.hashing)?;
        Ok(self)
    }
}

/// What was sent.
pub(super) struct Sent {
    pub(super) submission: Submission,
    /// The file that has the document.
    pub(super) saved_as: Option<PathBuf>,
    /// The call that makes the job.
    pub(super) call: String,
}

/// Gathers the files and finds out what can be known without a request; nothing after a dry run, which is done then.
pub(super) fn prepare(
    globals: &Globals,
    args: &Submit,
    typed: Typed,
    shown: &Shown,
) -> Result<Option<Prepared>, Failure> {
    let Typed { request, place } = typed;
    if let Some(output) = &args.output {
        attachfs::check_place_of_attachments(output)?;
    }
    let assets = gather(globals, &request, shown)?;
    require_usable(globals, &assets)?;
    let Some((place, store)) = place else {
        dry_run(globals, &assets)?;
        return Ok(None);
    };
    let options = SubmitOptions {
        place,
        file_system: match args.file_system {
            FileSystem::Copied => FileSystemKind::Copied,
            FileSystem::Virtual => FileSystemKind::Virtual,
        },
        hashing: Hashing::default(),
        uploading: uploading(&args.hashing, args.force_s3_check)?,
    };
    Ok(Some(Prepared {
        request,
        assets,
        place,
        store,
        options,
    }))
}

/// Sends everything, and writes the document to its file.
pub(super) async fn send(
    globals: &Globals,
    args: &Submit,
    prepared: &Prepared,
    output: Option<&Path>,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Sent, Error> {
    let Prepared {
        assets,
        place,
        options,
        ..
    } = prepared;
    let (submission, saved_as) = if let Some(directory) = &args.snapshot_to {
        let saved =
            attachfs::save_debug_snapshot(assets, directory, &Aloud, options, progress, cancel);
        let (submission, path) = saved.await?;
        (submission, Some(path))
    } else {
        let store = create_or_open(globals, &prepared.store).await?;
        let sent = attachfs::submit_assets(assets, &store, &Aloud, options, progress, cancel);
        let submission = sent.await?;
        if let (Some(output), Some(text)) = (output, &submission.document) {
            attachfs::write_attachments(output, text)?;
        }
        (submission, output.map(Path::to_owned))
    };
    let named = saved_as.as_deref().unwrap_or(Path::new(SAVED_AS));
    let named = std::path::absolute(named).unwrap_or_else(|_| named.to_owned());
    let profile = prepared.request.profile.as_ref();
    let call = attachfs::create_job_call(assets, place, &named, profile);
    Ok(Sent {
        submission,
        saved_as,
        call,
    })
}

/// What is to be submitted, as typed.
pub(super) fn request(args: &Assets, required: PathIsRequired) -> Result<AssetRequest, Failure> {
    let is_nothing = args.bundle.is_none()
        && args.inputs.is_empty()
        && args.output_dir.is_empty()
        && args.reference.is_empty();
    if is_nothing {
        let advice = "name files, directories or a job bundle";
        return Err(Error::usage("there is nothing to submit")
            .advise(advice)
            .into());
    }
    let profile = document(args.storage_profile_json.as_deref(), |bytes| {
        String::from_utf8_lossy(bytes).parse::<StorageProfile>()
    })?;
    Ok(AssetRequest {
        bundle: args.bundle.clone(),
        parameters: args.parameter.iter().cloned().collect(),
        inputs: args.inputs.clone(),
        references: args.reference.clone(),
        outputs: args.output_dir.clone(),
        required: if args.require_paths_exist {
            PathIsRequired::Yes
        } else {
            required
        },
        known: args.known_asset_path.clone(),
        profile,
        working_dir: std::env::current_dir().context("cannot find the working directory")?,
        home: std::env::home_dir(),
    })
}

/// The queue and its store, as far as they have to be known.
pub(super) fn named_queue(
    options: &QueueOptions,
    store: Option<&str>,
) -> Result<attachfs::NamedJobs, Failure> {
    let jobs = JobOptions {
        farm: options.farm,
        queue: options.queue,
        queue_json: options.queue_json.clone(),
        ..JobOptions::default()
    };
    Ok(named(None, &jobs, options.store.as_deref().or(store))?)
}

/// Whose job it will be, and the address of the store.
pub(super) fn place(
    options: &QueueOptions,
    instead: Option<&Path>,
) -> Result<(SubmitPlace, String), Failure> {
    let instead = instead.map(|path| path.to_string_lossy().into_owned());
    let found = named_queue(options, instead.as_deref())?;
    let (farm, queue): (FarmId, QueueId) = match found.address {
        JobsAddress::Queue(farm, queue) => (farm, queue),
        _ => {
            let error = Error::usage("the queue of the job is not known");
            let advice = "say it with --farm and --queue, or give what `aws deadline get-queue` prints with --queue-json";
            return Err(error.advise(advice).into());
        }
    };
    Ok((SubmitPlace { farm, queue }, found.store))
}

/// Gathers the files, and tells what is left out.
pub(super) fn gather(
    globals: &Globals,
    request: &AssetRequest,
    shown: &Shown,
) -> Result<GatheredAssets, Failure> {
    let gathered = gather_assets(request, shown, shown.cancel());
    shown.clear();
    let assets = gathered?;
    if !globals.json {
        remark_lines(&output::listed(&assets.left_out, |of| {
            format!("{}: {}\n", of.path, of.reason)
        }));
    }
    for path in &assets.ignored_known {
        remark(&format!(
            "the known path {path} names no place: it is not absolute"
        ));
    }
    Ok(assets)
}

/// Lists all that cannot be used, and ends with it.
pub(super) fn require_usable(globals: &Globals, assets: &GatheredAssets) -> Result<(), Failure> {
    let usable = assets.require_usable();
    if usable.is_err() {
        if globals.json {
            output::print_json(&json!({ "faults": assets.faults }))?;
        }
        for fault in &assets.faults {
            remark(&format!("{}: {}", fault.path, fault.reason));
        }
    }
    Ok(usable?)
}

/// Where it is remembered what a store has.
pub(super) fn uploading(
    args: &crate::args::manifest::Hashing,
    force_check: bool,
) -> Result<Uploading, Failure> {
    let seen = SeenPlaces {
        cache: places_with(args.remembering.cache_dir.clone())?.cache,
        deadline: deadline(&args.remembering)?,
    };
    Ok(Uploading {
        seen: Some(seen),
        force_check,
    })
}

pub(super) fn dry_run(globals: &Globals, assets: &GatheredAssets) -> Result<(), Failure> {
    let submission = assets.preview();
    if globals.json {
        let mut value = serde_json::to_value(&submission)?;
        value["dry_run"] = true.into();
        value["unknown"] = unknown(assets).into();
        return Ok(output::print_json(&value)?);
    }
    let mut text = String::new();
    for root in &submission.roots {
        text += &format!(
            "would send {} of {}, {}\n",
            output::count(root.files, "file"),
            output::line_of(&root.root),
            output::bytes(root.bytes),
        );
    }
    let files = submission.roots.iter().map(|root| root.files).sum();
    let bytes = submission.roots.iter().map(|root| root.bytes).sum();
    text += &format!(
        "at most    {}, {}: without what the store has already\n",
        output::count(files, "file"),
        output::bytes(bytes)
    );
    output::print(&text)?;
    for line in unknown(assets) {
        remark(&format!(
            "nobody named {line}: submitting asks about it, or wants --yes"
        ));
    }
    Ok(())
}

/// What nobody named, a line each.
pub(super) fn unknown(assets: &GatheredAssets) -> Vec<String> {
    if assets.unknown.is_empty() {
        return Vec::new();
    }
    let text = assets.unknown.to_string();
    text.lines().map(str::to_owned).collect()
}
