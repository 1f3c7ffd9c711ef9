//! `store`: looking after whole stores.

use std::time::SystemTime;

use attachfs::bulk::{
    GcOptions, GcPlan, StoreStat, StoreTrouble, SyncRequest, SyncedManifest, VerifyReport, plan_gc,
    stat_store, sync_store, verify_store,
};
use attachfs::manifest::{PlacedManifest, fetch_manifest};
use attachfs::{
    Addressing, CancellationToken, ManifestKey, ManifestSource, OpenStore, S3Access, StoreAddress,
    StoreSettings,
};

use super::reading::{read, source};
use super::stores::{access, open, open_store};
use crate::args::Globals;
use crate::args::store::{Gc, Stat, StoreVerb, Sync, Verify};
use crate::exit::{self, Failure, INCOMPLETE, INTEGRITY};
use crate::output::{self, bytes, count, listed};
use crate::places::places;
use crate::progress::Shown;

pub(super) async fn store(globals: &Globals, verb: StoreVerb) -> Result<(), Failure> {
    match verb {
        StoreVerb::Stat(args) => stat(globals, args).await,
        StoreVerb::Verify(args) => verify(globals, args).await,
        StoreVerb::Sync(args) => sync(globals, args).await,
        StoreVerb::Gc(args) => gc(globals, args).await,
    }
}

/// Prints a result: the text for people, or the value for programs.
fn print<T: serde::Serialize>(
    globals: &Globals,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    if globals.json {
        output::print_json(value)
    } else {
        output::print(&text(value))
    }
}

/// Keys in a store may be anybody's.
fn shown(key: &str) -> attachfs::EscapedBytes<'_> {
    attachfs::EscapedBytes(key.as_bytes())
}

async fn stat(globals: &Globals, args: Stat) -> Result<(), Failure> {
    let store = open_store(globals, &args.store).await?;
    let shown = Shown::cancellable(globals.json);
    let stat = stat_store(&store, &shown, shown.cancel()).await;
    shown.clear();
    Ok(print(globals, &stat?, stat_text)?)
}

fn stat_text(stat: &StoreStat) -> String {
    let mut text = format!(
        "objects    {}, {}; the largest has {}\nmanifests  {}, {}\n",
        count(stat.objects, "object"),
        bytes(stat.bytes),
        bytes(stat.largest),
        count(stat.manifests, "manifest"),
        bytes(stat.manifest_bytes)
    );
    if stat.old_names > 0 {
        text += &format!(
            "old names  {} without an extension\n",
            count(stat.old_names, "object")
        );
    }
    if stat.foreign > 0 {
        text += &format!(
            "foreign    {} that is neither, {}: {}\n",
            count(stat.foreign, "thing"),
            bytes(stat.foreign_bytes),
            shown(&stat.first_foreign.join(", "))
        );
    }
    text
}

async fn verify(globals: &Globals, args: Verify) -> Result<(), Failure> {
    let store = open_store(globals, &args.store).await?;
    let mut manifests = Vec::with_capacity(args.manifest.len());
    for manifest in &args.manifest {
        manifests.push(read(globals, &source(manifest)?, None).await?);
    }
    let shown = Shown::cancellable(globals.json);
    let report = verify_store(&store, &manifests, args.deep, &shown, shown.cancel());
    let report = report.await;
    shown.clear();
    let report = report?;
    print(globals, &report, verify_text)?;
    if !report.damaged.is_empty() {
        Err(Failure::Code(INTEGRITY))
    } else if !report.missing.is_empty() || !report.unread.is_empty() {
        Err(Failure::Code(INCOMPLETE))
    } else {
        Ok(())
    }
}

