//! Tests of the caches: damage, other processes, and the Python client.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};

use attachfs_manifest::Mtime;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::anchor::{Anchor, Folder};
use crate::os::Facts;

mod client;
mod objects;

const NOW: u64 = 1_700_000_000;
const SECOND: i128 = 1_000_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A file as a scan finds it, ten minutes old.
fn file(path: &str) -> ScannedFile {
    let at = i128::from(NOW) * SECOND - 600 * SECOND;
    let (below, name) = path.rsplit_once('/').unwrap();
    let folder = Folder {
        anchor: Arc::new(Anchor::new("/".into()).unwrap()),
        below: below.trim_start_matches('/').as_bytes().into(),
        names: name.as_bytes().into(),
    };
    let facts = Facts {
        mtime: Mtime((at / 1000) as i64),
        runnable: false,
        stamp: FileStamp {
            dev: 1,
            ino: 7,
            size: 5,
            mtime_ns: at,
            ctime_ns: at,
        },
    };
    ScannedFile::new(Arc::new(folder), (0, name.len() as u8), &facts)
}

fn changed(file: &ScannedFile, change: impl FnOnce(&mut ScannedFile)) -> ScannedFile {
    let mut other = file.clone();
    change(&mut other);
    other
}

fn hashes(bytes: &[u8]) -> Vec<ContentHash> {
    vec![ContentHash::of(bytes)]
}

fn options(home: &TempDir) -> HashCacheOptions {
    let path = home.path().join("cache/hashes.db");
    let mut options = HashCacheOptions::new(path, "machine".to_owned(), Day(20_000));
    options.busy_timeout = Duration::from_millis(200);
    options
}

fn caches(options: &HashCacheOptions) -> HashCaches {
    HashCaches {
        own: Some(HashCache::open(options).unwrap()),
        deadline: None,
    }
}

fn look(caches: &HashCaches, file: &ScannedFile) -> Option<Vec<ContentHash>> {
    let mut found = caches.look_up(&[file], ChunkSize::DEFAULT, now());
    found.pop().unwrap()
}

fn keep(caches: &HashCaches, file: &ScannedFile, bytes: &[u8]) {
    caches.remember(file, ChunkSize::DEFAULT, &hashes(bytes), now());
    caches.flush();
}

