//! `ls`, `cat`, `inspect` and `mount` of a job by its address.

use serde_json::json;

use crate::farm::{Farm, Output};
use crate::machine::{Machine, args, mounting_from_both_stores, on_both_stores};

on_both_stores![
    the_outputs_of_a_job_are_listed_and_read_root_by_root,
    the_inputs_of_a_job_come_from_its_document,
    the_latest_run_is_told_where_the_rules_differ,
];

mod mounted {
    use super::{a_job_is_mounted_with_its_roots_as_folders, mounting_from_both_stores};

    mounting_from_both_stores![a_job_is_mounted_with_its_roots_as_folders,];
}

/// A job with outputs below a root of this system and one of Windows.
fn two_roots(farm: &Farm<'_>) {
    farm.publish(&Output {
        files: &[("frames/1.exr", "one")],
        ..Output::default()
    });
    farm.publish(&Output {
        root: "C:\\shots\\film",
        task: Some(1),
        action: 2,
        began: 60,
        files: &[("w.txt", "windows")],
        ..Output::default()
    });
}

fn the_outputs_of_a_job_are_listed_and_read_root_by_root(machine: &Machine) {
    let farm = Farm::of(machine);
    two_roots(&farm);
    let job = farm.job_address(1);
    let ls = |more: &[&str]| {
        let mut ls = args!["ls", &job].to_vec();
        ls.extend(more.iter().map(Into::into));
        ls.extend(args!["--store", machine.store()]);
        machine.ok(ls).out
    };
    assert_eq!(ls(&["--json"]).matches("\"dir\"").count(), 2);
    assert_eq!(ls(&["proj/frames"]), "proj/frames/1.exr\n");
    assert_eq!(ls(&["--asset-root", "C:\\shots\\film"]), "w.txt\n");
    let cat = |path: &str| args!["cat", &job, path, "--store", machine.store()];
    assert_eq!(machine.ok(cat("film/w.txt")).out, "windows");
    machine.says(cat("none/x")).with_code(2).saying("it has");
    // A task has one root, whose files are at the top.
    let task = farm.task_address(1, 1, 0);
    let one = args!["cat", &task, "frames/1.exr", "--store", machine.store()];
    assert_eq!(machine.ok(one).out, "one");
    let inspect = args!["inspect", &job, "--store", machine.store()];
    let found = machine.json(&inspect);
    assert_eq!(found["roots"].as_array().unwrap().len(), 2);
    let none = args!["ls", farm.job_address(9), "--store", machine.store()];
    let said = machine.ok(&none);
    assert_eq!(said.out, "");
    said.saying("has no outputs");
}

fn the_inputs_of_a_job_come_from_its_document(machine: &Machine) {
    let farm = Farm::of(machine);
    two_roots(&farm);
    let key = farm.submit(1, "/proj", &[("scene.blend", "scene")]);
    let document = farm.job_json(1, &[("/proj", Some(&key))]);
    let steps = json!({ "dependencies": [{ "stepId": Farm::step(1).to_string() }] });
    let steps = machine.file("steps.json", steps.to_string());
    let address = farm.step_address(1, 2);
    let mut ls = args![
        "ls",
        &address,
        "-R",
        "--inputs",
        "--job-json",
        &document,
        "--store",
        machine.store()
    ]
    .to_vec();
    assert_eq!(machine.ok(&ls).out, "scene.blend\n");
    ls.extend(args![
        "--step-dependencies-json",
        &steps,
        "--asset-root",
        "/proj"
    ]);
    assert_eq!(machine.ok(&ls).out, "frames/\nframes/1.exr\nscene.blend\n");
}

fn the_latest_run_is_told_where_the_rules_differ(machine: &Machine) {
    let farm = Farm::of(machine);
    let late = Output {
        began: 100,
        files: &[("a", "by name")],
        ..Output::default()
    };
    let late = farm.publish(&late);
    farm.written(&late, 0);
    let last = farm.publish(&Output {
        action: 2,
        files: &[("a", "by time")],
        ..Output::default()
    });
    farm.written(&last, 10);
    let job = farm.job_address(1);
    let mut cat = args!["cat", &job, "a", "--store", machine.store()].to_vec();
    let said = machine.ok(&cat);
    assert_eq!(said.out, "by time");
    let task = farm.task_address(1, 1, 0);
    said.saying(task.rsplit('/').next().unwrap());
    cat.extend(args!["--latest-by", "name"]);
    assert_eq!(machine.ok(&cat).out, "by name");
}

fn a_job_is_mounted_with_its_roots_as_folders(machine: &Machine) {
    let farm = Farm::of(machine);
    two_roots(&farm);
    let mount = machine.mount(args![farm.job_address(1)], "mnt");
    let read = |path: &str| std::fs::read_to_string(mount.dir.join(path)).unwrap();
    assert_eq!(read("proj/frames/1.exr"), "one");
    assert_eq!(read("film/w.txt"), "windows");
    machine.ok(args!["umount", &mount.dir]);
}
