//! `submit` and `check`.

mod background;
mod preparing;

use std::io::Write as _;

use anyhow::Context as _;
use attachfs::manifest::Hashing;
use attachfs::{
    Error, Findings, GatheredAssets, PathIsRequired, PreflightRequest, Submission, check_submission,
};

use self::preparing::{
    Sent, Typed, gather, named_queue, prepare, request, send, unknown, uploading,
};
use super::manifest::hashing;
use super::uploading::unfinished;
use crate::args::Globals;
use crate::args::submit::{Check, Submit};
use crate::exit::{self, Failure};
use crate::output::{self, remark};
use crate::places::places_with;
use crate::progress::Shown;

pub(super) async fn submit(globals: &Globals, args: Submit) -> Result<(), Failure> {
    if let Some(id) = &args.status {
        return background::status(globals, id);
    }
    if let Some(id) = &args.background_process {
        return background::go_on(globals, &args, id).await;
    }
    let typed = Typed::read(&args)?;
    let shown = Shown::cancellable(globals.json);
    let Some(prepared) = prepare(globals, &args, typed, &shown)? else {
        return Ok(());
    };
    confirm(&prepared.assets, args.yes)?;
    if args.background {
        return background::start(globals, &args);
    }
    let output = args.output.as_deref();
    let prepared = prepared.with_caches(&args)?;
    let sent = send(globals, &args, &prepared, output, &shown, shown.cancel()).await;
    shown.clear();
    let sent = match sent {
        Ok(sent) => sent,
        // Standard output is for the document.
        Err(error) => return unfinished(globals, error, output::print_beside),
    };
    let Sent {
        submission,
        saved_as,
        call,
    } = sent;
    if globals.json {
        let mut value = serde_json::to_value(&submission)?;
        value["create_job"] = call.into();
        value["attachments_file"] = saved_as.map(|path| path.display().to_string()).into();
        return Ok(output::print_json(&value)?);
    }
    output::print_beside(&account(&submission))?;
    if saved_as.is_none() {
        let text = submission.document.as_deref().unwrap_or_default();
        output::print(&format!("{text}\n"))?;
        remark("the call that makes the job, with the document above in attachments.json:");
    } else {
        remark("the call that makes the job:");
    }
    Ok(output::print_beside(&format!(
        "{}\n",
        output::line_of(&call)
    ))?)
}

pub(super) async fn check(globals: &Globals, args: Check) -> Result<(), Failure> {
    let request = request(&args.assets, PathIsRequired::Yes)?;
    let store = match (args.deep, &args.place) {
        (true, place) => {
            let address = match &place.store {
                Some(store) => store.clone(),
                None => named_queue(place, None)?.store,
            };
            Some(super::stores::open_store(globals, &address).await?)
        }
        (false, _) => None,
    };
    let shown = Shown::cancellable(globals.json);
    let assets = gather(globals, &request, &shown)?;
    let remembering = &args.hashing.remembering;
    let preflight = PreflightRequest {
        windows_root: args.windows_root,
        cache: places_with(remembering.cache_dir.clone())?.cache.hashes(),
        deep: args.deep,
        hashing: if args.deep {
            hashing(&args.hashing)?
        } else {
            Hashing::default()
        },
        uploading: uploading(&args.hashing, false)?,
    };
    let found = check_submission(&assets, store.as_ref(), &preflight, &shown, shown.cancel());
    let found = found.await;
    shown.clear();
    let found = found?;
    if globals.json {
        let mut value = serde_json::to_value(&found)?;
        value["skipped"] = serde_json::to_value(&assets.left_out)?;
        output::print_json(&value)?;
    } else {
        output::print(&findings(&found))?;
    }
    match (found.is_damaged(), found.findings.is_empty()) {
        (true, _) => Err(Failure::Code(exit::INTEGRITY)),
        (false, false) => Err(Failure::Code(exit::INCOMPLETE)),
        (false, true) => Ok(()),
    }
}

/// Asks a person before files are sent from places that nobody named; a script must say `--yes`.
#[expect(clippy::print_stderr, reason = "a question to a person")]
fn confirm(assets: &GatheredAssets, yes: bool) -> Result<(), Failure> {
    if yes || assets.unknown.is_empty() {
        return Ok(());
    }
    for line in unknown(assets) {
        remark(&format!("nobody named {line}"));
    }
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        let error = Error::usage("the job wants files from places that nobody named");
        let advice = "nobody can be asked here; name them with --known-asset-path, or say --yes";
        return Err(error.advise(advice).into());
    }
    eprint!("Submit files of these places, too? [y/N] ");
    std::io::stderr().flush().context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("cannot hear the answer")?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Code(exit::CANCELLED)),
    }
}

/// What was sent, root by root.
fn account(submission: &Submission) -> String {
    let mut text = String::new();
    for root in &submission.roots {
        text += &format!(
            "root       {}: {}, {}; sent {}, {}\n",
            output::line_of(&root.root),
            output::count(root.files, "file"),
            output::bytes(root.bytes),
            output::count(root.uploaded_objects, "object"),
            output::bytes(root.uploaded_bytes)
        );
    }
    text
}

fn findings(found: &Findings) -> String {
    let mut text = String::new();
    for of in &found.findings {
        text += &format!("{}: {}\n", output::line_of(&of.path), of.reason);
    }
    text += &format!(
        "checked    {}, {}: {}\n",
        output::count(found.files, "file"),
        output::bytes(found.bytes),
        match found.findings.len() {
            0 => "nothing is wrong".to_owned(),
            number => output::count(number as u64, "finding"),
        }
    );
    if let (Some(present), Some(missing)) = (found.present_objects, found.missing_objects) {
        text += &format!(
            "the store has {}, and lacks {}\n",
            output::count(present, "object"),
            missing
        );
    }
    text
}
