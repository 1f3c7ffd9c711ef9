//! `download` of a job.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use attachfs::causes::StoppedDownload;
use attachfs::{
    ChosenBy, DownloadRequest, Downloads, Error, EscapedBytes, FetchPlan, FetchTo, NamedJobs,
    PlannedPlace, UnmappedRoot, fetch_planned, find_job_files, path_bytes, plan_fetch,
};
use serde_json::json;

use super::downloading::{NOTHING_MATCHES, account, request, text_of_root, total};
use super::job_files::{chosen, tell};
use super::naming::{is_job_address, named};
use super::placing::placing_options;
use super::stores::open_store;
use crate::args::Globals;
use crate::args::download::Download;
use crate::exit::{self, Failure};
use crate::output;
use crate::places::places_with;
use crate::progress::Shown;

/// Whether a job is meant, and not manifests.
pub(super) fn is_of_job(args: &Download) -> bool {
    args.fetching.job.is_given() || args.manifests.first().is_some_and(|at| is_job_address(at))
}

/// Downloads what is meant of a job.
pub(super) async fn fetch(globals: &Globals, args: Download) -> Result<(), Failure> {
    let (address, folder) = address_and_folder(&args)?;
    let named = named(
        address.as_deref(),
        &args.fetching.job,
        args.store.as_deref(),
    )?;
    named.job()?;
    let places = places_with(args.hashing.remembering.cache_dir.clone())?;
    let files = chosen(&args.fetching.of_job)?;
    let mut to = to(&args, &named, folder)?;
    let request = request(&args)?;
    let shown = Shown::cancellable(globals.json);
    let store = open_store(globals, &named.store).await?;
    let found = find_job_files(&named, &files, &store, shown.cancel()).await?;
    tell(&found, &files, &named.store);
    let mut plan = plan_fetch(&found, &to, &request)?;
    if args.fetching.dry_run {
        print_plan(globals, &plan)?;
        return placed_everything(&plan);
    }
    while !plan.unmapped_roots.is_empty() {
        ask_for_places(&plan.unmapped_roots, &mut to)?;
        plan = plan_fetch(&found, &to, &request)?;
    }
    drop(found);
    if plan.places.is_empty() && !(request.include.is_empty() && request.exclude.is_empty()) {
        output::remark(NOTHING_MATCHES);
    }
    if !plan.places.is_empty() {
        if !globals.json {
            output::print_beside(&text_of_plan(&plan))?;
        }
        confirm(&args, &plan)?;
    }
    run(globals, plan, &request, &store, &places, &shown).await
}

async fn run(
    globals: &Globals,
    mut plan: FetchPlan,
    request: &DownloadRequest,
    store: &attachfs::OpenStore,
    places: &attachfs::Places,
    shown: &Shown,
) -> Result<(), Failure> {
    let unmapped = std::mem::take(&mut plan.unmapped);
    let of = plan.places.iter().map(Place::of).collect::<Vec<_>>();
    let downloads = fetch_planned(plan, request, store, places, shown, shown.cancel()).await;
    shown.clear();
    let kept = FetchPlan {
        unmapped,
        ..FetchPlan::default()
    };
    match downloads {
        Ok(downloads) => {
            print(globals, &of, &kept, &downloads)?;
            exit::of_summary(&downloads.total)?;
            placed_everything(&kept)
        }
        Err(error) => {
            if let Some(stopped) = error.cause::<StoppedDownload>() {
                print(globals, &of, &kept, &stopped.downloads)?;
            }
            Err(error.into())
        }
    }
}

/// What is said of a folder beside what was done in it.
struct Place {
    asset_root: String,
    below: String,
    location: Option<String>,
}

impl Place {
    fn of(planned: &PlannedPlace) -> Self {
        Self {
            asset_root: planned.root.clone(),
            below: planned.below.clone(),
            location: planned.location.clone(),
        }
    }
}

