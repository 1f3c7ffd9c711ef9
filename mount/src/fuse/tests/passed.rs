//! Files that the kernel writes by itself, in the place of the daemon: that nobody notices but by the time that it takes.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use attachfs_vfs::NotQuiescent;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::testing::{CHUNK, Fixture, PATIENCE, file, pattern};

/// A mount, if the kernel writes files of its scratch directory by itself.
fn passing() -> Option<Fixture> {
    let fixture = Fixture::mounted([
        ("input", file(pattern(CHUNK as usize + 9))),
        ("other", file("other")),
    ])?;
    fs::write(fixture.at("probe"), "probe").unwrap();
    if opens(&fixture) == 0 {
        println!("skipped: the kernel takes no files of the scratch directory from this process");
        return None;
    }
    assert_eq!(written(&fixture), 0);
    Some(fixture)
}

/// How often the kernel was given a scratch file.
fn opens(fixture: &Fixture) -> u64 {
    fixture.vfs.counters().passthrough_scratch_opens
}

/// The bytes that were written through the daemon.
fn written(fixture: &Fixture) -> u64 {
    fixture.vfs.counters().bytes_written
}

fn read_write() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the daemon knows that all files are closed, which is a moment after close(2).
fn until_closed(fixture: &Fixture) {
    until("all files are closed", || !fixture.vfs.is_open());
}

/// A process that runs a Python program in the mount, and says "ready" when it is told to go on.
struct Python(Child);

impl Python {
    fn start(dir: &Path, script: &str) -> Option<Self> {
        let mut python = Command::new("python3");
        python.args(["-c", script]).current_dir(dir);
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        match python.spawn() {
            Ok(child) => {
                let mut this = Self(child);
                this.until_ready();
                Some(this)
            }
            Err(error) => {
                println!("skipped: no python3, which maps files: {error}");
                None
            }
        }
    }

    fn until_ready(&mut self) {
        let mut said = [0; 6];
        let out = self.0.stdout.as_mut().unwrap();
        out.read_exact(&mut said).unwrap();
        assert_eq!(said, *b"ready\n");
    }

    fn go_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn end(mut self) {
        self.go_on();
        assert!(self.0.wait().unwrap().success());
    }
}

/// Maps a new file, closes it, and writes at each line that it reads: at 0 and at 5000. (Python's own `mmap` keeps the file open.)
const MAPS: &str = "
import ctypes, os, sys
def say(): print('ready', flush=True); sys.stdin.readline()
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
fd = os.open('mapped', os.O_RDWR | os.O_CREAT)
if not os.fstat(fd).st_size: os.write(fd, bytes(8192))
at = libc.mmap(None, 8192, 3, 1, fd, 0)
os.close(fd)
say()
ctypes.memmove(at, b'first', 5)
say()
ctypes.memmove(at + 5000, b'second', 6)
say()
";

#[test]
fn the_kernel_writes_files_that_are_made_by_itself_and_all_is_as_ever() {
    let Some(fixture) = passing() else {
        return;
    };
    let long = pattern(3 << 20 | 5);
    fs::write(fixture.at("made"), &long).unwrap();
    assert!(fs::read(fixture.at("made")).unwrap() == long);
    let found = fs::metadata(fixture.at("made")).unwrap();
    assert_eq!(found.len(), long.len() as u64);
    assert!(found.blocks() >= found.len() / 512);
    assert!(found.modified().unwrap() <= SystemTime::now());

    // An input that is made anew, and files under other names.
    fs::write(fixture.at("input"), "anew").unwrap();
    assert_eq!(fs::read(fixture.at("input")).unwrap(), b"anew");
    let mut held = File::create(fixture.at("held")).unwrap();
    held.write_all(b"one").unwrap();
    fs::hard_link(fixture.at("held"), fixture.at("linked")).unwrap();
    fs::rename(fixture.at("held"), fixture.at("other")).unwrap();
    held.write_all(b"two").unwrap();
    for name in ["linked", "other"] {
        assert_eq!(fs::read(fixture.at(name)).unwrap(), b"onetwo", "{name}");
        assert_eq!(fs::metadata(fixture.at(name)).unwrap().len(), 6);
    }
    held.sync_all().unwrap();
    held.set_len(4).unwrap();
    assert_eq!(fs::read(fixture.at("linked")).unwrap(), b"onet");
    fs::remove_file(fixture.at("linked")).unwrap();
    fs::remove_file(fixture.at("other")).unwrap();
    held.write_at(b"gone", 4).unwrap();
    assert_eq!(held.metadata().unwrap().len(), 8);
    drop(held);
    assert_eq!(written(&fixture), 0, "none of it came to the daemon");
    fixture.unmount();
}

