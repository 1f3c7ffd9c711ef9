//! `attachfs sync-output`: what is new is placed once, whatever ends a run, and what has no place is told.

mod beginning;
mod interrupted;
mod places;
mod trouble;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::farm::{Farm, Output};
use crate::machine::{Machine, args, on_both_stores};

on_both_stores![
    a_second_run_places_what_is_new_and_reads_nothing_again,
    a_job_and_its_queue_have_one_checkpoint,
    a_dry_run_says_what_goes_where_and_changes_nothing,
];

/// The arguments of a run over the farm's queue, whose root `/proj` is the folder `proj` of the machine.
fn arguments(machine: &Machine, farm: &Farm<'_>, more: &[&str]) -> Vec<OsString> {
    let all = of(machine, &farm.address(), more);
    mapping(all, machine, "/proj", "proj")
}

/// The arguments of a run over an address, without roots.
fn of(machine: &Machine, address: &str, more: &[&str]) -> Vec<OsString> {
    let mut all = args!["sync-output", address, "--store", machine.store()].to_vec();
    all.extend(more.iter().map(OsString::from));
    all
}

/// With one more root.
fn mapping(
    mut arguments: Vec<OsString>,
    machine: &Machine,
    root: &str,
    folder: &str,
) -> Vec<OsString> {
    arguments.push("--map-root".into());
    arguments.push(mapped(machine, root, folder));
    arguments
}

fn mapped(machine: &Machine, root: &str, folder: &str) -> OsString {
    let folder = machine.path(folder);
    format!("{root}={}", folder.to_str().unwrap()).into()
}

/// Everything in a folder, and what is in it.
fn placed(folder: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if !entry
                .file_name()
                .to_string_lossy()
                .starts_with(".attachfs-")
            {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                all.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    all
}

fn files<const N: usize>(expected: [(&str, &str); N]) -> BTreeMap<String, String> {
    expected
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into()
}

/// What a run says with `--json` when it ends with this code.
#[track_caller]
fn run(machine: &Machine, mut arguments: Vec<OsString>, code: i32) -> Value {
    arguments.push("--json".into());
    machine.says(arguments).with_code(code).json()
}

fn checkpoint(machine: &Machine, farm: &Farm<'_>, name: &str) -> PathBuf {
    let name = format!("{}_{name}_sync_checkpoint.json", farm.queue);
    machine.path("state/attachfs/sync-output").join(name)
}

/// How many manifests and objects the server was asked for.
fn reads(machine: &Machine) -> (usize, usize) {
    if !machine.is_s3() {
        return (0, 0);
    }
    let requests = machine.server().requests();
    let reads = |part: &str| {
        let reads = requests.iter().filter(|of| of.method == "GET");
        reads.filter(|of| of.path.contains(part)).count()
    };
    (reads("_output"), reads("/Data/"))
}

fn a_second_run_places_what_is_new_and_reads_nothing_again(machine: &Machine) {
    let farm = Farm::of(machine);
    let first = Output {
        files: &[("out/1", "one"), ("out/2", "two")],
        ..Output::default()
    };
    let other = Output {
        job: 2,
        action: 7,
        files: &[("other/1", "another")],
        ..Output::default()
    };
    farm.publish_all(&[first.clone(), other]);
    let told = run(machine, arguments(machine, &farm, &[]), 0);
    assert_eq!(told["downloaded_files"], 3, "{told}");
    assert_eq!(told["downloaded_bytes"], 13);
    assert_eq!(told["downloaded_session_actions"], 2);
    assert_eq!(told["jobs_with_downloads"]["added"], 2);
    let all = [("out/1", "one"), ("out/2", "two"), ("other/1", "another")];
    let proj = machine.path("proj");
    assert_eq!(placed(&proj), files(all));

    let before = reads(machine);
    let told = run(machine, arguments(machine, &farm, &[]), 0);
    assert_eq!(told["read_manifests"], 0, "{told}");
    assert_eq!(told["downloaded_files"], 0);
    assert_eq!(told["jobs_without_downloads"]["unchanged"], 2);
    // What its user took away is not fetched twice.
    fs::remove_file(proj.join("out/1")).unwrap();
    run(machine, arguments(machine, &farm, &[]), 0);
    assert_eq!(reads(machine), before);

    farm.publish(&Output {
        task: Some(1),
        action: 2,
        files: &[("out/3", "three")],
        ..first
    });
    let told = run(machine, arguments(machine, &farm, &[]), 0);
    assert_eq!(told["read_manifests"], 1, "{told}");
    assert_eq!(told["jobs_with_downloads"]["updated"], 1);
    let all = [("out/2", "two"), ("out/3", "three"), ("other/1", "another")];
    assert_eq!(placed(&proj), files(all));
}

fn a_job_and_its_queue_have_one_checkpoint(machine: &Machine) {
    let farm = Farm::of(machine);
    for job in [1, 2] {
        let name = format!("{job}");
        farm.publish(&Output {
            job,
            files: &[(&name, "text")],
            ..Output::default()
        });
    }
    let job = of(machine, &farm.job_address(1), &[]);
    let told = run(machine, mapping(job, machine, "/proj", "proj"), 0);
    assert_eq!(told["downloaded_files"], 1, "{told}");
    let told = run(machine, arguments(machine, &farm, &[]), 0);
    assert_eq!(told["read_manifests"], 1, "{told}");
    assert_eq!(
        placed(&machine.path("proj")),
        files([("1", "text"), ("2", "text")])
    );
}

fn a_dry_run_says_what_goes_where_and_changes_nothing(machine: &Machine) {
    let farm = Farm::of(machine);
    farm.publish(&Output {
        files: &[("a/b", "text")],
        ..Output::default()
    });
    let told = run(machine, arguments(machine, &farm, &["--dry-run"]), 0);
    let proj = machine.path("proj");
    assert_eq!(told["dry_run"], true);
    assert_eq!(told["downloaded_files"], 1);
    let root = &told["jobs"][Farm::job(1).to_string()]["roots"][0];
    assert_eq!(root["root"], "/proj", "{told}");
    assert_eq!(root["folder"], proj.to_str().unwrap());
    assert_eq!(root["bytes"], 4);
    assert!(!proj.exists());
    assert!(!machine.path("state/attachfs/sync-output").exists());
    let said = machine.ok(arguments(machine, &farm, &["--dry-run"]));
    said.printing("would fetch 1 file, 4 B of 1 new manifest");
}
