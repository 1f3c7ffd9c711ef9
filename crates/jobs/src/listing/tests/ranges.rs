//! The listing in ranges, and that of folders.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attachfs_store::{Folder, Listed};
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::ranges::{Ranges, Reduce};
use super::super::{Folders, ForeignKeys};
use super::{Keys, began, digits, output, queue};

/// Gives every key.
#[derive(Debug, Clone)]
struct Every;

impl Reduce for Every {
    type Item = String;

    fn take(&mut self, entry: Listed, ready: &mut VecDeque<String>, _: &mut ForeignKeys) {
        ready.push_back(entry.key);
    }

    fn end(&mut self, _: &mut VecDeque<String>) {}
}

fn all_of(folder: &str) -> Folder {
    Folder::Manifests(folder.parse().unwrap())
}

async fn listed(store: &Keys, folder: &str) -> Vec<String> {
    let mut ranges = Ranges::of(store, all_of(folder), None, None, Every);
    let mut keys = Vec::new();
    while let Some(some) = ranges.next().await.unwrap() {
        assert!(!some.is_empty());
        keys.extend(some);
    }
    assert_eq!(ranges.listed(), keys.len() as u64);
    keys
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

/// Keys as jobs have them, and others between them.
fn any_key() -> impl Strategy<Value = String> {
    let job = (0..40_u64, 0..3_u64, 0..200_u64, 0..3_u64);
    prop_oneof![
        8 => job.prop_map(|(job, step, task, root)| {
            let (job, step) = (digits(job << 56), digits(step));
            format!("{}/job-{job}/step-{step}/task-{step}-{task}/{}_s/{}", queue(), began(0), output(root))
        }),
        2 => (0..40_u64).prop_map(|id| format!("{}/Inputs/{}/x_input", queue(), digits(id << 56))),
        1 => "[0-9a-z/]{1,8}".prop_map(|text| format!("{}/{text}", queue())),
        1 => "(job-|job-4|step-|task-|Inputs0|job-f)".prop_map(|text| format!("{}/{text}", queue())),
        1 => "[a-z]{1,3}".prop_map(|text| format!("Manifests/{text}")),
    ]
}

proptest! {
    #[test]
    fn a_listing_in_ranges_has_every_key_once_and_in_order(
        keys in prop::collection::btree_set(any_key(), 0..300),
        page in 1..20_usize,
        slow in 0..3_u64,
    ) {
        let mut store = Keys::of(page);
        store.takes = Duration::from_millis(slow);
        for key in &keys {
            store.put(key, None);
        }
        let expected: Vec<_> = keys.iter().cloned().collect();
        prop_assert_eq!(run(listed(&store, "")), expected);
        let queue = queue().replacen("Manifests/", "", 1);
        let below = format!("Manifests/{queue}/");
        let expected: Vec<_> = keys.into_iter().filter(|key| key.starts_with(&below)).collect();
        prop_assert_eq!(run(listed(&store, &queue)), expected);
    }
}

/// A store as S3 is, 20 ms away.
fn s3() -> Keys {
    let mut store = Keys::of(1000);
    store.takes = Duration::from_millis(20);
    store
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_many_manifests_is_listed_in_many_ranges_at_once() {
    let mut store = s3();
    let mut random = 1_u64;
    for _ in 0..1000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let step = format!("{}/job-{}/step-{}", queue(), digits(random), digits(1));
        for task in 0..100 {
            let task = format!("task-{}-{task}", digits(1));
            store.put(format!("{step}/{task}/{}_s/{}", began(0), output(1)), None);
        }
    }
    let began = Instant::now();
    assert_eq!(listed(&store, "").await.len(), 100_000);
    // One after the other these are 100 requests, 2 seconds.
    let took = began.elapsed();
    assert!(took < Duration::from_millis(600), "{took:?}");
    assert!(store.requests() < 200, "{}", store.requests());
}

#[tokio::test(start_paused = true)]
async fn a_job_of_many_tasks_is_listed_in_many_ranges_at_once() {
    let mut store = s3();
    for task in 0..40_000 {
        let job = format!("{}/job-{}/step-{}", queue(), digits(5), digits(1));
        let task = format!("task-{}-{task}", digits(1));
        store.put(format!("{job}/{task}/{}_s/{}", began(0), output(1)), None);
    }
    let began = Instant::now();
    assert_eq!(listed(&store, "").await.len(), 40_000);
    // One after the other these are 40 requests, 800 ms.
    let took = began.elapsed();
    assert!(took < Duration::from_millis(400), "{took:?}");
    assert!(store.requests() < 120, "{}", store.requests());
}

#[tokio::test(start_paused = true)]
async fn a_short_listing_is_one_request_and_an_empty_one_is_empty() {
    let mut store = s3();
    assert!(listed(&store, "farm").await.is_empty());
    assert_eq!(store.requests(), 1);
    for number in 0..900 {
        store.put(format!("Manifests/farm/job-{number:04}/x"), None);
    }
    assert_eq!(listed(&store, "farm").await.len(), 900);
    assert_eq!(store.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_listing_does_not_run_ahead_of_who_reads_it() {
    let mut store = Keys::of(1000);
    store.takes = Duration::from_millis(1);
    for number in 0..400_000_u64 {
        store.put(format!("{}/job-{}/x", queue(), digits(number << 45)), None);
    }
    let mut ranges = Ranges::of(&store, all_of(""), None, None, Every);
    // The first range is the shortest here: all others have much to give before it has ended.
    let first = ranges.next().await.unwrap().unwrap();
    let mut read = first.len() as u64;
    while let Some(some) = ranges.next().await.unwrap() {
        read += some.len() as u64;
        let waiting = ranges.listed() - read;
        assert!(waiting <= (1 << 16) + 17_000, "{waiting}");
    }
    assert_eq!(read, 400_000);
}

#[tokio::test(start_paused = true)]
async fn a_listing_goes_on_after_a_failure_and_loses_nothing() {
    let mut store = s3();
    store.page = 10;
    for number in 0..2000_u64 {
        store.put(format!("{}/job-{}/x", queue(), digits(number << 53)), None);
    }
    let mut ranges = Ranges::of(&store, all_of(""), None, None, Every);
    let mut keys: Vec<String> = Vec::new();
    let mut failures = 0;
    loop {
        if store.requests() % 7 == 3 {
            store.fails.store(true, Ordering::Relaxed);
        }
        match ranges.next().await {
            Ok(Some(some)) => keys.extend(some),
            Ok(None) => break,
            Err(_) => failures += 1,
        }
    }
    assert!(failures > 3, "{failures}");
    assert!(keys.iter().eq(store.all.keys()));
}

#[tokio::test(start_paused = true)]
async fn folders_are_found_without_what_is_in_them() {
    let mut store = s3();
    for job in 0..50_u64 {
        for task in 0..3000 {
            store.put(format!("Manifests/f/q/job-{job:02}/{task}/x"), None);
        }
    }
    store.put("Manifests/f/q/job-07-a/x", None);
    store.put("Manifests/f/q/in the folder itself", None);
    store.put("Manifests/f/r/x", None);
    let names = async |folder: &str| {
        let mut folders = Folders::of(&store, folder.parse().unwrap());
        let mut names = Vec::new();
        while let Some(some) = folders.next().await.unwrap() {
            names.extend(some);
        }
        names
    };
    let mut expected: Vec<_> = (0..50).map(|job| format!("job-{job:02}")).collect();
    expected.push("job-07-a".to_owned());
    // `-` comes before `/`.
    expected.sort_by_key(|name| format!("{name}/"));
    assert_eq!(names("f/q").await, expected);
    assert!(store.requests() <= 52, "{}", store.requests());
    assert_eq!(names("f").await, ["q", "r"]);
    assert_eq!(names("").await, ["f"]);
    assert!(names("nowhere").await.is_empty());
}