/// The names in the cache's directory.
fn names(options: &HashCacheOptions) -> Vec<String> {
    let dir = fs::read_dir(options.path.parent().unwrap()).unwrap();
    let mut names: Vec<_> = dir
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_kept_is_found_by_the_next_process() {
    let home = TempDir::new().unwrap();
    let (options, file) = (options(&home), file("/data/a"));
    let first = caches(&options);
    first.remember(&file, ChunkSize::DEFAULT, &hashes(b"hello"), now());
    drop(first);
    assert_eq!(look(&caches(&options), &file), Some(hashes(b"hello")));
}

type Change = fn(&mut ScannedFile);

#[test]
fn every_change_of_the_file_is_a_miss() {
    let home = TempDir::new().unwrap();
    let (caches, same) = (caches(&options(&home)), file("/data/a"));
    keep(&caches, &same, b"hello");
    let changes: [(&str, Change); 5] = [
        ("size", |file| {
            file.size = 6;
            file.stamp.size = 6;
        }),
        ("mtime", |file| file.stamp.mtime_ns += 1),
        ("ctime", |file| file.stamp.ctime_ns += 1),
        ("inode", |file| file.stamp.ino += 1),
        ("path", |changed| *changed = file("/data/a/b")),
    ];
    for (name, change) in changes {
        assert_eq!(look(&caches, &changed(&same, change)), None, "{name}");
    }
    assert_eq!(look(&caches, &same), Some(hashes(b"hello")));
    // A device number that changed with a restart is no change of the file.
    let remounted = changed(&same, |file| file.stamp.dev += 1);
    assert_eq!(look(&caches, &remounted), Some(hashes(b"hello")));
}

#[test]
fn the_same_path_is_another_file_on_another_machine() {
    let home = TempDir::new().unwrap();
    let (here, file) = (options(&home), file("/data/a"));
    let there = HashCacheOptions {
        machine: "other".to_owned(),
        ..here.clone()
    };
    let (here, there) = (caches(&here), caches(&there));
    keep(&here, &file, b"here!");
    assert_eq!(look(&there, &file), None);
    keep(&there, &file, b"there");
    assert_eq!(look(&here, &file), Some(hashes(b"here!")));
    assert_eq!(look(&there, &file), Some(hashes(b"there")));
}

#[test]
fn chunks_are_kept_for_each_chunk_size_and_a_file_of_one_object_for_all() {
    let home = TempDir::new().unwrap();
    let (caches, file) = (caches(&options(&home)), file("/data/a"));
    let size = |bytes: u64| ChunkSize::Bytes(bytes.try_into().unwrap());
    let two = vec![ContentHash::of(b"hel"), ContentHash::of(b"lo")];
    caches.remember(&file, size(3), &two, now());
    caches.remember(&file, size(5), &hashes(b"hello"), now());
    caches.flush();
    let found = |chunk_size| caches.look_up(&[&file], chunk_size, now()).pop().unwrap();
    assert_eq!(found(size(3)), Some(two));
    assert_eq!(found(size(2)), None);
    assert_eq!(found(size(9)), Some(hashes(b"hello")));
    assert_eq!(found(ChunkSize::WholeFile), Some(hashes(b"hello")));
}

#[test]
fn many_files_are_found_at_once_among_many_others_in_any_order() {
    let home = TempDir::new().unwrap();
    let caches = caches(&options(&home));
    let all: Vec<_> = (0..5000).map(|i| file(&format!("/data/{i}"))).collect();
    for (i, file) in all.iter().enumerate().filter(|(i, _)| i % 7 != 0) {
        caches.remember(file, ChunkSize::DEFAULT, &hashes(&[i as u8]), now());
    }
    caches.flush();
    // Every third, one of them twice, and some that lie far from all others.
    let mut wanted: Vec<usize> = (0..5000).step_by(3).collect();
    wanted.push(1);
    wanted.push(1);
    wanted.reverse();
    let mut files: Vec<_> = wanted.iter().map(|&i| &all[i]).collect();
    let outside = [file("/a"), file("/data/9999999"), file("/z")];
    files.extend(&outside);
    let found = caches.look_up(&files, ChunkSize::DEFAULT, now());
    for (&i, found) in wanted.iter().zip(&found) {
        let expected = (i % 7 != 0).then(|| hashes(&[i as u8]));
        assert_eq!(*found, expected, "{i}");
    }
    assert!(found[wanted.len()..].iter().all(Option::is_none));
}

#[test]
fn a_file_that_changed_just_before_it_was_read_is_not_kept() {
    let home = TempDir::new().unwrap();
    let caches = caches(&options(&home));
    let now_ns = i128::from(NOW) * SECOND;
    let aged = |ctime: i128, mtime: i128| {
        changed(&file("/data/a"), |file| {
            file.stamp.ctime_ns = now_ns - ctime;
            file.stamp.mtime_ns = now_ns - mtime;
        })
    };
    for (ctime, mtime, is_kept) in [
        (2 * SECOND, 2 * SECOND, true),
        (2 * SECOND - 1, 2 * SECOND, false),
        (0, 600 * SECOND, false),
        (-5 * SECOND, 600 * SECOND, false),
        (600 * SECOND, SECOND, false),
        (600 * SECOND, -SECOND, false),
        // A modification time that was set: the change time is certain enough.
        (600 * SECOND, -3600 * SECOND, true),
    ] {
        let file = aged(ctime, mtime);
        keep(&caches, &file, b"hello");
        assert_eq!(look(&caches, &file).is_some(), is_kept, "{ctime} {mtime}");
    }
}

#[test]
fn rows_that_nobody_used_for_thirty_days_are_forgotten() {
    let home = TempDir::new().unwrap();
    let first = options(&home);
    let on = |day: u32| HashCacheOptions {
        today: Day(first.today.0 + day),
        ..first.clone()
    };
    let (used, unused) = (file("/data/used"), file("/data/unused"));
    let caches_on = |day| caches(&on(day));
    let begun = caches_on(0);
    keep(&begun, &used, b"used!");
    keep(&begun, &unused, b"not!!");
    drop(begun);
    assert!(look(&caches_on(20), &used).is_some());
    drop(caches_on(30));
    let rows = || -> u32 {
        let connection = Connection::open(&first.path).unwrap();
        let count = "SELECT count(*) FROM hashes";
        connection.query_row(count, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(rows(), 2);
    drop(caches_on(31));
    assert_eq!(rows(), 1);
    assert!(look(&caches_on(50), &used).is_some());
    drop(caches_on(81));
    assert_eq!(rows(), 0);
}

#[test]
fn the_file_and_its_directory_are_private() {
    let home = TempDir::new().unwrap();
    let options = options(&home);
    let caches = caches(&options);
    keep(&caches, &file("/data/a"), b"hello");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(options.path.parent().unwrap()), 0o700);
    for name in names(&options) {
        let path = options.path.with_file_name(&name);
        assert_eq!(mode(&path), 0o600, "{name}");
    }
    drop(caches);
    fs::set_permissions(&options.path, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = HashCache::open(&options).unwrap_err();
    assert_eq!(refused.doing, "trust");
}

#[test]
fn a_cache_is_opened_only_where_nobody_else_can_put_a_file() {
    let home = TempDir::new().unwrap();
    let options = options(&home);
    drop(caches(&options));
    let victim = home.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for ending in ["", "-wal", "-shm", "-journal"] {
        let mut name = options.path.clone().into_os_string();
        name.push(ending);
        let _ = fs::remove_file(&name);
        std::os::unix::fs::symlink(&victim, &name).unwrap();
        let refused = HashCache::open(&options).unwrap_err();
        assert_eq!(refused.doing, "trust", "{ending}: {refused:?}");
        fs::remove_file(&name).unwrap();
    }
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    let dir = options.path.parent().unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(HashCache::open(&options).unwrap_err().doing, "trust");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    HashCache::open(&options).unwrap();
}

#[test]
fn a_file_that_is_no_database_is_set_aside_and_created_anew() {
    let home = TempDir::new().unwrap();
    let options = options(&home);
    drop(caches(&options));
    fs::write(&options.path, "not a database, but long enough to look at").unwrap();
    let caches = caches(&options);
    keep(&caches, &file("/data/a"), b"hello");
    assert!(look(&caches, &file("/data/a")).is_some());
    let aside = fs::read(options.path.with_file_name("hashes.db.damaged")).unwrap();
    assert!(aside.starts_with(b"not a database"));
}

#[test]
fn a_file_of_another_version_or_program_is_set_aside_and_created_anew() {
    for (pragma, ending) in [
        ("user_version = 2", "other-version"),
        ("application_id = 1", "foreign"),
    ] {
        let home = TempDir::new().unwrap();
        let options = options(&home);
        let old = caches(&options);
        keep(&old, &file("/data/a"), b"hello");
        drop(old);
        let connection = Connection::open(&options.path).unwrap();
        connection
            .execute_batch(&format!("PRAGMA {pragma}"))
            .unwrap();
        drop(connection);
        assert_eq!(look(&caches(&options), &file("/data/a")), None);
        let aside = format!("hashes.db.{ending}");
        let connection = Connection::open(options.path.with_file_name(aside)).unwrap();
        let count = "SELECT count(*) FROM hashes";
        let rows: u32 = connection.query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
    }
}

#[test]
fn damage_that_is_found_while_reading_is_a_miss_and_the_file_is_set_aside() {
    let home = TempDir::new().unwrap();
    let options = options(&home);
    let full = caches(&options);
    let all: Vec<_> = (0..2000).map(|i| file(&format!("/data/{i}"))).collect();
    for file in &all {
        full.remember(file, ChunkSize::DEFAULT, &hashes(b"hello"), now());
    }
    drop(full);
    let mut damaged = OpenOptions::new().write(true).open(&options.path).unwrap();
    let len = damaged.metadata().unwrap().len();
    damaged.seek(SeekFrom::Start(6 * 4096)).unwrap();
    damaged
        .write_all(&vec![0xaa; len as usize - 6 * 4096])
        .unwrap();
    drop(damaged);
    let caches = caches(&options);
    let files: Vec<_> = all.iter().collect();
    let found = caches.look_up(&files, ChunkSize::DEFAULT, now());
    assert!(found.iter().all(Option::is_none));
    assert!(names(&options).contains(&"hashes.db.damaged".to_owned()));
    // And it continues without one.
    keep(&caches, &all[0], b"hello");
    assert_eq!(look(&caches, &all[0]), None);
    let begun_anew = self::caches(&options);
    keep(&begun_anew, &all[0], b"hello");
    assert!(look(&begun_anew, &all[0]).is_some());
}

#[test]
fn a_row_whose_bytes_were_altered_is_a_miss() {
    let home = TempDir::new().unwrap();
    let options = options(&home);
    let (caches, file) = (caches(&options), file("/data/a"));
    for alter in [
        "hashes = zeroblob(16)",
        "size = 6",
        "seal = seal + 1",
        "hashes = x'00'",
        "mtime = 'soon'",
    ] {
        keep(&caches, &file, b"hello");
        let connection = Connection::open(&options.path).unwrap();
        let altered = connection.execute(&format!("UPDATE hashes SET {alter}"), []);
        assert_eq!(altered.unwrap(), 1);
        let now = changed(&file, |file| {
            if alter.starts_with("size") {
                file.size = 6;
                file.stamp.size = 6;
            }
        });
        assert_eq!(look(&caches, &now), None, "{alter}");
    }
}

#[test]
fn processes_that_create_a_cache_at_once_all_use_it() {
    let home = TempDir::new().unwrap();
    let options = HashCacheOptions {
        busy_timeout: BUSY_TIMEOUT,
        ..options(&home)
    };
    let together = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (options, together) = (&options, &together);
            scope.spawn(move || {
                together.wait();
                let caches = caches(options);
                for i in 0..2000 {
                    let file = file(&format!("/data/{thread}/{i}"));
                    caches.remember(&file, ChunkSize::DEFAULT, &hashes(b"hello"), now());
                }
            });
        }
    });
    let caches = caches(&options);
    for thread in 0..8 {
        let all: Vec<_> = (0..2000)
            .map(|i| file(&format!("/data/{thread}/{i}")))
            .collect();
        let files: Vec<_> = all.iter().collect();
        let found = caches.look_up(&files, ChunkSize::DEFAULT, now());
        assert_eq!(found.iter().flatten().count(), 2000, "{thread}");
    }
}

