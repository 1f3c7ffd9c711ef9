//! What keys know of jobs.

use std::collections::BTreeSet;

use super::super::{Known, KnownJobs, KnownScope, Span};
use super::{Keys, at, began, digits, farm, output, queue};

async fn known(store: &Keys, scope: &KnownScope, since: Option<u64>) -> Vec<Known> {
    let mut listing = KnownJobs::of(store, scope, since.map(at));
    let mut all = Vec::new();
    while let Some(some) = listing.next().await.unwrap() {
        assert!(!some.is_empty());
        all.extend(some);
    }
    all
}

fn action(number: u64) -> String {
    format!("sessionaction-{}-{number}", digits(9))
}

/// Two queues. In the first: inputs; a job of 30 tasks, which ran twice, below two roots; and jobs of one run each.
fn store(page: usize) -> Keys {
    let mut store = Keys::of(page);
    for number in 0..40_u64 {
        let input = format!(
            "{}/Inputs/{}/{:032x}_input",
            queue(),
            digits(number << 58 | number),
            1
        );
        store.put(input, Some(at(number)));
    }
    let step = format!("{}/job-{}/step-{}", queue(), digits(7 << 60), digits(1));
    for run in 0..60_u64 {
        let task = format!("{step}/task-{}-{}", digits(1), run % 30);
        let folder = format!("{task}/{}_{}", began(run), action(run));
        store.put(format!("{folder}/{}", output(1)), Some(at(run + 100)));
        store.put(format!("{folder}/{}", output(2)), Some(at(run + 101)));
    }
    for job in [1_u64, 9, 12] {
        let step = format!("{}/job-{}/step-{}", queue(), digits(job << 60), digits(2));
        store.put(
            format!("{step}/{}_{}/{}", began(5), action(1), output(1)),
            None,
        );
    }
    let other = format!("Manifests/{}/queue-{}", farm(), digits(3));
    store.put(
        format!("{other}/Inputs/{}/{:032x}_input", digits(1), 1),
        Some(at(7)),
    );
    // What attachfs keeps beside them is no key of a job, and nothing foreign.
    store.put("Manifests/attachfs/session/1.manifest", Some(at(1)));
    store.put("Manifests/notes/1.manifest", Some(at(1)));
    store
}

#[tokio::test]
async fn jobs_are_counted_whatever_the_pages_and_ranges() {
    let first = known(&store(1000), &KnownScope::All, None).await;
    assert_eq!(first.len(), 6);
    let Known::Inputs(inputs) = &first[0] else {
        panic!("{first:?}")
    };
    assert_eq!(inputs.manifests, 40);
    assert_eq!(
        inputs.modified,
        Some(Span {
            first: at(0),
            last: at(39)
        })
    );
    let jobs: Vec<_> = first
        .iter()
        .filter_map(|known| match known {
            Known::Job(job) => Some(job),
            Known::Inputs(_) => None,
        })
        .collect();
    let large = jobs[1].total();
    assert_eq!((large.tasks, large.actions, large.manifests), (30, 60, 120));
    assert_eq!(
        large.modified,
        Some(Span {
            first: at(100),
            last: at(160)
        })
    );
    assert_eq!(large.began.first.to_string(), began(0));
    assert_eq!(large.began.last.to_string(), began(59));
    let small = jobs[0].total();
    assert_eq!((small.tasks, small.actions, small.modified), (0, 1, None));
    for page in [1, 2, 3, 7, 50] {
        let again = known(&store(page), &KnownScope::All, None).await;
        assert_eq!(again, first, "pages of {page}");
    }
}

#[tokio::test]
async fn a_listing_is_taken_up_behind_any_job() {
    let store = store(3);
    let all = known(&store, &KnownScope::All, None).await;
    for (place, known) in all.iter().enumerate() {
        let Known::Job(job) = known else { continue };
        let mut rest = Vec::new();
        let mut listing = KnownJobs::after(&store, &KnownScope::All, None, Some(job.end()));
        while let Some(some) = listing.next().await.unwrap() {
            rest.extend(some);
        }
        assert_eq!(rest, all[place + 1..]);
    }
}

#[tokio::test]
async fn what_was_written_before_a_time_is_not_counted() {
    let store = store(10);
    let late = known(&store, &KnownScope::All, Some(150)).await;
    let jobs: BTreeSet<_> = late.iter().map(|known| format!("{known:?}")).collect();
    assert_eq!(jobs.len(), 1, "{late:?}");
    let Known::Job(job) = &late[0] else {
        panic!("{late:?}")
    };
    // Those of the runs 49 (its second manifest) to 59.
    assert_eq!((job.total().actions, job.total().manifests), (11, 21));
    // Where the store tells no time, that of the session action counts.
    assert_eq!(known(&store, &KnownScope::All, Some(5)).await.len(), 6);
    assert_eq!(known(&store, &KnownScope::All, Some(6)).await.len(), 3);
}

#[tokio::test]
async fn a_scope_is_a_farm_a_queue_or_a_job() {
    let store = store(10);
    let farm = farm().parse().unwrap();
    let queue = |number| format!("queue-{}", digits(number)).parse().unwrap();
    let job = format!("job-{}", digits(7 << 60)).parse().unwrap();
    for (scope, found) in [
        (KnownScope::Farm(farm), 6),
        (KnownScope::Queue(farm, queue(2)), 5),
        (KnownScope::Queue(farm, queue(3)), 1),
        (KnownScope::Queue(farm, queue(4)), 0),
        (KnownScope::Job(farm, queue(2), job), 1),
    ] {
        assert_eq!(known(&store, &scope, None).await.len(), found, "{scope:?}");
    }
    let mut listing = KnownJobs::of(&store, &KnownScope::All, None);
    while listing.next().await.unwrap().is_some() {}
    assert_eq!(listing.foreign().count, 1);
    assert_eq!(listing.listed(), store.all.len() as u64);
}
