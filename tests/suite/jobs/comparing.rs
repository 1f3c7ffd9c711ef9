//! `attachfs jobs diff`.

use serde_json::{Value, json};

use crate::farm::{Farm, Output};
use crate::machine::{Machine, args, on_both_stores};

on_both_stores![
    two_runs_of_a_job_differ_by_files_and_frames_root_by_root,
    the_text_of_a_comparison_is_short_unless_more_is_asked_for,
    parts_of_a_job_are_compared_by_the_run_that_counts,
    what_names_no_two_jobs_is_not_compared,
];

/// Job 1 wrote frames 1001 to 1006 without 1004, job 2 lacks 1002, 1003 and 1006, too; each has a root of its own.
fn two_runs(farm: &Farm<'_>) {
    farm.publish(&Output {
        files: &[
            ("frames/beauty.1001.exr", "1"),
            ("frames/beauty.1002.exr", "2"),
            ("frames/beauty.1003.exr", "3"),
            ("frames/beauty.1005.exr", "5"),
            ("frames/beauty.1006.exr", "6"),
            ("log.txt", "first"),
        ],
        ..Output::default()
    });
    farm.publish(&Output {
        root: "C:\\old",
        task: Some(1),
        files: &[("w.txt", "windows")],
        ..Output::default()
    });
    farm.publish(&Output {
        job: 2,
        files: &[
            ("frames/beauty.1001.exr", "1"),
            ("frames/beauty.1005.exr", "other"),
            ("log.txt", "again"),
            ("new.txt", "new"),
        ],
        ..Output::default()
    });
    farm.publish(&Output {
        job: 2,
        root: "/new",
        task: Some(1),
        files: &[("f_0001.png", "1"), ("f_0003.png", "3")],
        ..Output::default()
    });
}

fn diff(machine: &Machine, a: &str, b: &str, more: &[&str]) -> Value {
    let mut diff = args!["jobs", "diff", a, b, "--store", machine.store()].to_vec();
    diff.extend(more.iter().map(Into::into));
    machine.json(diff)
}

fn two_runs_of_a_job_differ_by_files_and_frames_root_by_root(machine: &Machine) {
    let farm = Farm::of(machine);
    two_runs(&farm);
    let (a, b) = (farm.job_address(1), farm.job_address(2));
    let gone = [
        "frames/beauty.1002.exr",
        "frames/beauty.1003.exr",
        "frames/beauty.1006.exr",
    ];
    let range = |first: u64, last: u64| json!({ "first": first, "last": last });
    let none = json!({ "frames": 0, "span": null, "missing_frames": 0, "missing": [] });
    let expected = json!({
        "a": a,
        "b": b,
        "roots": [
            {
                "root": "/new",
                "in": "b",
                "added": ["f_0001.png", "f_0003.png"],
                "changed": [],
                "missing": [],
                "same": 0,
                "sequences": [{
                    "sequence": "f_####.png",
                    "padding": 4,
                    "a": none,
                    "b": { "frames": 2, "span": range(1, 3), "missing_frames": 1, "missing": [range(2, 2)] },
                }],
            },
            {
                "root": "/proj",
                "in": "both",
                "added": ["new.txt"],
                "changed": ["frames/beauty.1005.exr", "log.txt"],
                "missing": gone,
                "same": 1,
                "sequences": [{
                    "sequence": "frames/beauty.####.exr",
                    "padding": 4,
                    "a": { "frames": 5, "span": range(1001, 1006), "missing_frames": 1, "missing": [range(1004, 1004)] },
                    "b": {
                        "frames": 2,
                        "span": range(1001, 1005),
                        "missing_frames": 4,
                        "missing": [range(1002, 1004), range(1006, 1006)],
                    },
                }],
            },
            {
                "root": "C:\\old",
                "in": "a",
                "added": [],
                "changed": [],
                "missing": ["w.txt"],
                "same": 0,
                "sequences": [],
            },
        ],
    });
    assert_eq!(diff(machine, &a, &b, &[]), expected);
}

