//! `attachfs store`, as typed.

use std::ffi::OsString;

use clap::{Args, Subcommand};

/// Look after whole stores: count, verify, fill one from another, find garbage.
///
/// A STORE is a directory or s3://bucket/prefix.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs store stat s3://bucket/DeadlineCloud
  attachfs store verify ./store --deep
  attachfs store sync s3://bucket/DeadlineCloud ./store --key farm-…/queue-…/Inputs/…/…_input
  attachfs store gc --plan s3://bucket/DeadlineCloud --older-than 90")]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    pub(crate) verb: StoreVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreVerb {
    /// Count objects and manifests, by listing them.
    Stat(Stat),
    Verify(Verify),
    Sync(Sync),
    Gc(Gc),
}

#[derive(Debug, Args)]
pub(crate) struct Stat {
    /// The store.
    #[arg(value_name = "STORE")]
    pub(crate) store: String,
}

/// Check a store's objects.
///
/// With manifests: that all their objects are there, in their lengths. Without: every object that is
/// there. Exit code 12 if something is damaged, 13 if something is only missing or cannot be read.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The store.
    #[arg(value_name = "STORE")]
    pub(crate) store: String,
    /// Check the objects of this manifest: a file, an s3:// address, or `-`. May be given more than once.
    #[arg(long, value_name = "MANIFEST")]
    pub(crate) manifest: Vec<OsString>,
    /// Read and hash the objects. Without this and without manifests, the only damage that is found is an empty object.
    #[arg(long)]
    pub(crate) deep: bool,
}

/// Fill a store from another with the objects of manifests.
///
/// Only what is missing is copied, and each object is hashed on its way. Manifests with a key are copied
/// last, with their metadata, once all their objects are there. What fails is listed, the rest goes on
/// (exit code 13); the same command takes it up again.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["manifest", "key"])))]
pub(crate) struct Sync {
    /// The store that has them.
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// The store to fill. A directory is made if it is missing.
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// Bring over the objects of this manifest: a file or `-`; one at an s3:// address is brought over
    /// itself, too, to the same key. May be given more than once.
    #[arg(long, value_name = "MANIFEST")]
    pub(crate) manifest: Vec<OsString>,
    /// Bring over this manifest of FROM and its objects. May be given more than once.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<attachfs::ManifestKey>,
    /// The S3 endpoint of TO. Default: that of FROM.
    #[arg(long, value_name = "URL", help_heading = "S3")]
    pub(crate) to_endpoint_url: Option<String>,
    /// The region of TO. Default: that of FROM.
    #[arg(long, value_name = "REGION", help_heading = "S3")]
    pub(crate) to_region: Option<String>,
    /// The AWS profile for TO. Default: that of FROM.
    #[arg(long, value_name = "NAME", help_heading = "S3")]
    pub(crate) to_profile: Option<String>,
    /// Go on only if this AWS account (12 digits) owns the bucket of TO. Default: that of FROM's bucket if TO is
    /// in the same one.
    #[arg(long, value_name = "ACCOUNT", help_heading = "S3")]
    pub(crate) to_expected_bucket_owner: Option<attachfs::AccountId>,
}

/// List the objects that no manifest in the store refers to. Nothing is deleted.
///
/// All manifests below `Manifests/` are read. If one of them cannot be read, nothing is listed: it may need
/// anything (exit code 12 if it makes no sense, 13 if it cannot be had). Manifests that are kept elsewhere
/// are not known.
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// The store.
    #[arg(value_name = "STORE")]
    pub(crate) store: String,
    /// Only list. Required, because deleting is not offered.
    #[arg(long)]
    pub(crate) plan: bool,
    /// List objects that are older than so many days, 31 at least. Age alone does not make it safe to delete
    /// one: a client that saw it in the last 30 days, however old it is, may publish a manifest that needs it
    /// and not send it again.
    #[arg(long, value_name = "DAYS", default_value_t = attachfs::bulk::LEAST_DAYS,
        value_parser = clap::value_parser!(u32).range(i64::from(attachfs::bulk::LEAST_DAYS)..))]
    pub(crate) older_than: u32,
}