#[test]
fn several_who_append_to_one_file_lose_nothing() {
    let Some(fixture) = passing() else {
        return;
    };
    File::create(fixture.at("log")).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4_u8 {
            let path = fixture.at("log");
            scope.spawn(move || {
                let mut log = OpenOptions::new().append(true).open(path).unwrap();
                for _ in 0..200 {
                    log.write_all(&[b'0' + writer; 100]).unwrap();
                }
            });
        }
    });
    let log = fs::read(fixture.at("log")).unwrap();
    assert_eq!(log.len(), 4 * 200 * 100);
    assert!(
        log.chunks(100)
            .all(|line| line.iter().all(|&byte| byte == line[0]))
    );
    assert_eq!(written(&fixture), 0);
    fixture.unmount();
}

#[test]
fn what_the_kernel_had_of_a_file_before_it_wrote_it_by_itself_is_not_read_afterwards() {
    let Some(fixture) = passing() else {
        return;
    };
    for (round, bytes) in ["first", "other", "third"].into_iter().enumerate() {
        let mut options = read_write();
        let mut writer = options.create(round == 0).open(fixture.at("a")).unwrap();
        writer.write_all(bytes.as_bytes()).unwrap();
        drop(writer);
        until_closed(&fixture);
        let before = opens(&fixture);
        // Short, and read first: by the daemon, and the kernel keeps its pages.
        for _ in 0..2 {
            assert_eq!(fs::read(fixture.at("a")).unwrap(), bytes.as_bytes());
            until_closed(&fixture);
        }
        assert_eq!(opens(&fixture), before);
    }
    assert_eq!(written(&fixture), 0);
    fixture.unmount();
}

#[test]
fn attributes_are_not_those_of_before_the_kernel_wrote() {
    let Some(fixture) = passing() else {
        return;
    };
    let stat = |name: &str| fs::metadata(fixture.at(name)).unwrap();
    let mut writer = File::create(fixture.at("a")).unwrap();
    for round in 1..4_u64 {
        let before = stat("a");
        std::thread::sleep(Duration::from_millis(20));
        writer.write_all(b"12345").unwrap();
        let after = stat("a");
        assert_eq!(after.len(), 5 * round);
        assert!(after.modified().unwrap() > before.modified().unwrap());
        assert_eq!(writer.metadata().unwrap().len(), 5 * round);
    }
    drop(writer);
    // A time that is set stays.
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let writer = read_write().open(fixture.at("a")).unwrap();
    writer.set_modified(long_ago).unwrap();
    drop(writer);
    assert_eq!(stat("a").modified().unwrap(), long_ago);
    fixture.unmount();
}