/// The address and the folder among what was typed without an option.
fn address_and_folder(args: &Download) -> Result<(Option<String>, Option<PathBuf>), Error> {
    let no_use = [
        ("--map", !args.map.is_empty()),
        ("--from", args.from.is_some()),
        ("--ignore-parent", args.ignore_parent),
        ("--no-deletes", args.no_deletes),
    ];
    if let Some((option, _)) = no_use.into_iter().find(|(_, given)| *given) {
        let sentence = format!("{option} is for manifests that are named, not for those of a job");
        return Err(Error::usage(sentence));
    }
    let mut typed = args.manifests.iter();
    let first = typed.clone().next().filter(|at| is_job_address(at));
    let address = first.map(|at| {
        typed.next();
        at.to_string_lossy().into_owned()
    });
    let folders: Vec<PathBuf> = typed.map(PathBuf::from).chain(args.root.clone()).collect();
    let folder = match &folders[..] {
        [] => None,
        [folder] => Some(folder.clone()),
        [one, other, ..] => {
            return Err(Error::usage(format!(
                "a job goes into one folder, and two are named, {} and {}",
                one.display(),
                other.display()
            )));
        }
    };
    if folder.as_ref().is_some_and(|at| at.as_os_str().is_empty()) {
        return Err(Error::usage("the folder has no name"));
    }
    Ok((address, folder))
}

fn to(args: &Download, named: &NamedJobs, folder: Option<PathBuf>) -> Result<FetchTo, Error> {
    let mut options = placing_options(&args.fetching.placing)?;
    if let Some(folder) = folder {
        let placing = &args.fetching.placing;
        let is_mapped = !options.map_roots.is_empty()
            || !options.rules.is_empty()
            || options.local.is_some()
            || placing.ignore_storage_profiles;
        if is_mapped {
            return Err(Error::usage(format!(
                "all roots go into the folder {}, and a mapping is given, too",
                folder.display()
            ))
            .advise("leave out the folder, or the mapping"));
        }
        return Ok(FetchTo::Folder(folder));
    }
    // Where this machine has a profile, that says where roots are: one that no location has is asked about.
    options.own_roots |= options.local.is_none();
    let job = named.documents.job.as_ref();
    Ok(FetchTo::Places {
        options,
        profile: job.and_then(|job| job.storage_profile),
    })
}

fn placed_everything(plan: &FetchPlan) -> Result<(), Failure> {
    if plan.unmapped.is_empty() && plan.unmapped_roots.is_empty() {
        Ok(())
    } else {
        Err(Failure::Code(exit::UNMAPPED))
    }
}

fn is_asked() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdin())
}

/// Asks a person a question; what comes back has no white space around it. `None` at the end of the input.
#[expect(clippy::print_stderr, reason = "a question to a person")]
fn ask(question: &str) -> anyhow::Result<Option<String>> {
    eprint!("{question}");
    std::io::stderr().flush().context("cannot ask")?;
    let mut answer = String::new();
    let read = std::io::stdin()
        .read_line(&mut answer)
        .context("cannot hear the answer")?;
    Ok((read > 0).then(|| answer.trim().to_owned()))
}

/// Asks where roots are here; without a terminal all of them are named.
fn ask_for_places(roots: &[UnmappedRoot], to: &mut FetchTo) -> Result<(), Failure> {
    let FetchTo::Places { options, .. } = to else {
        return Ok(());
    };
    if !is_asked() {
        let named: Vec<String> = roots.iter().map(|of| format!("{:?}", of.root)).collect();
        return Err(Error::usage(format!(
            "nothing says where these roots of the job are on this machine: {}",
            named.join(", ")
        ))
        .advise("say it with --map-root OLD=NEW for each of them, or name a folder for all")
        .into());
    }
    for of in roots {
        let question = format!(
            "Nothing says where {} is on this machine ({}, {}). Its folder: ",
            of.shown(),
            output::count(of.files, "file"),
            output::bytes(of.bytes)
        );
        match ask(&question)? {
            Some(folder) if !folder.is_empty() => {
                let folder = attachfs::real_folder(&PathBuf::from(folder))?;
                options.map_roots.push((of.root.clone(), folder));
            }
            _ => return Err(Failure::Code(exit::CANCELLED)),
        }
    }
    Ok(())
}

