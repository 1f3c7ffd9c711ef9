//! The example program, run.

#[path = "../examples/journey.rs"]
mod journey;

use attachfs::{CancellationToken, Mount, SnapshotOptions, TraceOptions, take_snapshot};
use journey::{Quiet, Seen};

/// Whether a file system can be mounted here. It must be where all tests are wanted.
#[expect(
    clippy::print_stdout,
    reason = "the test's output says why it was skipped"
)]
fn can_mount() -> bool {
    let fuse = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    if let Err(error) = &fuse {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "/dev/fuse is needed here: {error}"
        );
        println!("skipped: /dev/fuse: {error}");
    }
    fuse.is_ok()
}

fn check(seen: &Seen) {
    assert_eq!(seen.read, b"what the job reads");
    assert_eq!(seen.read_back, b"what the job wrote");
    assert!(
        !seen.mount_point.exists(),
        "the session is gone with its mount"
    );
}

#[test]
fn the_example_makes_the_journey_from_blocking_code() {
    if can_mount() {
        let dir = tempfile::tempdir().unwrap();
        check(&journey::blocking(dir.path()).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_makes_the_journey_on_a_runtime_of_its_own() {
    if can_mount() {
        let dir = tempfile::tempdir().unwrap();
        check(&journey::on_a_runtime(dir.path()).await.unwrap());
    }
}

/// A function of a program that blocks may be called on a thread of a runtime, by a library that knows nothing of it.
#[tokio::test]
async fn the_blocking_journey_is_possible_on_a_thread_of_a_runtime() {
    if can_mount() {
        let dir = tempfile::tempdir().unwrap();
        check(&journey::blocking(dir.path()).unwrap());
    }
}

/// The trace may have to be written to a disk that hangs. What the journal has is not to wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_sealed_before_its_trace_is_written() {
    if !can_mount() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let (folder, places, store) = journey::prepare(temp.path()).unwrap();
    let options = SnapshotOptions::default();
    let taken = take_snapshot(&folder, Some(&store), &Quiet, &options, &Quiet, &cancel);
    let mut request = journey::mount_request(taken.await.unwrap().bytes, &store, places);
    let trace = temp.path().join("trace");
    request.traces = TraceOptions {
        record: Some(trace.clone()),
        ..TraceOptions::default()
    };
    let mount = Mount::start(request, &cancel).await.unwrap();
    let journal = mount.session_dir().join("journal");
    mount.unmount(false).await.unwrap();
    let changed = |path| std::fs::metadata(path).unwrap().modified().unwrap();
    assert!(changed(&journal) <= changed(&trace));
    mount.finish().await.unwrap();
}
