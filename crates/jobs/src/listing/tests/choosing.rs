//! Which outputs are used.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{FoundOutputs, LatestBy, Outputs, Which, choose};
use super::{Keys, at, began, digits, farm, output, queue};
use crate::JobAddress;

fn job() -> String {
    format!("{}/job-{}", queue(), digits(3))
}

fn step(number: u64) -> String {
    format!("{}/step-{}", job(), digits(number))
}

fn task(number: u64) -> String {
    format!("{}/task-{}-{number}", step(1), digits(1))
}

fn action(number: u64) -> String {
    format!("sessionaction-{}-{number}", digits(9))
}

/// A run that began and was written at some seconds.
fn put(store: &mut Keys, folder: &str, run: u64, seconds: u64, written: u64, root: u64) {
    let key = format!(
        "{folder}/{}_{}/{}",
        began(seconds),
        action(run),
        output(root)
    );
    store.put(key, Some(at(written)));
}

fn address(below: &str) -> JobAddress {
    let queue = format!("queue-{}", digits(2));
    format!("deadline://{}/{queue}/job-{}{below}", farm(), digits(3))
        .parse()
        .unwrap()
}

async fn found(store: &Keys, below: &str, which: Which) -> FoundOutputs {
    Outputs::of(store, &address(below), which)
        .all()
        .await
        .unwrap()
}

/// The runs that were found, with their roots.
fn runs(found: &FoundOutputs) -> Vec<(String, String)> {
    let manifests = found.manifests.iter();
    manifests
        .map(|one| (one.key.action.to_string(), one.key.root.to_string()))
        .collect()
}

fn expected<const N: usize>(runs: [(u64, u64); N]) -> Vec<(String, String)> {
    runs.map(|(run, root)| (action(run), format!("{root:032x}")))
        .into()
}

#[tokio::test]
async fn the_outputs_of_a_queue_are_those_of_all_its_jobs_and_inputs_are_not_listed() {
    let mut store = Keys::of(1000);
    put(&mut store, &task(0), 1, 1000, 100, 1);
    put(&mut store, &task(0), 2, 2000, 200, 1);
    let other = format!("{}/job-{}/step-{}", queue(), digits(4), digits(1));
    put(&mut store, &other, 3, 1000, 100, 1);
    for number in 0..1500 {
        store.put(
            format!("{}/Inputs/{}/x_input", queue(), digits(number)),
            None,
        );
    }
    let of = |which| {
        let (farm, queue) = (address("").farm, address("").queue);
        Outputs::of_queue(&store, farm, queue, which)
    };
    let all = of(Which::All).all().await.unwrap();
    assert_eq!(runs(&all), expected([(1, 1), (2, 1), (3, 1)]));
    assert_eq!(all.foreign.count, 0);
    assert_eq!(store.requests(), 1);
    let latest = of(Which::Latest(LatestBy::Modified)).all().await.unwrap();
    assert_eq!(runs(&latest), expected([(2, 1), (3, 1)]));
}

#[tokio::test]
async fn the_latest_run_of_a_task_is_the_one_that_was_written_last() {
    let mut store = Keys::of(1000);
    // The second run is on a worker whose clock is an hour behind.
    put(&mut store, &task(0), 1, 5000, 100, 1);
    put(&mut store, &task(0), 2, 1400, 200, 1);
    put(&mut store, &task(0), 2, 1400, 201, 2);
    put(&mut store, &task(1), 3, 100, 100, 1);
    let by_time = found(&store, "", Which::Latest(LatestBy::Modified)).await;
    assert_eq!(runs(&by_time), expected([(2, 1), (2, 2), (3, 1)]));
    assert_eq!(by_time.older, 1);
    let by_name = found(&store, "", Which::Latest(LatestBy::Name)).await;
    assert_eq!(runs(&by_name), expected([(1, 1), (3, 1)]));
    assert_eq!(by_name.older, 2);
    // Both say where they differ.
    assert_eq!(by_time.differing, by_name.differing);
    let [differs] = &by_time.differing[..] else {
        panic!("{by_time:?}")
    };
    assert_eq!(differs.place.task.unwrap().number(), 0);
    assert_eq!(differs.by_modified.1.to_string(), action(2));
    assert_eq!(differs.by_name.1.to_string(), action(1));
    // All runs.
    assert_eq!(found(&store, "", Which::All).await.manifests.len(), 4);
}

#[tokio::test]
async fn of_runs_that_were_written_in_the_same_second_the_name_decides() {
    let mut store = Keys::of(1000);
    put(&mut store, &task(0), 1, 10, 100, 1);
    put(&mut store, &task(0), 2, 11, 100, 1);
    let found = found(&store, "", Which::Latest(LatestBy::Modified)).await;
    assert_eq!(runs(&found), expected([(2, 1)]));
    assert!(found.differing.is_empty());
}