#[test]
fn who_writes_to_a_mapping_after_closing_the_file_is_seen_by_others_and_keeps_it_from_being_quiescent()
 {
    let Some(fixture) = passing() else {
        return;
    };
    let Some(mut mapper) = Python::start(&fixture.root(), MAPS) else {
        return;
    };
    let stat = || fs::metadata(fixture.at("mapped")).unwrap();
    let ino = fixture
        .vfs
        .lookup(attachfs_tree::Ino::ROOT, b"mapped")
        .unwrap()
        .ino;
    until("the file is closed", || !fixture.vfs.has_writer(ino));
    let before = stat();
    std::thread::sleep(Duration::from_millis(20));
    mapper.go_on();
    mapper.until_ready();
    // Before somebody opens it: that has the kernel ask again.
    let after = stat();
    assert!(after.modified().unwrap() > before.modified().unwrap());
    let read = || fs::read(fixture.at("mapped")).unwrap();
    assert!(read().starts_with(b"first"));
    assert!(matches!(
        fixture.vfs.quiesce(ino),
        Err(NotQuiescent::Elsewhere)
    ));
    mapper.go_on();
    mapper.until_ready();
    assert_eq!(read()[5000..5006], *b"second");
    mapper.end();
    assert!(fixture.vfs.quiesce(ino).unwrap().still().unwrap());
    assert_eq!(read()[5000..5006], *b"second");
    fixture.unmount();
}

#[test]
fn a_store_through_a_mapping_changes_the_times_that_the_kernel_knew_before_the_file_was_opened() {
    let Some(fixture) = passing() else {
        return;
    };
    fs::write(fixture.at("mapped"), [0; 8192]).unwrap();
    until_closed(&fixture);
    // As `stat -c %y` asks: the kernel asks the daemon when somebody wants to know the access time of a file that was mapped.
    let times = || {
        let (path, mask) = (fixture.at("mapped"), StatxFlags::MTIME | StatxFlags::CTIME);
        let found = statx(CWD, path, AtFlags::empty(), mask).unwrap();
        [found.stx_mtime, found.stx_ctime].map(|time| (time.tv_sec, time.tv_nsec))
    };
    let before = times();
    std::thread::sleep(Duration::from_millis(20));
    let Some(mut mapper) = Python::start(&fixture.root(), MAPS) else {
        return;
    };
    mapper.go_on();
    mapper.until_ready();
    mapper.end();
    let after = times();
    assert!(after[0] > before[0] && after[1] > before[1]);
    assert_eq!(written(&fixture), 0);
    fixture.unmount();
}

#[test]
fn a_disk_that_the_kernel_fills_says_so_and_what_was_written_before_is_sound() {
    if !crate::testing::can_mount() {
        return;
    }
    let Some(small) = SmallDisk::mounted() else {
        return;
    };
    let mut fixture =
        Fixture::with([("input", file("input"))], Some(small.scratch()), true).unwrap();
    fixture.mount().unwrap();
    fs::write(fixture.at("before"), pattern(100_000)).unwrap();
    let mut full = File::create(fixture.at("full")).unwrap();
    let error = full.write_all(&pattern(32 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    drop(full);
    assert_eq!(written(&fixture), 0);
    assert!(fs::read(fixture.at("before")).unwrap() == pattern(100_000));
    fs::remove_file(fixture.at("full")).unwrap();
    fs::write(fixture.at("after"), pattern(100_000)).unwrap();
    assert!(fs::read(fixture.at("after")).unwrap() == pattern(100_000));
    fixture.unmount();
}

/// A file system of 16 MiB in a file.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mounted() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let script = "truncate -s 16M image && mkfs.ext4 -q -m 0 image && mkdir disk && mount -o loop image disk \
                      && mkdir -m 700 disk/scratch";
        let made = Command::new("sh")
            .args(["-ec", script])
            .current_dir(dir.path())
            .output()
            .unwrap();
        if !made.status.success() {
            println!("skipped: no small disk can be made: {made:?}");
            return None;
        }
        Some(Self(dir))
    }

    fn scratch(&self) -> std::path::PathBuf {
        self.0.path().join("disk/scratch")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let disk = self.0.path().join("disk");
        let _ = rustix::mount::unmount(disk, rustix::mount::UnmountFlags::DETACH);
    }
}
