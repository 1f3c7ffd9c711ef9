//! `cache`: looking after the cache on this machine.

use std::ffi::OsString;
use std::time::{Duration, SystemTime};

use attachfs::cache::{
    CacheCollected, CacheGoal, CacheInfo, CachePin, CacheTrouble, CacheVerified, PinnedManifest,
    WarmReport, WarmRequest, cache_info, collect_cache, pin_manifests, unpin, verify_cache,
    warm_cache,
};
use attachfs::{CacheLimits, ContentHash, ManifestBytes, OpenStore, Places};
use indicatif::HumanDuration;
use serde_json::json;

use super::downloading::NOTHING_MATCHES;
use super::reading::{read, source};
use super::stores::store_of;
use crate::args::Globals;
use crate::args::cache::{
    CacheBounds, CachePlace, CacheVerb, Cached, Gc, Info, Pin, Unpin, Verify, Warm,
};
use crate::exit::{Failure, INCOMPLETE, INTEGRITY};
use crate::output::{self, bytes, count, listed};
use crate::places::places_with;
use crate::progress::Shown;

pub(super) async fn cache(globals: &Globals, verb: CacheVerb) -> Result<(), Failure> {
    match verb {
        CacheVerb::Info(args) => info(globals, &args).await,
        CacheVerb::Gc(args) => gc(globals, &args).await,
        CacheVerb::Verify(args) => verify(globals, &args).await,
        CacheVerb::Warm(args) => warm(globals, args).await,
        CacheVerb::Pin(args) => pin(globals, args).await,
        CacheVerb::Unpin(args) => unpinned(globals, &args).await,
    }
}

/// Where things are, with a cache of these bounds.
fn bounded(place: &CachePlace, bounds: Option<&CacheBounds>) -> Result<Places, attachfs::Error> {
    let places = places_with(place.cache_dir.clone())?;
    let limits = bounds.map_or_else(CacheLimits::default, CacheBounds::limits);
    Ok(Places {
        cache: places.cache.with_limits(limits),
        ..places
    })
}

/// Text from outside, such as the name of a manifest.
fn shown(text: &str) -> attachfs::EscapedBytes<'_> {
    attachfs::EscapedBytes(text.as_bytes())
}

async fn info(globals: &Globals, args: &Info) -> Result<(), Failure> {
    let places = bounded(&args.place, Some(&args.bounds))?;
    let progress = Shown::cancellable(globals.json);
    let info = cache_info(&places.cache, &progress, progress.cancel()).await;
    progress.clear();
    let info = info?;
    if globals.json {
        return Ok(output::print_json(&info)?);
    }
    Ok(output::print(&info_text(&info))?)
}

fn info_text(info: &CacheInfo) -> String {
    let path = info.path.display().to_string();
    let mut text = format!(
        "cache      {}\nholds      {}, {}\n",
        shown(&path),
        count(info.objects, "object"),
        bytes(info.bytes)
    );
    if info.partial_objects > 0 {
        text += &format!(
            "partial    {} of which some is missing, {}\n",
            count(info.partial_objects, "large object"),
            bytes(info.partial_bytes)
        );
    }
    if info.joined_files > 0 {
        text += &format!(
            "joined     {} of several objects each, for the kernel to read, {}\n",
            count(info.joined_files, "file"),
            bytes(info.joined_bytes)
        );
    }
    if info.incoming_bytes > 0 {
        text += &format!("incoming   {} being written\n", bytes(info.incoming_bytes));
    }
    if let Some(used) = info.oldest_use {
        let ago = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |now| now.as_secs() as i64 - used);
        let ago = Duration::from_secs(u64::try_from(ago).unwrap_or(0));
        text += &format!("oldest     used {} ago\n", HumanDuration(ago));
    }
    text += &format!(
        "limits     {} at most, {} of the disk stay free\ndisk       {} of {} free\n",
        bytes(info.max_bytes),
        bytes(info.min_free),
        bytes(info.available),
        bytes(info.disk_bytes)
    );
    if info.foreign > 0 {
        text += &format!(
            "foreign    {} that attachfs did not make and leaves alone\n",
            count(info.foreign, "thing")
        );
    }
    if !info.pins.is_empty() {
        text += &format!(
            "pinned     {}, {} in the cache\n",
            count(info.pinned_objects, "object"),
            bytes(info.pinned_bytes)
        );
    }
    text + &listed(&info.pins, |pin| pin_line("pin", pin))
}