fn verify_text(report: &VerifyReport) -> String {
    let mut text = String::new();
    for (word, list) in [
        ("damaged", &report.damaged),
        ("missing", &report.missing),
        ("unread", &report.unread),
    ] {
        text += &listed(list, |trouble| trouble_line(word, trouble));
    }
    text += &format!(
        "{:<10} {}, {}; {} damaged, {} missing, {} unread\n",
        if report.deep { "read" } else { "looked at" },
        count(report.objects, "object"),
        bytes(report.bytes),
        report.damaged.len(),
        report.missing.len(),
        report.unread.len()
    );
    if report.foreign > 0 {
        text += &format!(
            "foreign    {} among the objects\n",
            count(report.foreign, "thing")
        );
    }
    text
}

fn trouble_line(word: &str, trouble: &StoreTrouble) -> String {
    let of = match (&trouble.path, &trouble.manifest) {
        (Some(path), Some(manifest)) => format!(" of {path} in {manifest}"),
        _ => String::new(),
    };
    format!("{word:<10} {}{of}: {}\n", trouble.object, trouble.reason)
}

async fn sync(globals: &Globals, args: Sync) -> Result<(), Failure> {
    let from = open_store(globals, &args.from).await?;
    let to = open_target(globals, &args).await?;
    let mut request = SyncRequest::default();
    for manifest in &args.manifest {
        let one = match source(manifest)? {
            ManifestSource::S3(address) => {
                let store = open_store(globals, &address.store.to_string()).await?;
                placed(&store, &address.key).await
            }
            source => read(globals, &source, None)
                .await
                .map(|bytes| SyncedManifest { bytes, place: None }),
        };
        request.add(&manifest.to_string_lossy(), one)?;
    }
    for key in &args.key {
        request.add(key.as_str(), placed(&from, key).await)?;
    }
    let scratch = places().cache.sync_scratch();
    let shown = Shown::cancellable(globals.json);
    let report = sync_store(&from, &to, &request, &scratch, &shown, shown.cancel()).await;
    shown.clear();
    let report = report?;
    print(globals, &report, |report| {
        let mut text = output::summary("copied", &report.summary);
        for key in &report.manifests {
            text += &format!("manifest   {key}\n");
        }
        text
    })?;
    exit::of_summary(&report.summary)
}

/// A manifest of a store with its key and its metadata, to be copied under the same key.
async fn placed(store: &OpenStore, key: &ManifestKey) -> Result<SyncedManifest, attachfs::Error> {
    let fetched = fetch_manifest(key, store, &CancellationToken::new()).await?;
    Ok(SyncedManifest {
        place: Some(PlacedManifest {
            key: key.clone(),
            bytes: fetched.bytes.bytes.clone().into(),
            metadata: fetched.metadata,
        }),
        bytes: fetched.bytes,
    })
}

async fn open_target(globals: &Globals, args: &Sync) -> Result<OpenStore, attachfs::Error> {
    if let StoreAddress::Directory(dir) = args.to.parse()? {
        return Ok(attachfs::create_directory_store(&dir)?.1);
    }
    let settings = StoreSettings {
        address: args.to.clone(),
        s3: target_access(access(globals)?.s3, args)?,
    };
    open(&settings).await
}

/// How TO is reached: as FROM, except for what its own options say. Settings that belong to one account, bucket or
/// server are dropped where TO may have another one.
fn target_access(from: S3Access, args: &Sync) -> Result<S3Access, attachfs::Error> {
    let mut below = from;
    let is_same_server = args.to_endpoint_url.is_none();
    let is_same_account = is_same_server && args.to_profile.is_none();
    if !is_same_server {
        below.addressing = Addressing::default();
    }
    if !is_same_account {
        below.requester_pays = false;
        below.encryption = None;
    }
    let bucket = |address: &str| -> Result<_, attachfs::Error> {
        Ok(match address.parse()? {
            StoreAddress::S3 { bucket, .. } => Some(bucket),
            StoreAddress::Directory(_) => None,
        })
    };
    if !is_same_account || bucket(&args.from)? != bucket(&args.to)? {
        below.expected_bucket_owner = None;
    }
    let said = S3Access {
        endpoint_url: args.to_endpoint_url.clone(),
        region: args.to_region.clone(),
        profile: args.to_profile.clone(),
        expected_bucket_owner: args.to_expected_bucket_owner,
        ..S3Access::default()
    };
    Ok(said.over(&below))
}

