//! A job's files at the places of its roots: the same as AWS's client puts there.
//!
//! The server is moto: `s3s-fs` cannot keep the metadata of outputs.

use std::fs;
use std::path::Path;

use attachfs_manifest::ContentHash;
use serde_json::{Value, json};

use super::python;
use super::transfers::assert_same_files;
use crate::foreign::BUCKET;
use crate::golden::set_mtime;
use crate::machine::{Machine, args};
use crate::moto::Moto;

const HEX: &str = "0123456789abcdef0123456789abcdef";
/// With a slash at its end, as queues may have it.
const PREFIX: &str = "q/";

/// Names, and what is in the files.
type Files = &'static [(&'static str, &'static str)];

/// A job with outputs of two tasks below two roots, one of them of another system; a task ran twice.
const OUTPUTS: [(&str, u32, u32, Files); 4] = [
    (
        "C:\\show \u{e9}",
        0,
        1,
        &[("old", "old"), ("frames/1.exr", "first try")],
    ),
    (
        "C:\\show \u{e9}",
        0,
        2,
        &[("frames/1.exr", "one"), ("both", "of task 0")],
    ),
    (
        "C:\\show \u{e9}",
        1,
        3,
        &[("frames/2.exr", "two"), ("both", "of task 1")],
    ),
    (
        "/mnt/cache",
        1,
        3,
        &[("sim/\u{65e5}.vdb", "sim"), (".hidden", "h"), ("empty", "")],
    ),
];

fn make_files(folder: &Path, files: &[(&str, &str)], time: u32) {
    for (name, text) in files {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        set_mtime(&file, 1_700_000_000_123_456_789 + i64::from(time));
    }
}

#[test]
fn the_files_of_a_job_are_where_and_what_the_client_makes_them() {
    let (Some(python), Some(moto)) = (python(), Moto::start()) else {
        return;
    };
    Machine::with_directory(|machine| {
        let access = &moto.access;
        let store = format!("s3://{BUCKET}/{PREFIX}");
        for (root, task, run, files) in OUTPUTS {
            let folder = machine.dir(format!("made/{run}-{}", files[0].0.len()));
            make_files(&folder, files, run);
            let manifest = machine.path("m");
            access.ok(
                machine,
                &args![
                    "snapshot",
                    &folder,
                    "-o",
                    &manifest,
                    "--store",
                    &store,
                    "--format",
                    "2023-03-03"
                ],
            );
            let upload = args![
                "manifest",
                "upload",
                &manifest,
                "--store",
                &store,
                "--farm",
                format!("farm-{HEX}"),
                "--queue",
                format!("queue-{HEX}"),
                "--job",
                format!("job-{HEX}"),
                "--step",
                format!("step-{HEX}"),
                "--task",
                format!("task-{HEX}-{task}"),
                "--session-action",
                format!("sessionaction-{HEX}-{run}"),
                "--time",
                format!("2025-01-31T12:00:0{run}.000000Z"),
                "--asset-root",
                root
            ];
            access.ok(machine, &upload);
        }
        let inputs = machine.dir("inputs");
        make_files(
            &inputs,
            &[("scene.blend", "scene"), ("tex/a b.png", "tex")],
            7,
        );
        let manifest = machine.path("in");
        access.ok(
            machine,
            &args![
                "snapshot",
                &inputs,
                "-o",
                &manifest,
                "--store",
                &store,
                "--format",
                "2023-03-03"
            ],
        );
        let key = format!("farm-{HEX}/queue-{HEX}/Inputs/{HEX}/{HEX}_input");
        access.ok(
            machine,
            &args![
                "manifest", "upload", &manifest, "--store", &store, "--key", &key
            ],
        );
        let attachments = json!({ "manifests": [{
            "rootPath": "C:\\in", "rootPathFormat": "windows", "inputManifestPath": key,
            "inputManifestHash": ContentHash::of(&fs::read(&manifest).unwrap()).to_string(),
        }], "fileSystem": "COPIED" });
        let queue = json!({ "farmId": format!("farm-{HEX}"), "queueId": format!("queue-{HEX}"),
            "jobAttachmentSettings": { "s3BucketName": BUCKET, "rootPrefix": PREFIX } });
        let queue = machine.file("queue.json", queue.to_string());
        let job = json!({ "jobId": format!("job-{HEX}"), "attachments": attachments });
        let job = machine.file("job.json", job.to_string());
        // AWS's client first, then ours, each into folders of its own.
        let both = |roots: &[(&str, &str)],
                    attachments: &Value,
                    more: &[&str],
                    include: &[&str]| {
            let theirs = machine.path("theirs");
            let places = roots
                .iter()
                .map(|(root, folder)| ((*root).to_owned(), json!(theirs.join(folder))));
            let places: serde_json::Map<_, _> = places.collect();
            let told = python.told(&json!({
                "op": "job_download", "endpoint": access.endpoint, "bucket": BUCKET, "region": access.region,
                "access_key": access.access_key, "secret_key": access.secret_key, "prefix": PREFIX,
                "farm": format!("farm-{HEX}"), "queue": format!("queue-{HEX}"), "job": format!("job-{HEX}"),
                "places": places, "attachments": attachments, "include": include,
            }));
            let mut arguments = args![
                "--json",
                "download",
                "--queue-json",
                &queue,
                "--job-json",
                &job
            ]
            .to_vec();
            arguments.extend(more.iter().map(Into::into));
            for pattern in include {
                arguments.extend(args!["-i", pattern]);
            }
            let ours = machine.path("ours");
            for (root, folder) in roots {
                let place = ours.join(folder);
                arguments.extend(args!["--map-root", format!("{root}={}", place.display())]);
            }
            let said = access.ok(machine, &arguments).json();
            for field in [
                "total_files",
                "total_bytes",
                "processed_files",
                "processed_bytes",
                "skipped_files",
            ] {
                assert_eq!(said[field], told[field], "{field} of {said} and {told}");
            }
            assert_same_files(&theirs, &ours, 1);
            said["total_files"].as_u64().unwrap()
        };
        let outputs = [("C:\\show \u{e9}", "show"), ("/mnt/cache", "cache")];
        let by_name = ["--latest-by", "name"];
        assert_eq!(both(&outputs, &Value::Null, &by_name, &["*.exr"]), 2);
        for folder in ["ours", "theirs"] {
            fs::remove_dir_all(machine.path(folder)).unwrap();
        }
        assert_eq!(both(&outputs, &Value::Null, &by_name, &[]), 6);
        assert_eq!(
            both(&[("C:\\in", "in")], &attachments, &["--inputs"], &[]),
            2
        );
    });
}