fn pin_line(word: &str, pin: &CachePin) -> String {
    format!(
        "{word:<10} {} {}, {} of {}\n",
        pin.id,
        shown(&pin.manifest),
        count(pin.objects, "object"),
        shown(&pin.store)
    )
}

async fn gc(globals: &Globals, args: &Gc) -> Result<(), Failure> {
    let places = bounded(&args.place, Some(&args.bounds))?;
    let goal = CacheGoal {
        max_bytes: args.max_size,
        older_than: args.older_than,
        dry_run: args.dry_run,
    };
    let progress = Shown::cancellable(globals.json);
    let collected = collect_cache(&places.cache, goal, &progress, progress.cancel()).await;
    progress.clear();
    let collected = collected?;
    if globals.json {
        return Ok(output::print_json(&collected)?);
    }
    Ok(output::print(&gc_text(&collected))?)
}

fn gc_text(collected: &CacheCollected) -> String {
    let mut text = format!(
        "{:<10} {}, {}\nleft       {}, {}\n",
        if collected.dry_run {
            "would go"
        } else {
            "removed"
        },
        count(collected.removed, "object"),
        bytes(collected.removed_bytes),
        count(collected.objects, "object"),
        bytes(collected.bytes)
    );
    for (number, why) in [
        (collected.pinned, "pinned"),
        (collected.in_use, "open in a mount"),
    ] {
        if number > 0 {
            text += &format!("kept       {}: {why}\n", count(number, "object"));
        }
    }
    text
}

async fn verify(globals: &Globals, args: &Verify) -> Result<(), Failure> {
    let places = bounded(&args.place, None)?;
    let progress = Shown::cancellable(globals.json);
    let verified = verify_cache(&places.cache, &progress, progress.cancel()).await;
    progress.clear();
    let verified = verified?;
    if globals.json {
        output::print_json(&verified)?;
    } else {
        output::print(&verify_text(&verified))?;
    }
    if !verified.damaged.is_empty() {
        Err(Failure::Code(INTEGRITY))
    } else if !verified.unread.is_empty() {
        Err(Failure::Code(INCOMPLETE))
    } else {
        Ok(())
    }
}

fn troubles(word: &str, all: &[CacheTrouble]) -> String {
    listed(all, |trouble| {
        let what = trouble.path.as_ref().unwrap_or(&trouble.object);
        format!("{word:<10} {what}: {}\n", trouble.reason)
    })
}

fn verify_text(verified: &CacheVerified) -> String {
    troubles("damaged", &verified.damaged)
        + &troubles("unread", &verified.unread)
        + &format!(
            "read       {}, {}; {} damaged, {} unread\n",
            count(verified.objects, "object"),
            bytes(verified.bytes),
            verified.damaged.len(),
            verified.unread.len()
        )
}

/// The manifests, and the store of their objects.
async fn opened(
    globals: &Globals,
    cached: &Cached,
    places: &Places,
) -> Result<(Vec<ManifestBytes>, OpenStore), Failure> {
    let mut sources = Vec::with_capacity(cached.manifests.len());
    for manifest in &cached.manifests {
        sources.push(source(manifest)?);
    }
    let store = store_of(globals, cached.store.as_deref(), &sources, places).await?;
    let mut manifests = Vec::with_capacity(sources.len());
    for source in &sources {
        manifests.push(read(globals, source, None).await?);
    }
    Ok((manifests, store))
}

fn patterns(cached: Cached) -> WarmRequest {
    let bytes = |patterns: Vec<OsString>| {
        patterns
            .into_iter()
            .map(OsString::into_encoded_bytes)
            .collect()
    };
    WarmRequest {
        include: bytes(cached.include),
        exclude: bytes(cached.exclude),
    }
}

