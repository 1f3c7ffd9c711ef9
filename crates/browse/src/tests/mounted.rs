//! Kernel mounts.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use attachfs_mount::{FastPath, MountOptions, Mounted, Unmount, mount};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

struct OnDisk {
    dir: TempDir,
    mounted: Mounted,
    runtime: Runtime,
    store: Arc<Slow>,
}

impl OnDisk {
    /// `None` where nothing can be mounted, except in CI.
    fn of(fill: impl AsyncFnOnce(&Slow), refresh: Duration) -> Option<Self> {
        let fuse = fs::File::options().read(true).write(true).open("/dev/fuse");
        if let Err(error) = fuse {
            let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
            assert!(!is_ci, "/dev/fuse is needed here: {error}");
            println!("skipped: /dev/fuse: {error}");
            return None;
        }
        let runtime = Runtime::new().unwrap();
        let store = Arc::new(Slow::default());
        runtime.block_on(fill(&store));
        let options = BrowseOptions {
            refresh,
            ..options(Scope::Job(job(1)))
        };
        let dir = tempfile::tempdir().unwrap();
        let mount_options = MountOptions {
            mount_point: dir.path().to_owned(),
            allow_other: false,
            fast_path: FastPath::Passthrough,
            runtime: runtime.handle().clone(),
            session: None,
        };
        let mounted = mount(Arc::new(browse(&store, options)), &mount_options).unwrap();
        Some(Self {
            dir,
            mounted,
            runtime,
            store,
        })
    }

    fn names(&self, path: &str) -> Vec<String> {
        let names = fs::read_dir(self.dir.path().join(path)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    fn unmount(self) {
        self.mounted.unmount(Unmount::IfUnused, PATIENCE).unwrap();
    }
}

#[test]
fn a_file_manager_pulls_less_than_two_percent_of_long_files() {
    const LEN: u64 = 20 << 20;
    const FRAMES: u64 = 4;
    let fill = async |store: &Slow| {
        for number in 0..FRAMES {
            let mut bytes = vec![number as u8; LEN as usize];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            let hash = store.memory.insert(bytes);
            let frame = Node::File(File {
                size: LEN,
                mtime: Mtime(0),
                runnable: false,
                content: Content::Whole(hash),
            });
            let made = Made {
                task: Some(number),
                run: number + 1,
                ..FIRST
            };
            let name = format!("frame{number}.exr");
            store.publish(made, &snapshot([(&*name, frame)])).await;
        }
    };
    let Some(disk) = OnDisk::of(fill, REFRESH) else {
        return;
    };
    let folder = disk.dir.path().join("latest/project");
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().len(), LEN);
        let mut first = vec![0; 64 << 10];
        fs::File::open(entry.path())
            .unwrap()
            .read_exact_at(&mut first, 0)
            .unwrap();
        assert_eq!(first[9], first[0]);
    }
    // What is fetched ahead may still be on its way.
    std::thread::sleep(Duration::from_millis(300));
    let pulled = disk.store.bytes.load(Ordering::Relaxed) as u64;
    println!("{pulled} of {} bytes", FRAMES * LEN);
    assert!(pulled >= FRAMES * (64 << 10));
    assert!(
        pulled * 50 < FRAMES * LEN,
        "{pulled} of {} bytes",
        FRAMES * LEN
    );
    disk.unmount();
}

#[test]
fn the_kernel_sees_new_outputs_within_the_refresh_and_an_open_file_stays() {
    let fill = async |store: &Slow| store.publish_file(FIRST, "out/f", "old").await;
    let refresh = Duration::from_secs(1);
    let Some(disk) = OnDisk::of(fill, refresh) else {
        return;
    };
    let f = disk.dir.path().join("latest/project/out/f");
    assert_eq!(disk.names(""), ["by-step", "by-time", "latest"]);
    assert_eq!(fs::read(&f).unwrap(), b"old");
    let dir = fs::metadata(f.parent().unwrap()).unwrap().ino();
    let opened = fs::File::open(&f).unwrap();
    assert!(!f.with_file_name("g").exists());
    disk.runtime.block_on(async {
        let again = Made { run: 2, ..FIRST };
        disk.store.publish_file(again, "out/f", "renewed").await;
        let other = Made {
            task: Some(1),
            run: 3,
            ..FIRST
        };
        disk.store.publish_file(other, "out/g", "other").await;
    });
    std::thread::sleep(refresh);
    // Listings take their time, and the machine may be busy.
    let late = std::time::Instant::now() + Duration::from_secs(3);
    while fs::read(&f).unwrap() != b"renewed" {
        assert!(
            std::time::Instant::now() < late,
            "the kernel has the old file"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    while !f.with_file_name("g").exists() {
        assert!(
            std::time::Instant::now() < late,
            "the kernel has no new name"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(fs::read(f.with_file_name("g")).unwrap(), b"other");
    assert_eq!(disk.names("latest/project/out"), ["f", "g"]);
    let mut bytes = [0; 3];
    opened.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"old");
    assert_eq!(opened.metadata().unwrap().len(), 3);
    assert_eq!(fs::metadata(f.parent().unwrap()).unwrap().ino(), dir);
    assert!(fs::write(&f, b"x").is_err());
    drop(opened);
    disk.unmount();
}
