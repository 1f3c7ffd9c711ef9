//! The Python client's hash cache: its own rows, and the client itself.

use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use super::*;
use crate::cache::deadline::{CREATE, python_bytes};

fn utc() -> LocalZone {
    LocalZone::named("UTC").unwrap()
}

fn shared(home: &TempDir) -> HashCaches {
    let deadline = DeadlineHashCache::open(home.path(), utc(), BUSY_TIMEOUT).unwrap();
    HashCaches {
        own: None,
        deadline: Some(deadline),
    }
}

/// The rows, as SQL shows them.
fn rows(home: &TempDir, columns: &str) -> Vec<String> {
    let connection = Connection::open(home.path().join("hash_cache.db")).unwrap();
    let rows = format!("SELECT {columns} FROM hashesV4 ORDER BY file_path, range_start");
    let mut rows = connection.prepare(&rows).unwrap();
    let rows = rows.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

const ALL: &str = "hex(file_path) || ' ' || hash_algorithm || ' ' || range_start || ' ' \
    || range_end || ' ' || file_hash || ' ' || last_modified_time";

#[test]
fn the_rows_are_those_that_the_client_writes() {
    let vectors = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/caches.json"
    );
    let vectors: serde_json::Value = serde_json::from_slice(&fs::read(vectors).unwrap()).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let (id, row) = (&case["id"], &case["row"]);
        let text = |at: usize| row[at].as_str().unwrap();
        let home = TempDir::new().unwrap();
        let zone = LocalZone::named(case["TZ"].as_str().unwrap()).unwrap();
        let caches = HashCaches {
            own: None,
            deadline: Some(DeadlineHashCache::open(home.path(), zone, BUSY_TIMEOUT).unwrap()),
        };
        let mtime_ns: i128 = case["mtime_ns"].as_i64().unwrap().into();
        // The vector's modification time, and settled.
        let file = changed(&file("/tmp/jav/cache/f"), |file| {
            file.stamp.mtime_ns = mtime_ns;
            file.stamp.ctime_ns = mtime_ns;
        });
        let seen = now() + Duration::from_mins(1);
        let hash: ContentHash = text(4).parse().unwrap();
        caches.remember(&file, ChunkSize::WholeFile, &[hash], seen);
        caches.flush();
        let expected = format!(
            "{} {} {} {} {} {}",
            text(0).to_uppercase(),
            text(1),
            row[2],
            row[3],
            text(4),
            text(5)
        );
        assert_eq!(rows(&home, ALL), [expected], "{id}");
        let types = ["file_path", "hash_algorithm", "range_start", "range_end"];
        let types = types.into_iter().chain(["file_hash", "last_modified_time"]);
        for (column, expected) in types.zip(case["typeof"].as_array().unwrap()) {
            let found = rows(&home, &format!("typeof({column})"));
            assert_eq!(found, [expected.as_str().unwrap()], "{id} {column}");
        }
        let found = caches.look_up(&[&file], ChunkSize::WholeFile, seen);
        assert_eq!(found, [Some(vec![hash])], "{id}");
        let schema = CREATE.replace("IF NOT EXISTS ", "");
        assert_eq!(schema, case["schema"].as_str().unwrap(), "{id}");
    }
}

#[test]
fn chunks_are_ranges_and_all_of_them_must_be_there() {
    let home = TempDir::new().unwrap();
    let caches = shared(&home);
    let (file, size) = (file("/data/a"), ChunkSize::Bytes(3.try_into().unwrap()));
    let two = vec![ContentHash::of(b"hel"), ContentHash::of(b"lo")];
    caches.remember(&file, size, &two, now());
    caches.flush();
    let found = rows(&home, "range_start || '-' || range_end || ' ' || file_hash");
    assert_eq!(
        found,
        [format!("0-3 {}", two[0]), format!("3-5 {}", two[1])]
    );
    assert_eq!(caches.look_up(&[&file], size, now()), [Some(two)]);
    let connection = Connection::open(home.path().join("hash_cache.db")).unwrap();
    connection
        .execute("DELETE FROM hashesV4 WHERE range_start = 3", [])
        .unwrap();
    assert_eq!(caches.look_up(&[&file], size, now()), [None]);
}