async fn warm(globals: &Globals, args: Warm) -> Result<(), Failure> {
    let places = bounded(&args.place, Some(&args.bounds))?;
    let (manifests, store) = opened(globals, &args.cached, &places).await?;
    let request = patterns(args.cached);
    let has_patterns = !request.include.is_empty() || !request.exclude.is_empty();
    let progress = Shown::cancellable(globals.json);
    let cancel = progress.cancel();
    let report = warm_cache(&manifests, &request, &store, &places, &progress, cancel).await;
    progress.clear();
    let report = report?;
    if has_patterns && report.objects == 0 {
        output::remark(NOTHING_MATCHES);
    }
    if globals.json {
        output::print_json(&report)?;
    } else {
        output::print(&warm_text(&report))?;
    }
    if !report.damaged.is_empty() {
        Err(Failure::Code(INTEGRITY))
    } else if report.is_complete() {
        Ok(())
    } else {
        Err(Failure::Code(INCOMPLETE))
    }
}

fn warm_text(report: &WarmReport) -> String {
    let mut text = troubles("damaged", &report.damaged) + &troubles("failed", &report.failed);
    text += &format!(
        "fetched    {}, {}\npresent    {}\nof         {}, {}\n",
        count(report.fetched, "object"),
        bytes(report.fetched_bytes),
        count(report.present, "object"),
        count(report.objects, "object"),
        bytes(report.bytes)
    );
    if report.not_kept > 0 {
        text += &format!(
            "not kept   {}: the cache has no room for them, see `attachfs cache info`\n",
            count(report.not_kept, "object")
        );
    }
    text
}

async fn pin(globals: &Globals, args: Pin) -> Result<(), Failure> {
    let places = bounded(&args.place, None)?;
    let (manifests, store) = opened(globals, &args.cached, &places).await?;
    let request = patterns(args.cached);
    let progress = Shown::cancellable(globals.json);
    let pinned = pin_manifests(&manifests, &request, &store, &places, progress.cancel()).await?;
    if globals.json {
        return Ok(output::print_json(&json!({ "pinned": pinned }))?);
    }
    let text: String = pinned.iter().map(pinned_line).collect();
    Ok(output::print(&text)?)
}

fn pinned_line(pinned: &PinnedManifest) -> String {
    format!(
        "{}           {}\n",
        pin_line("pinned", &pinned.pin),
        bytes(pinned.bytes)
    )
}

async fn unpinned(globals: &Globals, args: &Unpin) -> Result<(), Failure> {
    let places = bounded(&args.place, None)?;
    let mut names = Vec::with_capacity(args.pins.len());
    for pin in &args.pins {
        let id = pin.to_str().filter(|id| id.parse::<ContentHash>().is_ok());
        let name = match id {
            Some(id) => id.to_owned(),
            None => {
                let manifest = read(globals, &source(pin)?, None).await?;
                ContentHash::of(&manifest.bytes).to_string()
            }
        };
        names.push((name, pin));
    }
    let wanted = names.iter().map(|(name, _)| name.clone()).collect();
    let progress = Shown::cancellable(globals.json);
    let store = args.store.as_deref().map(str::parse).transpose()?;
    let gone = unpin(wanted, store, &places, progress.cancel()).await?;
    if globals.json {
        output::print_json(&json!({ "unpinned": gone }))?;
    } else {
        let text: String = gone.iter().map(|pin| pin_line("unpinned", pin)).collect();
        output::print(&text)?;
    }
    let is_gone = |name: &str| gone.iter().any(|pin| pin.is_called(name));
    match names.iter().find(|(name, _)| !is_gone(name)) {
        None => Ok(()),
        Some((_, pin)) => {
            let pin = pin.to_string_lossy();
            let text = format!(
                "{} is not pinned; `attachfs cache info` lists what is",
                shown(&pin)
            );
            Err(attachfs::Error::usage(text).into())
        }
    }
}