#[test]
fn a_damaged_cache_is_set_aside_once_by_all_who_find_it() {
    let home = TempDir::new().unwrap();
    let options = HashCacheOptions {
        busy_timeout: BUSY_TIMEOUT,
        ..options(&home)
    };
    drop(caches(&options));
    fs::write(&options.path, "damaged").unwrap();
    let together = Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (options, together) = (&options, &together);
            scope.spawn(move || {
                together.wait();
                let caches = HashCaches::open(Some(options), None);
                if caches.own.is_some() {
                    let file = file(&format!("/data/{thread}"));
                    keep(&caches, &file, b"hello");
                    assert!(look(&caches, &file).is_some());
                }
            });
        }
    });
    let aside = fs::read(options.path.with_file_name("hashes.db.damaged")).unwrap();
    assert_eq!(aside, b"damaged");
}

#[test]
fn a_reader_sees_what_was_there_before_while_another_process_writes() {
    let home = TempDir::new().unwrap();
    let options = options(&home);
    let (caches, file) = (caches(&options), file("/data/a"));
    keep(&caches, &file, b"hello");
    let other = Connection::open(&options.path).unwrap();
    other
        .execute_batch("BEGIN IMMEDIATE; DELETE FROM hashes")
        .unwrap();
    assert_eq!(look(&caches, &file), Some(hashes(b"hello")));
    // A writer that waits in vain warns and continues without a cache.
    let begun = std::time::Instant::now();
    keep(
        &caches,
        &changed(&file, |file| file.stamp.ino = 8),
        b"other",
    );
    assert!(begun.elapsed() >= options.busy_timeout);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(look(&caches, &file), Some(hashes(b"hello")));
}

