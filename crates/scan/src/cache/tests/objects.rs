//! Objects that were seen in a bucket.

use super::*;

const DAY: Duration = Duration::from_hours(24);

fn open(home: &TempDir) -> S3CheckCache {
    S3CheckCache::open(home.path(), Duration::from_millis(200)).unwrap()
}

fn is_known(cache: &S3CheckCache, key: &str, now: SystemTime) -> bool {
    cache.look_up(&[key.to_owned()], now) == [true]
}

#[test]
fn an_object_is_known_for_thirty_days() {
    let home = TempDir::new().unwrap();
    let cache = open(&home);
    cache.remember("b/p/Data/h.xxh128", now());
    cache.flush();
    let after = |seconds: u64| {
        let later = now() + Duration::from_secs(seconds);
        is_known(&cache, "b/p/Data/h.xxh128", later)
    };
    assert!(after(0));
    assert!(after(30 * 86_400 - 1));
    assert!(!after(30 * 86_400));
    assert!(!is_known(&cache, "b/p/Data/other.xxh128", now()));
    // A time from a clock that was far ahead is ignored.
    assert!(!is_known(&cache, "b/p/Data/h.xxh128", now() - 2 * DAY));
}

#[test]
fn the_last_time_counts_and_the_next_process_finds_it() {
    let home = TempDir::new().unwrap();
    let cache = open(&home);
    cache.remember("b/k", now());
    cache.remember("b/k", now() + 20 * DAY);
    drop(cache);
    assert!(is_known(&open(&home), "b/k", now() + 40 * DAY));
}

#[test]
fn a_prefix_is_forgotten_and_its_neighbours_are_not() {
    let home = TempDir::new().unwrap();
    let cache = open(&home);
    let keys = [
        "b/p/Data/1",
        "b/p/Data/2",
        "b/pp/Data/1",
        "b/p.x/Data/1",
        "b/q/Data/1",
        "bb/p/Data/1",
    ];
    let known = || -> Vec<_> {
        keys.into_iter()
            .filter(|key| is_known(&cache, key, now()))
            .collect()
    };
    for key in keys {
        cache.remember(key, now());
    }
    // Also rows that were not written yet.
    cache.forget("b", "p");
    assert_eq!(known(), keys[2..]);
    cache.forget("b", "");
    assert_eq!(known(), ["bb/p/Data/1"]);
}

#[test]
fn many_objects_are_looked_up_at_once_and_answered_in_their_order() {
    let home = TempDir::new().unwrap();
    let cache = open(&home);
    let keys: Vec<_> = (0..1000).map(|i| format!("b/Data/{i}")).collect();
    for key in keys.iter().step_by(3) {
        cache.remember(key, now());
    }
    cache.flush();
    let expected: Vec<_> = (0..1000).map(|i| i % 3 == 0).collect();
    assert_eq!(cache.look_up(&keys, now()), expected);
}

#[test]
fn times_are_numbers_and_anything_else_is_a_miss() {
    let home = TempDir::new().unwrap();
    let cache = open(&home);
    cache.remember("b/half", now() + Duration::from_millis(500));
    cache.remember("b/whole", now());
    cache.flush();
    let connection = Connection::open(home.path().join("s3_check_cache.db")).unwrap();
    let kind = |key: &str| -> String {
        let kind = "SELECT typeof(last_seen_time) FROM s3checkV1 WHERE s3_key = ?1";
        connection.query_row(kind, [key], |row| row.get(0)).unwrap()
    };
    // As the column's affinity converts the client's text.
    connection
        .execute(
            "INSERT INTO s3checkV1 VALUES ('b/theirs', '1700000000.5'), ('b/theirs-whole', '1700000000.0')",
            [],
        )
        .unwrap();
    assert_eq!(kind("b/half"), kind("b/theirs"));
    assert_eq!(kind("b/whole"), kind("b/theirs-whole"));
    for key in ["b/half", "b/whole", "b/theirs", "b/theirs-whole"] {
        assert!(is_known(&cache, key, now()), "{key}");
    }
    for bad in ["'soon'", "NULL", "x'31'", "9e999", "-9e999"] {
        connection
            .execute(&format!("UPDATE s3checkV1 SET last_seen_time = {bad}"), [])
            .unwrap();
        assert!(!is_known(&cache, "b/half", now()), "{bad}");
    }
}

#[test]
fn rows_that_could_not_be_deleted_are_not_used() {
    let home = TempDir::new().unwrap();
    let cache = open(&home);
    cache.remember("b/p/Data/1", now());
    cache.flush();
    let other = Connection::open(home.path().join("s3_check_cache.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    cache.forget("b", "p");
    assert!(!is_known(&cache, "b/p/Data/1", now()));
}
