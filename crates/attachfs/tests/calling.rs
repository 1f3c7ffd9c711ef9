//! How use cases are called: from blocking code, from a runtime, on any thread; and how they are stopped.

#![expect(clippy::unwrap_used, reason = "what fails here fails a test")]

mod folders;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attachfs::bulk::{GcOptions, SyncRequest, plan_gc, stat_store, sync_store, verify_store};
use attachfs::causes::StoppedDownload;
use attachfs::manifest::{
    CheckRequest, FolderDiff, Hashing, OpenedManifest, PlacedManifest, PublishRequest,
    check_manifest, diff_folder, fetch_manifest, hash_manifest, publish_manifest,
};
use attachfs::{
    CancellationToken, CommitArguments, DiffArguments, DownloadRequest, Error, FailureClass,
    ManifestBytes, ManifestKey, ManifestPath, ManifestSource, Mount, MountRequest, Observer,
    OpenStore, Places, Progress, ProgressEvent, RunRequest, Runtime, S3Access, SessionEntry,
    SnapshotOptions, StoreSettings, UnmountRequest, Uploading, download_manifests, session,
    take_snapshot, upload_manifests,
};
use attachfs_store::CallKind;
use attachfs_store::fault::{Fault, FaultStore, Rule};
use attachfs_store::record::RecordStore;
use folders::{FILES, Folders, Quiet};

/// All that a use case may be given, by reference.
struct Given<'a> {
    path: &'a Path,
    store: &'a OpenStore,
    places: &'a Places,
    settings: &'a StoreSettings,
    access: &'a S3Access,
    entry: &'a SessionEntry,
    opened: &'a OpenedManifest,
    bytes: &'a ManifestBytes,
    key: &'a ManifestKey,
    in_manifest: &'a ManifestPath,
    mount: &'a Mount,
    sync: &'a SyncRequest,
    publish: &'a PublishRequest,
    placed: &'a PlacedManifest,
    progress: &'a dyn Progress,
    observer: &'a dyn Observer,
    cancel: &'a CancellationToken,
}

fn is_send<F: Future + Send>(_: F) {}

/// Compiled, and never called: a use case can be awaited on any thread, and moved from one to another.
#[allow(dead_code, reason = "what it says is said by its being compiled")]
fn every_use_case_is_send(given: &Given<'_>, mount: MountRequest, run: RunRequest, ended: Mount) {
    let Given {
        path,
        store,
        places,
        settings,
        access,
        entry,
        opened,
        bytes,
        key,
        in_manifest,
        mount: mounted,
        sync,
        publish,
        placed,
        progress,
        observer,
        cancel,
    } = *given;
    let options = SnapshotOptions::default();
    let gc = GcOptions {
        older_than_days: 31,
        now: std::time::SystemTime::now(),
    };
    let arguments = CommitArguments::default();
    let how = DiffArguments::default();
    is_send(attachfs::open_store(settings, cancel));
    is_send(attachfs::read_manifest(
        &ManifestSource::Stdin,
        None,
        settings,
        cancel,
    ));
    is_send(take_snapshot(
        path, None, &Quiet, &options, progress, cancel,
    ));
    is_send(attachfs::publish_snapshot(&[], store, cancel));
    is_send(upload_manifests(
        &[],
        None,
        store,
        &Uploading::default(),
        progress,
        cancel,
    ));
    is_send(download_manifests(
        Vec::new(),
        &DownloadRequest::default(),
        store,
        places,
        progress,
        cancel,
    ));
    is_send(attachfs::cat(
        bytes,
        None,
        in_manifest,
        store,
        |_| Ok(()),
        cancel,
    ));
    is_send(attachfs::run(run, observer, cancel, &|| cancel.clone()));
    is_send(Mount::start(mount, cancel));
    is_send(mounted.status());
    is_send(mounted.ended());
    is_send(mounted.unmount(false));
    is_send(mounted.commit(&arguments, observer, cancel));
    is_send(mounted.mark_done());
    is_send(ended.finish());
    is_send(session::status(entry, places, access, cancel));
    is_send(session::diff(entry, places, access, how, observer, cancel));
    is_send(session::commit(
        entry, places, access, &arguments, observer, cancel,
    ));
    is_send(attachfs::unmount(
        entry,
        places,
        access,
        &UnmountRequest::default(),
        Some(&|_| Ok(())),
        observer,
        cancel,
    ));
    is_send(session::discard(entry, places, cancel));
    is_send(hash_manifest(
        opened,
        None,
        &Hashing::default(),
        false,
        progress,
        cancel,
    ));
    is_send(diff_folder(
        opened,
        path,
        &FolderDiff::default(),
        progress,
        cancel,
    ));
    is_send(check_manifest(
        opened,
        &CheckRequest::default(),
        progress,
        cancel,
    ));
    is_send(publish_manifest(bytes, store, publish, progress, cancel));
    is_send(placed.put(store, cancel));
    is_send(fetch_manifest(key, store, cancel));
    is_send(stat_store(store, progress, cancel));
    is_send(verify_store(store, &[], false, progress, cancel));
    is_send(sync_store(store, store, sync, path, progress, cancel));
    is_send(plan_gc(store, gc, progress, cancel));
}

#[test]
fn errors_and_what_use_cases_share_can_be_used_on_any_thread() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Error>();
    is_shared::<OpenStore>();
    is_shared::<Mount>();
    is_shared::<Runtime>();
}

fn count(runtime: &Runtime, folders: &Folders) -> u64 {
    let (_, store) = folders.store();
    let cancel = CancellationToken::new();
    runtime
        .wait(stat_store(&store, &Quiet, &cancel))
        .unwrap()
        .objects
}

#[test]
fn a_use_case_is_waited_for_where_there_is_no_runtime() {
    let folders = Folders::new();
    assert_eq!(count(&Runtime::new().unwrap(), &folders), 0);
}