#[test]
fn a_writer_waits_for_another_process_to_finish() {
    let home = TempDir::new().unwrap();
    let options = HashCacheOptions {
        busy_timeout: BUSY_TIMEOUT,
        ..options(&home)
    };
    let (caches, file) = (caches(&options), file("/data/a"));
    let other = Connection::open(&options.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let kept = scope.spawn(|| keep(&caches, &file, b"hello"));
        other.execute_batch("COMMIT").unwrap();
        kept.join().unwrap();
    });
    assert_eq!(look(&caches, &file), Some(hashes(b"hello")));
}

#[test]
fn without_a_writable_unlocked_file_there_is_no_cache() {
    let home = TempDir::new().unwrap();
    let blocked = home.path().join("file");
    fs::write(&blocked, "").unwrap();
    for path in [
        blocked.join("hashes.db"),
        PathBuf::from("/proc/attachfs/hashes.db"),
        PathBuf::from("/sys/hashes.db"),
        home.path().to_owned(),
    ] {
        let options = HashCacheOptions {
            path: path.clone(),
            ..options(&home)
        };
        let caches = HashCaches::open(Some(&options), None);
        assert!(caches.own.is_none(), "{}", path.display());
        assert_eq!(look(&caches, &file("/data/a")), None);
        keep(&caches, &file("/data/a"), b"hello");
    }
    let options = options(&home);
    drop(caches(&options));
    let other = Connection::open(&options.path).unwrap();
    other
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
        .unwrap();
    assert!(HashCaches::open(Some(&options), None).own.is_none());
    drop(other);
    assert!(HashCaches::open(Some(&options), None).own.is_some());
}