#[test]
fn a_name_that_is_not_utf8_is_kept_as_the_client_keeps_it() {
    // '/bad\udcff\udcfe\u00e9\udc80'.encode('utf-8', 'surrogatepass')
    let path = std::ffi::OsStr::from_bytes(b"/bad\xff\xfe\xc3\xa9\x80");
    assert_eq!(
        python_bytes(Path::new(path)),
        b"/bad\xed\xb3\xbf\xed\xb3\xbe\xc3\xa9\xed\xb2\x80"
    );
}

#[test]
fn the_clients_hash_of_a_file_modified_just_now_is_not_used() {
    let home = TempDir::new().unwrap();
    let caches = shared(&home);
    let file = file("/data/a");
    keep(&caches, &file, b"hello");
    let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(NOW - 600 + seconds);
    let found = |now| {
        caches
            .look_up(&[&file], ChunkSize::WholeFile, now)
            .remove(0)
    };
    assert_eq!(found(at(1)), None);
    assert_eq!(found(at(2)), Some(hashes(b"hello")));
}

#[test]
fn our_own_cache_overrules_the_clients_for_a_file_altered_under_its_old_time() {
    let home = TempDir::new().unwrap();
    let both = HashCaches {
        own: Some(HashCache::open(&options(&home)).unwrap()),
        ..shared(&home)
    };
    let before = file("/data/a");
    keep(&both, &before, b"hello");
    let altered = changed(&before, |file| file.stamp.ctime_ns += SECOND);
    assert_eq!(look(&both, &altered), None);
    // The client's cache alone would not notice.
    drop(both);
    assert_eq!(look(&shared(&home), &altered), Some(hashes(b"hello")));
}

#[test]
fn a_hash_from_the_client_is_not_copied_to_our_own_cache() {
    let home = TempDir::new().unwrap();
    let file = file("/data/a");
    keep(&shared(&home), &file, b"hello");
    let both = HashCaches {
        own: Some(HashCache::open(&options(&home)).unwrap()),
        ..shared(&home)
    };
    assert_eq!(look(&both, &file), Some(hashes(b"hello")));
    drop(both);
    assert_eq!(look(&caches(&options(&home)), &file), None);
}

#[test]
fn rows_that_the_client_did_not_write_are_misses() {
    let home = TempDir::new().unwrap();
    let caches = shared(&home);
    let file = file("/data/a");
    let connection = Connection::open(home.path().join("hash_cache.db")).unwrap();
    for alter in [
        "file_hash = 'no hash'",
        "file_hash = upper(file_hash) || 'x'",
        "file_hash = 7",
        "last_modified_time = 1699999400",
        "last_modified_time = NULL",
    ] {
        keep(&caches, &file, b"hello");
        assert!(look(&caches, &file).is_some());
        connection
            .execute(&format!("UPDATE hashesV4 SET {alter}"), [])
            .unwrap();
        assert_eq!(look(&caches, &file), None, "{alter}");
    }
}

#[test]
fn a_damaged_file_of_the_client_is_left_alone() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("hash_cache.db");
    fs::write(&path, "this is not the database of anybody at all").unwrap();
    let caches = HashCaches::open(None, Some((home.path(), utc())));
    assert!(caches.deadline.is_none());
    assert!(fs::read(&path).unwrap().starts_with(b"this is not"));
}

/// The client's Python interpreter; prints why there is none.
fn python() -> Option<PathBuf> {
    let Some(python) = std::env::var_os("ATTACHFS_PYTHON").map(PathBuf::from) else {
        skip("ATTACHFS_PYTHON does not name a python3 that has the package deadline");
        return None;
    };
    let found = Command::new(&python)
        .args(["-c", "import deadline.job_attachments.caches"])
        .output();
    if found.is_ok_and(|found| found.status.success()) {
        return Some(python);
    }
    skip("the python3 of ATTACHFS_PYTHON does not have the package deadline");
    None
}

fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Runs a script of the client with both caches open; gives what it prints.
fn run(python: &Path, home: &TempDir, script: &str, arguments: &[&str]) -> String {
    let begin = "
import os, sys
from datetime import datetime
from deadline.job_attachments.caches import HashCache, HashCacheEntry, S3CheckCache, S3CheckCacheEntry
from deadline.job_attachments.asset_manifests.hash_algorithms import HashAlgorithm
home, arguments = sys.argv[1], sys.argv[2:]
modified = lambda path: str(datetime.fromtimestamp(os.stat(path).st_mtime))
";
    let ran = Command::new(python)
        .args(["-c", &format!("{begin}{script}")])
        .arg(home.path())
        .args(arguments)
        .env("TZ", "America/New_York")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{said}");
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn the_client_and_attachfs_find_each_others_hashes_at_the_same_time() {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let Some(python) = python() else { return };
    let home = TempDir::new().unwrap();
    let zone = LocalZone::named("America/New_York").unwrap();
    let deadline = DeadlineHashCache::open(home.path(), zone, BUSY_TIMEOUT).unwrap();
    let mut scanned = Vec::new();
    for (i, (seconds, nanoseconds)) in [
        (1_700_000_000, 123_456_789),
        (1_700_000_000, 0),
        (1_690_000_000, 999_999_999),
        (-1_000_000_000, 500_000_500),
        // The hour that occurs twice when summer time ends.
        (1_699_165_800, 1),
        (1_699_169_400, 1),
        (4_000_000_000, 123_456_500),
    ]
    .into_iter()
    .enumerate()
    {
        let path = home.path().canonicalize().unwrap().join(i.to_string());
        fs::write(&path, "x").unwrap();
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        let file = changed(&file(path.to_str().unwrap()), |file| {
            file.stamp.mtime_ns = i128::from(seconds) * SECOND + i128::from(nanoseconds);
        });
        deadline.remember(&file, ChunkSize::WholeFile, &hashes(&[i as u8]));
        scanned.push(file);
    }
    deadline.flush();
    let paths: Vec<String> = scanned
        .iter()
        .map(|file| file.source().into_os_string().into_string().unwrap())
        .collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();

    // Ours are hits there, while both have the file open.
    let found = run(
        &python,
        &home,
        "
with HashCache(home) as cache:
    for path in arguments:
        entry = cache.get_entry(path, HashAlgorithm.XXH128)
        print(entry.file_hash if entry.last_modified_time == modified(path) else 'modified')
",
        &paths,
    );
    let expected: Vec<_> = (0..paths.len())
        .map(|i| ContentHash::of(&[i as u8]).to_string())
        .collect();
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);

    // Theirs are hits here, whole files and ranges.
    let theirs = ContentHash::of(b"theirs");
    run(
        &python,
        &home,
        "
with HashCache(home) as cache:
    for path in arguments[1:]:
        for start, end in [(0, -1), (0, 3), (3, 5)]:
            cache.put_entry(HashCacheEntry(path, HashAlgorithm.XXH128, arguments[0], modified(path), start, end))
",
        &[&[theirs.to_string().as_str()], &paths[..]].concat(),
    );
    for file in &scanned {
        let size = ChunkSize::Bytes(3.try_into().unwrap());
        assert_eq!(
            deadline.look_up(&[file], ChunkSize::WholeFile),
            [Some(vec![theirs])]
        );
        assert_eq!(deadline.look_up(&[file], size), [Some(vec![theirs; 2])]);
    }
}

#[test]
fn the_client_and_attachfs_find_each_others_seen_objects() {
    let Some(python) = python() else { return };
    let home = TempDir::new().unwrap();
    let cache = S3CheckCache::open(home.path(), BUSY_TIMEOUT).unwrap();
    let now = SystemTime::now();
    cache.remember("bucket/p/Data/a.xxh128", now);
    cache.remember(
        "bucket/p/Data/old.xxh128",
        now - Duration::from_hours(31 * 24),
    );
    cache.flush();
    let found = run(
        &python,
        &home,
        "
with S3CheckCache(home) as cache:
    for name in ['a', 'old', 'never']:
        print(cache.get_entry(f'bucket/p/Data/{name}.xxh128') is not None)
    cache.put_entry(S3CheckCacheEntry('bucket/p/Data/b.xxh128', str(datetime.now().timestamp())))
",
        &[],
    );
    assert_eq!(found, "True\nFalse\nFalse\n");
    let key = "bucket/p/Data/b.xxh128".to_owned();
    assert_eq!(cache.look_up(&[key], SystemTime::now()), [true]);
}