#[tokio::test]
async fn steps_whose_tasks_run_together_have_all_of_their_outputs() {
    let mut store = Keys::of(2);
    for run in 0..5 {
        put(&mut store, &step(2), run, 10 - run, 100, 1);
    }
    put(&mut store, &task(0), 7, 0, 100, 1);
    let all = found(&store, "", Which::Latest(LatestBy::Modified)).await;
    assert_eq!(
        runs(&all),
        expected([(7, 1), (4, 1), (3, 1), (2, 1), (1, 1), (0, 1)])
    );
    let of_step = found(
        &store,
        &format!("/step-{}", digits(2)),
        Which::Latest(LatestBy::Name),
    )
    .await;
    assert_eq!(of_step.manifests.len(), 5);
}

#[tokio::test]
async fn the_outputs_of_a_session_action_are_found_by_its_exact_id() {
    let mut store = Keys::of(3);
    for run in [1, 12] {
        put(&mut store, &task(0), run, run, 100, 1);
        put(&mut store, &task(0), run, run, 100, 2);
        put(&mut store, &step(2), run, run, 100, 1);
    }
    let of = |run: u64| Which::Of(action(run).parse().unwrap());
    let first = format!("/step-{}/task-{}-0", digits(1), digits(1));
    assert_eq!(
        runs(&found(&store, &first, of(1)).await),
        expected([(1, 1), (1, 2)])
    );
    assert_eq!(runs(&found(&store, "", of(12)).await).len(), 3);
    // A task without outputs of its own: those that the action made for its step.
    let chunked = format!("/step-{}/task-{}-0", digits(2), digits(2));
    assert_eq!(
        runs(&found(&store, &chunked, of(12)).await),
        expected([(12, 1)])
    );
    assert!(found(&store, &chunked, of(2)).await.manifests.is_empty());
    // Those of other tasks are not the step's.
    let other = format!("/step-{}/task-{}-5", digits(1), digits(1));
    assert!(found(&store, &other, of(1)).await.manifests.is_empty());
}

#[tokio::test]
async fn nothing_is_found_of_a_job_that_is_not_there_and_foreign_keys_are_told() {
    let mut store = Keys::of(3);
    let none = found(&store, "", Which::Latest(LatestBy::Modified)).await;
    assert_eq!(none, FoundOutputs::default());
    put(&mut store, &task(0), 1, 1, 100, 1);
    for number in 0..12 {
        store.put(format!("{}/{number:02}.txt", task(0)), None);
    }
    let some = found(&store, "", Which::Latest(LatestBy::Modified)).await;
    assert_eq!(some.manifests.len(), 1);
    assert_eq!((some.foreign.count, some.foreign.first.len()), (12, 10));
    let (key, why) = some.foreign.first.first_key_value().unwrap();
    assert_eq!(key, &format!("{}/00.txt", task(0)));
    assert_eq!(why, "it does not have the parts of a job's manifest");
}

/// Task, time, when it was written, root; runs are counted.
type Put = (u64, u64, u64, u64);

fn by_model(puts: &[Put], by: LatestBy) -> Vec<String> {
    let mut tasks: BTreeMap<String, BTreeMap<String, Vec<(u64, String)>>> = BTreeMap::new();
    for (run, &(number, time, written, root)) in puts.iter().enumerate() {
        let folder = format!("{}_{}", began(time), action(run as u64 / 2));
        let key = format!("{}/{folder}/{}", task(number), output(root));
        let runs = tasks.entry(task(number)).or_default();
        let manifests = runs.entry(folder).or_default();
        manifests.retain(|(_, known)| *known != key);
        manifests.push((written, key));
    }
    let mut chosen = Vec::new();
    for runs in tasks.into_values() {
        let modified = |run: &Vec<(u64, String)>| run.iter().map(|(written, _)| *written).max();
        let latest = runs.into_iter().max_by_key(|(name, manifests)| match by {
            LatestBy::Modified => (modified(manifests), name.clone()),
            LatestBy::Name => (None, name.clone()),
        });
        chosen.extend(latest.unwrap().1.into_iter().map(|(_, key)| key));
    }
    chosen.sort();
    chosen
}

proptest! {
    #[test]
    fn the_latest_run_is_that_of_a_plain_model(
        puts in prop::collection::vec((0..12_u64, 0..6_u64, 0..6_u64, 0..3_u64), 0..60),
        page in 1..9_usize,
    ) {
        let mut store = Keys::of(page);
        for (run, &(number, time, written, root)) in puts.iter().enumerate() {
            put(&mut store, &task(number), run as u64 / 2, time, written, root);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let all = runtime.block_on(found(&store, "", Which::All)).manifests;
        let mut used = Vec::new();
        for by in [LatestBy::Modified, LatestBy::Name] {
            let found = runtime.block_on(found(&store, "", Which::Latest(by)));
            let keys: Vec<_> = found.manifests.iter().map(|one| {
                one.key.manifest_key().unwrap().object_key()
            }).collect();
            let chosen = choose(Which::Latest(by), all.iter().copied()).into_iter();
            let chosen: Vec<_> = chosen.flat_map(|chosen| chosen.manifests).collect();
            prop_assert_eq!(&chosen, &found.manifests);
            prop_assert_eq!(&keys, &by_model(&puts, by));
            prop_assert_eq!(found.older as usize, store.all.len() - keys.len());
            used.push((keys, found.differing.len()));
        }
        prop_assert_eq!(used[0].1, used[1].1);
        prop_assert_eq!(used[0].0 == used[1].0, used[0].1 == 0);
    }
}