fn the_text_of_a_comparison_is_short_unless_more_is_asked_for(machine: &Machine) {
    let farm = Farm::of(machine);
    two_runs(&farm);
    let (a, b) = (farm.job_address(1), farm.job_address(2));
    let compare = args!["jobs", "diff", &a, &b, "--store", machine.store()];
    let expected = "\
/new (only in B): 2 files added, 0 changed, 0 missing; 0 the same
+ f_0001.png
+ f_0003.png
frames are missing from 1 sequence:
f_####.png  B has 2 of 1-3, missing: 2
/proj: 1 file added, 2 changed, 3 missing; 1 the same
+ new.txt
~ frames/beauty.1005.exr
~ log.txt
- frames/beauty.1002.exr
- frames/beauty.1003.exr
- frames/beauty.1006.exr
frames are missing from 1 sequence:
frames/beauty.####.exr  A has 5 of 1001-1006, missing: 1004
frames/beauty.####.exr  B has 2 of 1001-1005, missing: 1002-1004, 1006
C:\\old (only in A): 0 files added, 0 changed, 1 missing; 0 the same
- w.txt
";
    assert_eq!(machine.ok(compare).out, expected);
    let task = farm.task_address(1, 1, 1);
    let same = args!["jobs", "diff", &task, &task, "--store", machine.store()];
    assert_eq!(machine.ok(same).out, "C:\\old: 1 file, all the same\n");
    // A job with 23 files, none of which is a frame.
    let names: Vec<String> = (b'a'..=b'w')
        .map(|name| format!("{}", name as char))
        .collect();
    let files: Vec<_> = names.iter().map(|name| (&**name, "x")).collect();
    farm.publish(&Output {
        job: 3,
        root: "/many",
        files: &files,
        ..Output::default()
    });
    let many = farm.job_address(3);
    let compare = args![
        "jobs",
        "diff",
        farm.job_address(9),
        &many,
        "--store",
        machine.store()
    ];
    let said = machine.ok(&compare).saying("has no outputs");
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines.len(), 22);
    assert_eq!(
        lines[0],
        "/many (only in B): 23 files added, 0 changed, 0 missing; 0 the same"
    );
    assert_eq!(
        lines[20..],
        ["+ t", "  and 3 more; -v and --json show them"]
    );
    let all = [&compare[..], &args!["-v"]].concat();
    assert_eq!(machine.ok(all).out.lines().last(), Some("+ w"));
    let listed = diff(machine, &many, &farm.job_address(9), &[]);
    assert_eq!(listed["roots"][0]["missing"].as_array().unwrap().len(), 23);
}

fn parts_of_a_job_are_compared_by_the_run_that_counts(machine: &Machine) {
    let farm = Farm::of(machine);
    let late = farm.publish(&Output {
        began: 100,
        files: &[("a", "by name")],
        ..Output::default()
    });
    farm.written(&late, 0);
    let last = farm.publish(&Output {
        action: 2,
        files: &[("a", "by time")],
        ..Output::default()
    });
    farm.written(&last, 10);
    farm.publish(&Output {
        step: 2,
        files: &[("a", "by time")],
        ..Output::default()
    });
    let (a, b) = (farm.task_address(1, 1, 0), farm.step_address(1, 2));
    let changed = |more: &[&str]| {
        let found = diff(machine, &a, &b, more);
        assert_eq!((&found["a"], &found["b"]), (&json!(a), &json!(b)));
        found["roots"][0]["changed"].clone()
    };
    assert_eq!(changed(&[]), json!([]));
    assert_eq!(changed(&["--latest-by", "name"]), json!(["a"]));
}

fn what_names_no_two_jobs_is_not_compared(machine: &Machine) {
    let farm = Farm::of(machine);
    let (a, queue) = (farm.job_address(1), farm.address());
    let store = machine.store();
    let fails = |arguments: &[std::ffi::OsString]| machine.says(arguments).with_code(2);
    fails(&args!["jobs", "diff", &a, "--store", &store]).saying("<B>");
    fails(&args!["jobs", "diff", &a, &queue, "--store", &store]).saying("job");
    fails(&args!["jobs", "diff", &a, &a]).saying("--queue-json");
    // Options of the listing are none of the comparison.
    for before in [
        &["--limit", "3"][..],
        &["--long"],
        &["--store", &store],
        &[&a],
    ] {
        let mut jobs = args!["jobs"].to_vec();
        jobs.extend(before.iter().map(Into::into));
        jobs.extend(args!["diff", &a, &a, "--store", &store]);
        fails(&jobs).saying("before `diff`");
    }
    let other = a.replace("queue-00", "queue-ff");
    let queue_json = farm.queue_json();
    fails(&args![
        "jobs",
        "diff",
        &a,
        other,
        "--queue-json",
        queue_json
    ])
    .saying("queue-ff");
    // Those of the program are.
    let said = machine.ok(args!["jobs", "--json", "diff", &a, &a, "--store", &store]);
    assert_eq!(said.json()["roots"], json!([]));
}
