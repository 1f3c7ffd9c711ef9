//! Where files go, which of several has a path, and what has no place.

use std::fs;

use serde_json::json;

use super::{arguments, files, mapping, of, placed, reads, run};
use crate::farm::{Farm, Output};
use crate::machine::{Machine, on_both_stores};

on_both_stores![
    a_root_without_a_place_is_told_and_placed_once_it_has_one,
    the_output_that_was_written_last_has_a_path,
    names_of_one_manifest_that_differ_in_case_are_all_placed,
    what_stands_in_the_way_is_treated_as_the_conflict_mode_says,
];

fn a_root_without_a_place_is_told_and_placed_once_it_has_one(machine: &Machine) {
    let farm = Farm::of(machine);
    farm.publish(&Output {
        files: &[("a", "here")],
        ..Output::default()
    });
    for (root, action, path) in [("/elsewhere", 2, "b"), ("D:\\scene", 3, "c")] {
        farm.publish(&Output {
            root,
            action,
            files: &[(path, "text")],
            ..Output::default()
        });
    }
    let told = run(machine, arguments(machine, &farm, &[]), 16);
    assert_eq!(told["unmapped_paths"], 1, "{told}");
    let unmapped = &told["jobs"][Farm::job(1).to_string()]["unmapped"];
    assert_eq!(
        *unmapped,
        json!([
            { "asset_root": "/elsewhere", "files": 1, "bytes": 4 },
            { "asset_root": "D:\\scene", "files": 1, "bytes": 4 },
        ])
    );
    assert_eq!(placed(&machine.path("proj")), files([("a", "here")]));
    // It is told again, and not read again.
    let before = reads(machine);
    let again = run(machine, arguments(machine, &farm, &[]), 16);
    assert_eq!(again["jobs"], told["jobs"].clone_without_roots(), "{again}");
    assert_eq!(reads(machine), before);

    let more = mapping(arguments(machine, &farm, &[]), machine, "d:/Scene", "scene");
    let told = run(machine, more, 16);
    assert_eq!(told["read_manifests"], 1, "{told}");
    assert_eq!(placed(&machine.path("scene")), files([("c", "text")]));
    // Nothing was placed beside these folders.
    assert!(!machine.path("elsewhere").exists());
}

trait WithoutRoots {
    fn clone_without_roots(&self) -> serde_json::Value;
}

impl WithoutRoots for serde_json::Value {
    /// What is said of jobs of which only what is unmapped is left.
    fn clone_without_roots(&self) -> serde_json::Value {
        let mut jobs = self.clone();
        for job in jobs.as_object_mut().unwrap().values_mut() {
            job["roots"] = json!([]);
            job["total_files"] = json!(0);
            job["total_bytes"] = json!(0);
        }
        jobs
    }
}

fn the_output_that_was_written_last_has_a_path(machine: &Machine) {
    let farm = Farm::of(machine);
    // By the clock of its worker the first is the later one.
    let first = Output {
        began: 500,
        files: &[("f", "old"), ("only", "once")],
        ..Output::default()
    };
    let last = Output {
        action: 2,
        files: &[("f", "new")],
        ..Output::default()
    };
    for (output, seconds) in [(&last, 20), (&first, 10)] {
        let key = farm.publish(output);
        farm.written(&key, seconds);
    }
    for (action, path, seconds) in [(3, "Frame.EXR", 10), (4, "frame.exr", 20)] {
        let key = farm.publish(&Output {
            job: 2,
            action,
            root: "C:\\proj",
            files: &[(path, path)],
            ..Output::default()
        });
        farm.written(&key, seconds);
    }
    let all = mapping(
        arguments(machine, &farm, &[]),
        machine,
        "C:\\proj",
        "windows",
    );
    let told = run(machine, all, 0);
    assert_eq!(told["downloaded_files"], 3, "{told}");
    assert_eq!(
        placed(&machine.path("proj")),
        files([("f", "new"), ("only", "once")])
    );
    let windows = placed(&machine.path("windows"));
    assert_eq!(windows, files([("frame.exr", "frame.exr")]));
}

fn names_of_one_manifest_that_differ_in_case_are_all_placed(machine: &Machine) {
    let farm = Farm::of(machine);
    farm.publish(&Output {
        root: "C:\\proj",
        files: &[("Frame.EXR", "one"), ("frame.exr", "two")],
        ..Output::default()
    });
    let all = of(machine, &farm.address(), &[]);
    run(machine, mapping(all, machine, "C:\\proj", "windows"), 0);
    assert_eq!(
        placed(&machine.path("windows")),
        files([("Frame.EXR", "one"), ("frame.exr", "two")])
    );
}

fn what_stands_in_the_way_is_treated_as_the_conflict_mode_says(machine: &Machine) {
    let farm = Farm::of(machine);
    farm.publish(&Output {
        files: &[("f.txt", "rendered")],
        ..Output::default()
    });
    for (mode, expected) in [
        ("skip", files([("f.txt", "mine")])),
        (
            "create-copy",
            files([("f.txt", "mine"), ("f (1).txt", "rendered")]),
        ),
        ("overwrite", files([("f.txt", "rendered")])),
    ] {
        let proj = machine.dir(mode);
        fs::write(proj.join("f.txt"), "mine").unwrap();
        let checkpoints = machine.path(format!("of-{mode}"));
        let checkpoints = ["--checkpoint-dir", checkpoints.to_str().unwrap()];
        let more = [
            "--conflict-resolution",
            mode,
            checkpoints[0],
            checkpoints[1],
        ];
        let all = of(machine, &farm.address(), &more);
        run(machine, mapping(all, machine, "/proj", mode), 0);
        assert_eq!(placed(&proj), expected, "{mode}");
    }
}