async fn gc(globals: &Globals, args: Gc) -> Result<(), Failure> {
    if !args.plan {
        let text =
            "deleting is not offered: `attachfs store gc --plan` lists what could be deleted";
        return Err(attachfs::Error::usage(text).into());
    }
    let store = open_store(globals, &args.store).await?;
    let options = GcOptions {
        older_than_days: args.older_than,
        now: SystemTime::now(),
    };
    let shown = Shown::cancellable(globals.json);
    let plan = plan_gc(&store, options, &shown, shown.cancel()).await;
    shown.clear();
    let plan = plan?;
    print(globals, &plan, |plan| gc_text(plan, args.older_than))?;
    if plan.complete {
        Ok(())
    } else if plan.unread.iter().any(|unread| unread.damaged) {
        Err(Failure::Code(INTEGRITY))
    } else {
        Err(Failure::Code(INCOMPLETE))
    }
}

fn gc_text(plan: &GcPlan, days: u32) -> String {
    let mut text = String::new();
    for unread in &plan.unread {
        text += &format!("unread     {}: {}\n", shown(&unread.key), unread.error);
    }
    text += &format!(
        "manifests  {} read, which need {}\n",
        count(plan.manifests, "manifest"),
        count(plan.referenced, "object")
    );
    if !plan.complete {
        return text
            + "no plan    a manifest that cannot be read may need anything, so nothing is listed\n";
    }
    // All of them: this list is what the verb is for.
    for garbage in &plan.garbage {
        text += &format!(
            "unneeded   {} {:>14} bytes {:>6} days\n",
            garbage.key, garbage.bytes, garbage.days
        );
    }
    text += &format!(
        "store      {}, {}\nunneeded   {}, {}, older than {days} days\n",
        count(plan.objects, "object"),
        bytes(plan.bytes),
        count(plan.garbage.len() as u64, "object"),
        bytes(plan.garbage_bytes)
    );
    if plan.young > 0 {
        text += &format!(
            "young      {}, {}: nothing needs them yet, or any more\n",
            count(plan.young, "object"),
            bytes(plan.young_bytes)
        );
    }
    if plan.foreign > 0 {
        text += &format!(
            "foreign    {} among the objects, left alone\n",
            count(plan.foreign, "thing")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Verb};

    fn target(to: &[&str]) -> S3Access {
        let from = S3Access {
            expected_bucket_owner: Some("111111111111".parse().unwrap()),
            requester_pays: true,
            region: Some("eu-west-1".to_owned()),
            ..S3Access::default()
        };
        let typed = ["attachfs", "store", "sync", "--key", "k", "s3://one/a"];
        let args = Args::try_parse_from(typed.iter().chain(to)).unwrap();
        let Verb::Store(store) = args.verb else {
            panic!("another verb");
        };
        let StoreVerb::Sync(sync) = store.verb else {
            panic!("another verb of `store`");
        };
        target_access(from, &sync).unwrap()
    }

    fn owner(access: &S3Access) -> Option<String> {
        access.expected_bucket_owner.map(String::from)
    }

    #[test]
    fn the_owner_of_one_bucket_is_not_expected_of_another() {
        let same = target(&["s3://one/b"]);
        assert_eq!(owner(&same).as_deref(), Some("111111111111"));
        let other = target(&["s3://two/b"]);
        assert_eq!(owner(&other), None);
        assert!(other.requester_pays);
        let said = target(&["s3://two/b", "--to-expected-bucket-owner", "222222222222"]);
        assert_eq!(owner(&said).as_deref(), Some("222222222222"));
    }

    #[test]
    fn another_account_inherits_neither_owner_nor_payer() {
        let other = target(&["s3://one/b", "--to-profile", "elsewhere"]);
        assert_eq!((owner(&other), other.requester_pays), (None, false));
        assert_eq!(other.region.as_deref(), Some("eu-west-1"));
    }
}
