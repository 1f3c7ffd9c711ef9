//! The example program, run.

#[path = "../examples/journey.rs"]
mod journey;

#[tokio::test(flavor = "multi_thread")]
async fn the_example_reads_what_it_mounted_and_reads_back_what_it_committed() {
    let fuse = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    if let Err(error) = fuse {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "/dev/fuse is needed here: {error}"
        );
        println!("skipped: /dev/fuse: {error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let seen = journey::journey(dir.path()).await.unwrap();
    assert_eq!(seen.read, b"what the job reads");
    assert_eq!(seen.read_back, b"what the job wrote");
    assert!(
        !seen.mount_point.exists(),
        "the session is gone with its mount"
    );
}
