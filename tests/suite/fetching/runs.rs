//! Which outputs and inputs are fetched.

use std::fs;
use std::time::{Duration, SystemTime};

use attachfs_manifest::ContentHash;
use serde_json::json;

use super::{HEX, Output, download, job, job_with, manifest, put, text};
use crate::machine::{Machine, args};

fn frame(task: u32, run: u32, text: &'static str) -> Output<'static> {
    Output {
        root: "C:\\a",
        task,
        run,
        files: match text {
            "old" => &[("f", "old")],
            "new" => &[("f", "new"), ("g", "new")],
            _ => &[("h", "other task")],
        },
    }
}

#[test]
fn the_latest_run_is_fetched_and_told_where_the_clocks_differ() {
    Machine::with_directory(|machine| {
        // The clock of the worker of run 9 is ahead: run 2 was written last.
        put(machine, &frame(0, 9, "old"));
        put(machine, &frame(0, 2, "new"));
        put(machine, &frame(1, 3, "other"));
        let manifests = machine.path("store/Manifests");
        let mut found = vec![manifests];
        while let Some(dir) = found.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    found.push(path);
                } else if path
                    .to_str()
                    .unwrap()
                    .contains(&format!("sessionaction-{HEX}-9"))
                {
                    let file = fs::File::options().write(true).open(path).unwrap();
                    file.set_modified(SystemTime::now() - Duration::from_hours(1))
                        .unwrap();
                }
            }
        }
        let told = machine.ok(download(machine, &["latest"]));
        told.saying(&format!("task-{HEX}-0"))
            .saying("--latest-by chooses");
        assert_eq!(text(machine.path("latest/f")), "new");
        assert_eq!(text(machine.path("latest/h")), "other task");
        machine.ok(download(machine, &["by-name", "--latest-by", "name"]));
        assert_eq!(text(machine.path("by-name/f")), "old");
        let action = format!("sessionaction-{HEX}-9");
        machine.ok(download(machine, &["action", "--session-action", &action]));
        assert_eq!(text(machine.path("action/f")), "old");
        assert!(!machine.path("action/h").exists());
        let task = format!("{}/step-{HEX}/task-{HEX}-1", job());
        machine.ok(args!["download", task, "task", "--store", machine.store()]);
        assert!(machine.path("task/h").exists() && !machine.path("task/f").exists());
    });
}

#[test]
fn a_job_without_outputs_and_patterns_that_choose_nothing_are_told_and_are_no_failure() {
    Machine::with_directory(|machine| {
        machine.dir("store/Manifests");
        machine.dir("store/Data");
        machine
            .ok(download(machine, &["to"]))
            .saying("has no outputs in");
        job_with(machine, &["C:\\a"]);
        let told = machine.ok(download(machine, &["to", "-i", "*.exr"]));
        told.saying("nothing matches the patterns");
        let root = machine.path("to");
        assert!(!root.exists());
        let manifest = manifest(machine, "m", &[("f", "f")]);
        let arguments = args![
            "download",
            &manifest,
            "--root",
            &root,
            "--store",
            machine.store(),
            "-i",
            "*.exr"
        ];
        machine.ok(arguments).saying("nothing matches the patterns");
    });
}

#[test]
fn the_inputs_of_a_job_are_fetched_with_the_outputs_of_the_steps_it_depends_on() {
    Machine::with_directory(|machine| {
        let file = manifest(machine, "in.manifest", &[("in/f", "given"), ("f", "input")]);
        let key = format!("farm-{HEX}/queue-{HEX}/Inputs/{HEX}/{HEX}_input");
        machine.ok(args![
            "manifest",
            "upload",
            &file,
            "--store",
            machine.store(),
            "--key",
            &key
        ]);
        put(machine, &frame(0, 1, "new"));
        let hash = ContentHash::of(&fs::read(&file).unwrap()).to_string();
        let document = json!({ "jobId": format!("job-{HEX}"), "attachments": { "manifests": [{
            "rootPath": "C:\\a", "rootPathFormat": "windows", "inputManifestPath": key, "inputManifestHash": hash,
        }], "fileSystem": "COPIED" }});
        let document = machine.file("job.json", document.to_string());
        let document = document.to_str().unwrap();
        machine
            .says(download(machine, &["to", "--inputs"]))
            .with_code(2)
            .saying("--job-json");
        let inputs = ["to", "--inputs", "--job-json", document];
        machine.ok(download(machine, &inputs));
        assert_eq!(
            text(machine.path("to/f")) + &text(machine.path("to/in/f")),
            "inputgiven"
        );
        let steps = json!({ "dependencies": [{ "stepId": format!("step-{HEX}") }] });
        let steps = machine.file("steps.json", steps.to_string());
        let other = format!("step-{}", "f".repeat(32));
        let with_steps = [
            "step",
            "--inputs",
            "--job-json",
            document,
            "--step-dependencies-json",
            steps.to_str().unwrap(),
            "--step",
            &other,
        ];
        machine.ok(download(machine, &with_steps));
        assert_eq!(
            text(machine.path("step/f")) + &text(machine.path("step/in/f")),
            "newgiven"
        );
        // Another manifest at the key than was submitted.
        let other = manifest(machine, "other.manifest", &[("x", "x")]);
        fs::copy(other, machine.path("store/Manifests").join(&key)).unwrap();
        machine
            .says(download(machine, &inputs))
            .with_code(12)
            .saying(&hash);
    });
}

#[test]
fn new_outputs_over_old_ones_are_copies_or_replace_them_as_it_is_said() {
    Machine::with_directory(|machine| {
        put(machine, &frame(0, 1, "old"));
        machine.ok(download(machine, &["to"]));
        put(machine, &frame(0, 2, "new"));
        let told = machine.ok(download(machine, &["to"]));
        told.printing("copied     f: f (1)")
            .printing("--conflict overwrite replaces");
        assert_eq!(text(machine.path("to/f")), "old");
        machine.ok(download(
            machine,
            &["to", "--conflict-resolution", "overwrite"],
        ));
        assert_eq!(text(machine.path("to/f")), "new");
    });
}