#[tokio::test]
async fn a_use_case_is_waited_for_on_the_only_thread_of_a_runtime() {
    let folders = Folders::new();
    // It is made there and dropped there, too.
    assert_eq!(count(&Runtime::new().unwrap(), &folders), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_use_case_is_waited_for_in_a_task_of_a_runtime() {
    let folders = Folders::new();
    let counted = tokio::spawn(async move { count(&Runtime::new().unwrap(), &folders) });
    assert_eq!(counted.await.unwrap(), 0);
}

#[test]
fn a_panic_of_a_use_case_reaches_its_caller() {
    let runtime = Runtime::new().unwrap();
    let cancel = CancellationToken::new();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let fails = async { Err::<(), Error>(panic_with("on purpose")) };
        let go_on = || ControlFlow::Continue(());
        runtime.wait_and_look(fails, &cancel, Duration::MAX, go_on)
    }));
    let text = caught.unwrap_err();
    assert_eq!(text.downcast_ref::<String>().unwrap(), "on purpose");
}

fn panic_with(text: &str) -> Error {
    panic!("{text}")
}

#[test]
fn a_caller_that_looks_meanwhile_can_end_a_use_case() {
    let runtime = Runtime::new().unwrap();
    let cancel = CancellationToken::new();
    let until = cancel.clone();
    let waits = async move {
        until.cancelled().await;
        Err::<(), _>(Error::new(FailureClass::Cancelled, "stopped"))
    };
    let mut looked = 0;
    let look = || {
        looked += 1;
        if looked < 3 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let ended = runtime.wait_and_look(waits, &cancel, Duration::from_millis(1), look);
    assert_eq!(ended.unwrap_err().class(), FailureClass::Cancelled);
    assert!(looked >= 3);
}

/// Cancels when so many items are done, after the scan.
struct CancelAt {
    items: u64,
    cancel: CancellationToken,
}

impl CancelAt {
    fn new(items: u64, cancel: &CancellationToken) -> Self {
        Self {
            items,
            cancel: cancel.clone(),
        }
    }
}

impl Progress for CancelAt {
    fn update(&self, event: &ProgressEvent) -> ControlFlow<()> {
        if event.phase != attachfs::Phase::Scan && event.items_done >= self.items {
            self.cancel.cancel();
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn an_upload_that_is_cancelled_midway_says_so_and_goes_on_with_the_same_call() {
    let runtime = Runtime::new().unwrap();
    let folders = Folders::new();
    let (_, store) = folders.store();
    let options = SnapshotOptions::default();
    let upload = |progress: &dyn Progress, cancel: &CancellationToken| {
        let folder = folders.filled();
        runtime.wait(take_snapshot(
            &folder,
            Some(&store),
            &Quiet,
            &options,
            progress,
            cancel,
        ))
    };
    let cancel = CancellationToken::new();
    let error = upload(&CancelAt::new(60, &cancel), &cancel).unwrap_err();
    assert_eq!(error.class(), FailureClass::Cancelled, "{error:?}");
    let account = error.to_string();
    let is_told = account.starts_with("cancelled after ");
    assert!(
        is_told && account.contains(&format!(" of {FILES} ")),
        "{account}"
    );
    assert!(count(&runtime, &folders) < FILES);

    let taken = upload(&Quiet, &CancellationToken::new()).unwrap();
    assert_eq!(taken.report.files, FILES);
    assert_eq!(count(&runtime, &folders), FILES);
}

#[test]
fn a_download_that_is_cancelled_midway_says_what_it_did_and_goes_on_with_the_same_call() {
    let runtime = Runtime::new().unwrap();
    let folders = Folders::new();
    let (_, store) = folders.store();
    let manifest = folders.snapshot(&runtime, &store);
    let root = folders.at("downloaded");
    let download = |progress: &dyn Progress, cancel: &CancellationToken| {
        let placed = vec![attachfs::PlacedManifests {
            manifests: vec![manifest.clone()],
            root: root.clone(),
        }];
        let (request, places) = (DownloadRequest::default(), folders.places());
        runtime.wait(download_manifests(
            placed, &request, &store, &places, progress, cancel,
        ))
    };
    let cancel = CancellationToken::new();
    let error = download(&CancelAt::new(60, &cancel), &cancel).unwrap_err();
    assert_eq!(error.class(), FailureClass::Cancelled, "{error:?}");
    let stopped = error.cause::<StoppedDownload>().unwrap();
    let done = stopped.downloads.total.processed.count;
    assert!((60..FILES).contains(&done), "{done}");

    let downloads = download(&Quiet, &CancellationToken::new()).unwrap();
    assert!(downloads.total.is_complete());
    assert_eq!(std::fs::read_dir(&root).unwrap().count() as u64, FILES);
}

#[test]
fn an_upload_to_a_store_that_does_not_answer_can_be_cancelled() {
    let runtime = Runtime::new().unwrap();
    let folders = Folders::new();
    let (_, open) = folders.store();
    let faulty = Arc::new(FaultStore::new(open.store.clone()));
    faulty.add(Rule::always(Fault::Hang));
    let record = Arc::new(RecordStore::new(faulty));
    let store = OpenStore {
        store: record.clone(),
        ..open
    };
    let (folder, options) = (folders.filled(), SnapshotOptions::default());
    let cancel = CancellationToken::new();
    let taken = take_snapshot(&folder, Some(&store), &Quiet, &options, &Quiet, &cancel);
    let is_asked = || match record.count(CallKind::Head) + record.count(CallKind::Put) {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let every = Duration::from_millis(10);
    let error = runtime
        .wait_and_look(taken, &cancel, every, is_asked)
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::Cancelled, "{error:?}");
}
