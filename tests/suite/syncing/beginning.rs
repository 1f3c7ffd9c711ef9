//! From when on outputs are fetched, what AWS's client has fetched, and jobs without a storage profile.

use std::fs;

use serde_json::json;

use super::{arguments, files, of, placed, run};
use crate::farm::{Farm, Output};
use crate::machine::{Machine, on_both_stores};

on_both_stores![
    a_checkpoint_begins_two_minutes_before_the_time_that_was_said,
    what_the_client_of_aws_has_fetched_is_left,
    jobs_without_a_storage_profile_wait_until_their_document_has_one,
];

fn publish(farm: &Farm<'_>, job: u32, action: u32, path: &str, seconds: i64) {
    let key = farm.publish(&Output {
        job,
        task: Some(action),
        action,
        files: &[(path, "text")],
        ..Output::default()
    });
    farm.written(&key, seconds);
}

fn a_checkpoint_begins_two_minutes_before_the_time_that_was_said(machine: &Machine) {
    let farm = Farm::of(machine);
    publish(&farm, 1, 1, "long before", 1000 - 130);
    publish(&farm, 1, 2, "just before", 1000 - 110);
    publish(&farm, 1, 3, "later", 1100);
    // 1,000 s after the beginning.
    let since = ["--since", "2025-01-31T12:16:40Z"];
    let told = run(machine, arguments(machine, &farm, &since), 0);
    assert_eq!(told["earlier_manifests"], 1, "{told}");
    let all = files([("just before", "text"), ("later", "text")]);
    assert_eq!(placed(&machine.path("proj")), all);
    // It stays so, whatever is said later.
    for more in [&[][..], &["--since", "2025-01-31"]] {
        let told = run(machine, arguments(machine, &farm, more), 0);
        assert_eq!(told["earlier_manifests"], 1, "{told}");
        assert_eq!(told["read_manifests"], 0);
    }
    let anew = ["--force-bootstrap", "--since", "2025-01-31"];
    run(machine, arguments(machine, &farm, &anew), 0);
    assert_eq!(placed(&machine.path("proj")).len(), 3);
}

fn what_the_client_of_aws_has_fetched_is_left(machine: &Machine) {
    let farm = Farm::of(machine);
    // Of a session that goes on, up to its action 2.
    for action in 1..=3 {
        publish(&farm, 1, action, &format!("action {action}"), 2000);
    }
    // Of a job whose sessions have ended.
    publish(&farm, 2, 11, "before the end", 100);
    publish(&farm, 2, 12, "requeued", 300);
    // Of jobs that the client does not name any more, or not yet.
    publish(&farm, 3, 21, "forgotten", 1000 - 130);
    publish(&farm, 4, 22, "unseen", 1000 - 110);
    let session = format!("session-{:032x}", 5);
    let checkpoint = json!({
        "localStorageProfileId": null,
        "downloadsStartedTimestamp": "2025-01-31T12:00:00+00:00",
        "downloadsCompletedTimestamp": "2025-01-31T12:16:40+00:00",
        "eventualConsistencyMaxSeconds": 120,
        "jobs": [
            {
                "job": { "jobId": Farm::job(1), "name": "shot" },
                "sessionEndedTimestamp": "2025-01-31T12:00:01.500000+00:00",
                "sessionCompletedIndexes": { session: 2 },
            },
            {
                "job": { "jobId": Farm::job(2) },
                "sessionEndedTimestamp": "2025-01-31T12:03:20+00:00",
            },
        ],
    });
    let file = machine.file("theirs.json", checkpoint.to_string());
    let theirs = ["--import-checkpoint", file.to_str().unwrap()];
    let told = run(machine, arguments(machine, &farm, &theirs), 0);
    assert_eq!(told["imported_manifests"], 4, "{told}");
    let all = files([
        ("action 3", "text"),
        ("requeued", "text"),
        ("unseen", "text"),
    ]);
    assert_eq!(placed(&machine.path("proj")), all);
    let told = run(machine, arguments(machine, &farm, &[]), 0);
    assert_eq!(told["read_manifests"], 0, "{told}");
    let said = machine.says(arguments(machine, &farm, &theirs));
    said.with_code(2).saying("has begun already");
    fs::write(&file, "{\"jobs\":3}").unwrap();
    let anew = ["--force-bootstrap", theirs[0], theirs[1]];
    let said = machine.says(arguments(machine, &farm, &anew));
    said.with_code(2).saying("theirs.json");
}

fn jobs_without_a_storage_profile_wait_until_their_document_has_one(machine: &Machine) {
    let farm = Farm::of(machine);
    let (theirs, here) = (format!("sp-{:032x}", 1), format!("sp-{:032x}", 2));
    let profile = |id: &str, path: &str| {
        let profile = json!({
            "storageProfileId": id, "displayName": "p", "osFamily": "linux",
            "fileSystemLocations": [{ "name": "Projects", "path": path, "type": "LOCAL" }],
        });
        machine.file(format!("{id}.json"), profile.to_string())
    };
    let proj = machine.path("proj");
    let source = profile(&theirs, "/proj");
    let local = profile(&here, proj.to_str().unwrap());
    for job in [1, 2] {
        farm.publish(&Output {
            job,
            root: "/proj/shot",
            location: Some("Projects"),
            files: &[(&job.to_string(), "text")],
            ..Output::default()
        });
    }
    let jobs = |second: Option<&str>| {
        let mut jobs = json!({ "jobs": [
            { "jobId": Farm::job(1), "name": "one", "storageProfileId": theirs },
            { "jobId": Farm::job(2), "name": "two" },
        ]});
        if let Some(id) = second {
            jobs["jobs"][1]["storageProfileId"] = json!(id);
        }
        machine.file("jobs.json", jobs.to_string())
    };
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let arguments = |jobs: Option<std::path::PathBuf>| {
        let (source, local) = (text(&source), text(&local));
        let mut more = vec![
            "--storage-profile-json",
            &source,
            "--local-storage-profile-json",
            &local,
        ];
        let jobs = jobs.map(|jobs| text(&jobs));
        if let Some(jobs) = &jobs {
            more.extend(["--jobs-json", jobs]);
        }
        of(machine, &farm.address(), &more)
    };
    let told = run(machine, arguments(Some(jobs(None))), 0);
    assert_eq!(
        told["jobs_without_downloads"]["missing_storage_profile"], 1,
        "{told}"
    );
    assert_eq!(told["jobs"][Farm::job(1).to_string()]["name"], "one");
    assert_eq!(placed(&proj), files([("shot/1", "text")]));
    // It is remembered without its document.
    let told = run(machine, arguments(None), 0);
    assert_eq!(
        told["jobs_without_downloads"]["missing_storage_profile"], 1,
        "{told}"
    );
    assert_eq!(told["read_manifests"], 0);
    let told = run(machine, arguments(Some(jobs(Some(&theirs)))), 0);
    assert_eq!(
        told["jobs_without_downloads"]["missing_storage_profile"], 0,
        "{told}"
    );
    assert_eq!(
        placed(&proj),
        files([("shot/1", "text"), ("shot/2", "text")])
    );
}