/// Asks whether the files may go there. Places that the job alone chose are asked about as what they are: paths that somebody else
/// wrote into the job.
fn confirm(args: &Download, plan: &FetchPlan) -> Result<(), Failure> {
    if args.fetching.yes {
        return Ok(());
    }
    let by_job = plan.has_places_of_the_job();
    if !is_asked() {
        if !by_job {
            return Ok(());
        }
        let of_job = plan
            .places
            .iter()
            .filter(|of| of.chosen_by == ChosenBy::Job);
        let folders: Vec<String> = of_job.map(folder).collect();
        return Err(Error::usage(format!(
            "the job itself says where its files go, {}, and nobody can be asked whether they may",
            folders.join(", ")
        ))
        .advise("say --yes, name a folder, or say with --map-root where they go")
        .into());
    }
    let answer = ask(if by_job {
        "Download to where the job has its files? [y/N] "
    } else {
        "Download? [Y/n] "
    })?;
    let answer = answer.map(|answer| answer.to_ascii_lowercase());
    match answer.as_deref() {
        Some("y" | "yes") => Ok(()),
        Some("") if !by_job => Ok(()),
        _ => Err(Failure::Code(exit::CANCELLED)),
    }
}

fn folder(of: &PlannedPlace) -> String {
    EscapedBytes(path_bytes(&of.folder)).to_string()
}

fn text_of_plan(plan: &FetchPlan) -> String {
    let mut text = String::new();
    for of in &plan.places {
        text += &format!("root       {}", output::line_of(&of.root));
        if !of.below.is_empty() {
            text += &format!(", {}", of.below);
        }
        text += &format!("\nto         {}", folder(of));
        if of.chosen_by == ChosenBy::Job {
            text += ", as the job has it";
        }
        text += &format!(
            "\nfiles      {}, {}",
            output::count(of.files.files, "file"),
            output::bytes(of.files.bytes)
        );
        if of.files.there > 0 {
            text += &format!(
                "; {} there already, {} of another length or time",
                of.files.there, of.files.there_differing
            );
        }
        text += "\n";
    }
    if plan.places.len() > 1 {
        let total = plan.total();
        text += &format!(
            "in all     {}, {}\n",
            output::count(total.count, "file"),
            output::bytes(total.bytes)
        );
    }
    text
}

/// What is not placed.
fn text_of_unmapped(plan: &FetchPlan) -> String {
    let mut text = output::listed(&plan.unmapped_roots, |of| {
        format!(
            "unmapped   {}: {}, {}\n",
            output::line_of(&of.root),
            output::count(of.files, "file"),
            output::bytes(of.bytes)
        )
    });
    text += &output::listed(&plan.unmapped, |of| {
        format!(
            "unmapped   {} of {}: {}\n",
            of.path,
            output::line_of(&of.root),
            of.why
        )
    });
    if plan.unmapped.len() > 1 {
        let unmapped = output::count(plan.unmapped.len() as u64, "path");
        text += &format!("unmapped   {unmapped} in all\n");
    }
    text
}

fn print_plan(globals: &Globals, plan: &FetchPlan) -> anyhow::Result<()> {
    if !globals.json {
        return output::print(&(text_of_plan(plan) + &text_of_unmapped(plan)));
    }
    let mut value = json!(plan);
    let total = plan.total();
    value["dry_run"] = json!(true);
    value["total_files"] = json!(total.count);
    value["total_bytes"] = json!(total.bytes);
    output::print_json(&value)
}

fn print(
    globals: &Globals,
    of: &[Place],
    plan: &FetchPlan,
    downloads: &Downloads,
) -> anyhow::Result<()> {
    if globals.json {
        let mut value = account(downloads)?;
        for (at, place) in of.iter().enumerate().take(downloads.roots.len()) {
            let root = &mut value["roots"][at];
            root["asset_root"] = json!(place.asset_root);
            root["below"] = json!(place.below);
            root["file_system_location"] = json!(place.location);
        }
        value["unmapped"] = json!(plan.unmapped);
        return output::print_json(&value);
    }
    let mut text = String::new();
    for root in &downloads.roots {
        text += &text_of_root(root, downloads.roots.len() > 1);
    }
    if downloads.roots.len() != 1 {
        text += &total(downloads);
    }
    output::print(&(text + &text_of_unmapped(plan)))
}
