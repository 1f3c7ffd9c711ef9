//! The verbs, one family a file.

mod downloading;
mod looking;
mod manifest;
mod mounting;
mod publishing;
mod running;
mod sessions;
mod snapshotting;
mod store;
mod uploading;

use attachfs::{
    ManifestAddress, ManifestBytes, ManifestPath, ManifestSource, OpenStore, Owner, StoreSettings,
};
use std::ffi::OsStr;
use std::io::Write as _;
use std::num::NonZero;
use std::time::Duration;

use crate::args::{Args, Globals, Verb};
use crate::exit::{self, Failure};

/// How long the program stays to give up uploads that were broken off.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Does what was typed.
pub(crate) fn dispatch(args: Args) -> Result<(), Failure> {
    let Args { globals, verb } = args;
    let open_files = attachfs::raise_open_files();
    if let Verb::Mount(mount) = &verb
        && !mount.foreground
        && !mount.daemon
    {
        attachfs::Mount::supported()?;
        return mounting::in_background(&globals);
    }
    // Said here, because the library would panic at a TOKIO_WORKER_THREADS that is no number.
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        match verb {
            Verb::Run(run) => running::run(&globals, run, open_files).await,
            Verb::Snapshot(snapshot) => snapshotting::snapshot(&globals, snapshot).await,
            Verb::Upload(upload) => uploading::upload(&globals, upload).await,
            Verb::Mount(mount) => mounting::mount(&globals, mount).await,
            Verb::Umount(umount) => mounting::umount(&globals, umount).await,
            Verb::List(list) => sessions::list(&globals, &list),
            Verb::Status(session) => sessions::status(&globals, session).await,
            Verb::Diff(diff) => sessions::diff(&globals, diff).await,
            Verb::Commit(commit) => sessions::commit(&globals, commit).await,
            Verb::Discard(discard) => sessions::discard(&globals, discard).await,
            Verb::Download(download) => downloading::download(&globals, download).await,
            Verb::Ls(ls) => looking::ls(&globals, ls).await,
            Verb::Cat(cat) => looking::cat(&globals, cat).await,
            Verb::Inspect(inspect) => looking::inspect(&globals, inspect).await,
            Verb::Manifest(args) => manifest::manifest(&globals, args.verb).await,
            Verb::Store(args) => store::store(&globals, args.verb).await,
        }
    });
    runtime.block_on(async {
        // Parts of an upload that was broken off cost money until they are given up.
        let _ended = tokio::time::timeout(GIVE_UP, attachfs::uploads_ended()).await;
    });
    // A request that hangs must not keep the program from ending.
    runtime.shutdown_background();
    result
}

/// How to reach S3, without an address.
fn access(globals: &Globals) -> Result<StoreSettings, attachfs::Error> {
    Ok(StoreSettings {
        address: String::new(),
        s3: globals.s3.access()?,
    })
}

async fn open_store(globals: &Globals, address: &str) -> Result<OpenStore, attachfs::Error> {
    attachfs::open_store(&StoreSettings {
        address: address.to_owned(),
        ..access(globals)?
    })
    .await
}

/// The store that was named; else that of the manifests that are in one, else the user's own. It is there already:
/// what is read is in it.
async fn store_of(
    globals: &Globals,
    named: Option<&str>,
    sources: &[ManifestSource],
    places: &attachfs::Places,
) -> Result<OpenStore, attachfs::Error> {
    if let Some(address) = named {
        return open_store(globals, address).await;
    }
    let mut of_manifests = sources.iter().filter_map(|source| match source {
        ManifestSource::S3(address) => Some(&address.store),
        ManifestSource::File(_) | ManifestSource::Stdin => None,
    });
    if let Some(store) = of_manifests.next() {
        return match of_manifests.find(|other| *other != store) {
            None => open_store(globals, &store.to_string()).await,
            Some(other) => Err(attachfs::Error::Usage(format!(
                "the manifests are in two stores, {store} and {other}; say with --store where the objects \
                 of all of them are"
            ))),
        };
    }
    let own = places.embedded_store();
    if !own.exists() {
        return Err(attachfs::Error::Usage(format!(
            "there is no store of your own in {}; say with --store where the objects are",
            own.display()
        )));
    }
    Ok(attachfs::create_directory_store(&own)?.1)
}

fn source(text: &OsStr) -> Result<ManifestSource, attachfs::Error> {
    match text.to_str() {
        Some("-") => Ok(ManifestSource::Stdin),
        Some(text) if ManifestAddress::is_s3(text)? => Ok(ManifestSource::S3(text.parse()?)),
        _ => Ok(ManifestSource::File(text.into())),
    }
}

async fn read(
    globals: &Globals,
    source: &ManifestSource,
    at: Option<ManifestPath>,
) -> Result<ManifestBytes, attachfs::Error> {
    attachfs::read_manifest(source, at, &access(globals)?).await
}

fn usual_owner() -> Owner {
    let (uid, gid) = attachfs::user_numbers();
    Owner {
        uid,
        gid,
        file_mode: 0o644,
        dir_mode: 0o755,
    }
}

/// Prints a remark that is no failure.
fn remark(text: &str) {
    // Nobody reads it where it cannot be written.
    let _ = writeln!(std::io::stderr(), "attachfs: {text}");
}

fn remark_lines(text: &str) {
    for line in text.lines() {
        remark(line);
    }
}

/// An error of `run` itself.
fn run_failed(error: &anyhow::Error) -> Failure {
    exit::report(error);
    Failure::Code(exit::RUN_FAILED)
}
