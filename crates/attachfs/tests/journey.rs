//! The example program, run.

#[path = "../examples/journey.rs"]
mod journey;

use journey::Seen;

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
