//! `deadline manifest download`. The client's program asks the service for the job; here its library gets the document that the test has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::{Value, json};

use super::{Both, store};
use crate::machine::args;
use crate::peers::base64;

const HEX: &str = "0123456789abcdef0123456789abcdef";

fn id(of: &str) -> String {
    format!("{of}-{HEX}")
}

/// The bytes of each root's manifest, and its file's name without the time.
fn written(told: &Value) -> BTreeMap<String, (String, Vec<u8>)> {
    let all = told["downloaded"].as_array().unwrap().iter();
    all.map(|of| {
        let text = |field: &str| of[field].as_str().unwrap().to_owned();
        let path = text("local_manifest_path");
        let name = path.rsplit('/').next().unwrap();
        let name = name.rsplit_once("-2").unwrap().0.to_owned();
        (text("manifest_root"), (name, fs::read(path).unwrap()))
    })
    .collect()
}

#[test]
fn the_manifests_of_a_job_are_those_that_the_deadline_client_writes() {
    Both::with(|both| {
        let machine = both.machine;
        let upload = |files: &[(&str, &str)], more: &[std::ffi::OsString]| {
            let folder = tempfile::tempdir_in(machine.dir("made")).unwrap();
            for (name, text) in files {
                fs::write(folder.path().join(name), text).unwrap();
            }
            let manifest = machine.path("m");
            both.ours(args![
                "snapshot",
                folder.path(),
                "--format",
                "2023-03-03",
                "-o",
                &manifest
            ]);
            let mut arguments = args![
                "manifest",
                "upload",
                &manifest,
                "--store",
                store("farm"),
                "--unchecked"
            ]
            .to_vec();
            arguments.extend_from_slice(more);
            both.ours(arguments);
        };
        let input = format!("{}/{}/Inputs/{HEX}/{HEX}_input", id("farm"), id("queue"));
        upload(
            &[("scene", "scene"), ("frame", "placeholder")],
            &args!["--key", &input],
        );
        let steps = [id("step"), format!("step-{}", "a".repeat(32))];
        for (number, (step, root, files)) in [
            (0, "/proj", [("frame", "one"), ("of 0", "0")]),
            (0, "C:\\show", [("frame", "two"), ("of 1", "1")]),
            (1, "/proj", [("frame", "later"), ("of 2", "2")]),
        ]
        .into_iter()
        .enumerate()
        {
            upload(
                &files,
                &args![
                    "--farm",
                    id("farm"),
                    "--queue",
                    id("queue"),
                    "--job",
                    id("job"),
                    "--step",
                    &steps[step],
                    "--task",
                    format!("task-{HEX}-{number}"),
                    "--session-action",
                    format!("sessionaction-{HEX}-{number}"),
                    "--time",
                    format!("2025-01-31T12:00:0{number}.000000Z"),
                    "--asset-root",
                    root
                ],
            );
        }
        let attachments = json!({ "manifests": [{
            "rootPath": "/proj", "rootPathFormat": "posix", "inputManifestPath": input,
        }], "fileSystem": "COPIED" });
        let job = json!({ "jobId": id("job"), "attachments": attachments });
        let job = machine.file("job.json", job.to_string());
        let none = machine.file("none.json", r#"{"dependencies": []}"#);
        let dependencies = json!({ "dependencies": [{ "stepId": steps[0] }] });
        let on_first = machine.file("on_first.json", dependencies.to_string());
        let mut roots = 0;
        for (step, depends) in [
            (None, &[] as &[&String]),
            (Some(&steps[0]), &[]),
            (Some(&steps[1]), &[&steps[0]]),
        ] {
            for asset_type in ["input", "output", "all"] {
                let directories = ["theirs", "ours"].map(|whose| {
                    let name = format!("{whose}.{asset_type}.{roots}");
                    machine.dir(name)
                });
                let theirs = both.asked(
                    "manifest_download",
                    &json!({
                        "prefix": "farm", "farm": id("farm"), "queue": id("queue"), "job": id("job"),
                        "step": step, "asset_type": asset_type, "attachments": attachments,
                        "dependencies": depends, "directory": base64(directories[0].as_os_str().as_bytes()),
                    }),
                );
                let mut ours = args![
                    "manifest",
                    "download",
                    "--farm-id",
                    id("farm"),
                    "--queue-id",
                    id("queue"),
                    "--job-json",
                    &job,
                    "--store",
                    store("farm"),
                    "--output-dir",
                    &directories[1],
                    "--asset-type",
                    asset_type,
                    "--latest-by",
                    "name",
                    "--json"
                ]
                .to_vec();
                if let Some(step) = step {
                    let file = if depends.is_empty() { &none } else { &on_first };
                    ours.extend(args!["--step-id", step, "--step-dependencies-json", file]);
                }
                let (theirs, ours) = (written(&theirs), written(&both.ours(ours).json()));
                assert_eq!(theirs, ours, "{step:?} {asset_type}");
                roots += theirs.len();
            }
        }
        // One root of inputs and two of outputs; of a step one or two, and with the outputs of the other step below its inputs two.
        assert_eq!(roots, (1 + 2 + 2) + (1 + 2 + 2) + (2 + 1 + 2));
    });
}
