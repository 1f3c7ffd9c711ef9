//! `deadline queue sync-output`, `job download-output` and `download-input`: the client's own program, with documents in the place of the
//! Deadline service.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use attachfs_manifest::ContentHash;
use serde_json::{Value, json};

use super::{Both, assert_same_fields, text};
use crate::foreign::BUCKET;
use crate::golden::set_mtime;
use crate::machine::args;
use crate::peers::transfers::{assert_same_files, path};

const HEX: &str = "0123456789abcdef0123456789abcdef";
/// With a slash at its end, as queues may have it.
const PREFIX: &str = "q/";
/// The root of the job, on the machine that submitted it.
const ROOT: &str = "C:\\show \u{e9}";

/// A task, the number of its run, and the names and texts of the files that it wrote.
type Run = (u32, u32, &'static [(&'static str, &'static str)]);

fn id(kind: &str) -> String {
    format!("{kind}-{HEX}")
}

fn store() -> String {
    super::store(PREFIX)
}

impl Both<'_> {
    /// A manifest of files with these names and texts, which are in the store; the same files always have the same times.
    fn manifest(&self, files: &[(&str, &str)]) -> PathBuf {
        let folder = tempfile::tempdir_in(self.machine.path("")).unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            set_mtime(&file, 1_700_000_000_123_456_000);
        }
        let manifest = self.machine.path("m");
        self.ours(args![
            "snapshot",
            folder.path(),
            "-o",
            &manifest,
            "--store",
            store(),
            "--format",
            "2023-03-03"
        ]);
        manifest
    }

    /// What a task wrote in its run, in the store as a worker leaves it.
    fn output(&self, root: &str, task: u32, run: u32, files: &[(&str, &str)]) {
        self.ours(args![
            "manifest",
            "upload",
            self.manifest(files),
            "--store",
            store(),
            "--farm",
            id("farm"),
            "--queue",
            id("queue"),
            "--job",
            id("job"),
            "--step",
            id("step"),
            "--task",
            format!("{}-{task}", id("task")),
            "--session-action",
            format!("{}-{run}", id("sessionaction")),
            "--time",
            format!("2025-01-31T12:00:0{run}.000000Z"),
            "--asset-root",
            root
        ]);
    }

    /// Runs the client with documents in the place of the service.
    fn served(&self, arguments: &[OsString], documents: &Value) -> Value {
        let access = &self.moto.access;
        let mut arguments: Vec<_> = (arguments.iter().map(|of| of.to_str().unwrap()))
            .map(str::to_owned)
            .collect();
        arguments.extend([
            "--farm-id".to_owned(),
            id("farm"),
            "--queue-id".to_owned(),
            id("queue"),
        ]);
        let told = self.python.told(&json!({
            "op": "client", "endpoint": access.endpoint, "region": access.region, "bucket": BUCKET, "prefix": PREFIX,
            "access_key": access.access_key, "secret_key": access.secret_key,
            "cache": path(&self.machine.dir("client")), "arguments": arguments, "documents": documents,
        }));
        assert_eq!(told["code"], 0, "{told}");
        told
    }

    /// `aws deadline get-queue`.
    fn queue_json(&self) -> PathBuf {
        let queue = json!({ "farmId": id("farm"), "queueId": id("queue"),
            "jobAttachmentSettings": { "s3BucketName": BUCKET, "rootPrefix": PREFIX } });
        self.machine.file("queue.json", queue.to_string())
    }
}

/// `aws deadline get-job`, of a job that ended in this minute.
fn job(minute: usize, manifests: &Value) -> Value {
    json!({
        "jobId": id("job"), "name": "a job", "storageProfileId": id("sp"),
        "createdAt": "2025-01-31T11:00:00+00:00", "startedAt": "2025-01-31T11:30:00+00:00",
        "endedAt": format!("2025-01-31T12:{minute:02}:00+00:00"), "taskRunStatus": "SUCCEEDED",
        "taskRunStatusCounts": { "SUCCEEDED": 2 },
        "attachments": { "manifests": manifests, "fileSystem": "COPIED" },
    })
}

fn profile(name: &str, family: &str, at: &str) -> Value {
    json!({
        "storageProfileId": format!("sp-{name}"), "displayName": name, "osFamily": family,
        "fileSystemLocations": [{ "name": "show", "path": at, "type": "LOCAL" }],
    })
}

/// Counts that the client reports of a run.
const COUNTS: [&str; 4] = [
    "downloaded_session_actions",
    "downloaded_files",
    "downloaded_bytes",
    "unmapped_paths",
];

/// The names below a root of the files that the client says it downloaded.
fn told_files(lines: &str, root: &Path) -> BTreeSet<String> {
    let last = lines.trim_end().lines().last().unwrap();
    let summary: Value = serde_json::from_str(last).unwrap();
    assert_eq!(summary["messageType"], "summary", "{lines}");
    let files = summary["files"].as_array().unwrap().iter();
    files
        .map(|file| {
            let below = Path::new(file.as_str().unwrap()).strip_prefix(root);
            below.unwrap().to_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn files_of_a_job_go_where_the_program_of_aws_puts_them() {
    Both::with(|both| {
        let machine = both.machine;
        // The client puts them where the job has them, and we where we are told.
        let root = machine.path("job root");
        let root_text = root.to_str().unwrap();
        let runs: [Run; 3] = [
            (0, 1, &[("frames/1.exr", "first try"), ("gone", "with it")]),
            (0, 2, &[("frames/1.exr", "one"), (".hidden", "h")]),
            (
                1,
                3,
                &[
                    ("frames/2.exr", "two"),
                    ("frames/sub/b c.png", ""),
                    ("log.txt", "log"),
                ],
            ),
        ];
        for (task, run, files) in runs {
            both.output(root_text, task, run, files);
        }
        let key = format!("{}/{}/Inputs/{HEX}/{HEX}_input", id("farm"), id("queue"));
        let inputs = both.manifest(&[("scene.blend", "scene"), ("tex/wood.png", "wood")]);
        both.ours(args![
            "manifest",
            "upload",
            &inputs,
            "--store",
            store(),
            "--key",
            &key
        ]);
        let hash = ContentHash::of(&fs::read(&inputs).unwrap()).to_string();
        let job = job(
            30,
            &json!([{ "rootPath": root_text, "rootPathFormat": "posix", "outputRelativeDirectories": ["."],
            "inputManifestPath": key, "inputManifestHash": hash }]),
        );
        let (queue, job_json) = (both.queue_json(), machine.file("job.json", job.to_string()));
        let documents = json!({ "job": job, "action": format!("{}-3", id("sessionaction")) });
        let (step, task) = (id("step"), format!("{}-1", id("task")));
        let task: &[&str] = &["--step-id", &step, "--task-id", &task];
        let choices: [(&str, &[&str], u64); 7] = [
            ("output", &[], 5),
            ("output", &task[..2], 5),
            ("output", task, 3),
            ("output", &["-i", "*.exr", "-i", "log*"], 3),
            ("output", &["-i", "frames/sub/"], 1),
            ("input", &[], 2),
            ("input", &["-i", "tex/*"], 1),
        ];
        for (kind, more, count) in choices {
            let mut theirs = args![
                "job",
                format!("download-{kind}"),
                "--job-id",
                id("job"),
                "--yes",
                "--output",
                "json",
                "--ignore-storage-profiles"
            ]
            .to_vec();
            let ours = machine.path("ours");
            let mut arguments = args![
                "--json",
                "download",
                "--queue-json",
                &queue,
                "--job-json",
                &job_json,
                "--latest-by",
                "name",
                "--yes",
                "--map-root",
                format!("{root_text}={}", ours.display())
            ]
            .to_vec();
            if kind == "input" {
                arguments.push("--inputs".into());
            }
            for all in [&mut theirs, &mut arguments] {
                all.extend(more.iter().map(OsString::from));
            }
            let told = both.served(&theirs, &documents);
            let said = both.ours(arguments).json();
            let files = told_files(told["said"].as_str().unwrap(), &root);
            assert_eq!(files.len() as u64, count, "{kind} {more:?} {files:?}");
            assert_eq!(said["processed_files"], count, "{kind} {more:?} {said}");
            assert!(
                files.iter().all(|name| ours.join(name).is_file()),
                "{files:?}"
            );
            assert_same_files(&root, &ours, 1);
            for placed in [&root, &ours] {
                fs::remove_dir_all(placed).unwrap();
            }
        }
    });
}

#[test]
fn new_outputs_of_a_queue_go_where_the_deadline_client_puts_them() {
    Both::with(|both| {
        let machine = both.machine;
        let root = |root: &str| json!({ "rootPath": root, "rootPathFormat": "windows", "outputRelativeDirectories": ["."] });
        let local = |whose: &str| profile(whose, "LINUX", machine.dir(whose).to_str().unwrap());
        let submitted = profile(HEX, "WINDOWS", ROOT);
        let session = format!("session-{HEX}");
        let mut actions = Vec::new();
        let theirs = |actions: &[Value], job: &Value| {
            let documents = json!({
                "job": job, "sessions": [{ "sessionId": session, "startedAt": "2025-01-31T11:30:00+00:00" }],
                "actions": { &session: actions },
                "profiles": { id("sp"): submitted, "sp-theirs": local("theirs") },
            });
            let mut told = both.served(
                &args![
                    "queue",
                    "sync-output",
                    "--storage-profile-id",
                    "sp-theirs",
                    "--bootstrap-lookback-minutes",
                    "5000000",
                    "--checkpoint-dir",
                    machine.path("their checkpoints"),
                    "--verbose"
                ],
                &documents,
            );
            told["counts"][0].take()
        };
        let (queue, jobs) = (both.queue_json(), machine.path("jobs.json"));
        let (there, here) = (
            machine.file("there.json", submitted.to_string()),
            machine.file("here.json", local("ours").to_string()),
        );
        let ours = || {
            let run = both.ours(args![
                "--json",
                "sync-output",
                "--queue-json",
                &queue,
                "--jobs-json",
                &jobs,
                "--storage-profile-json",
                &there,
                "--local-storage-profile-json",
                &here,
                "--checkpoint-dir",
                machine.path("our checkpoints"),
                "--conflict-resolution",
                "overwrite"
            ]);
            run.json()
        };
        let runs: [Run; 3] = [
            (1, 1, &[("frames/2.exr", "two"), ("both", "of task 1")]),
            (
                0,
                2,
                &[
                    ("frames/1.exr", "one"),
                    ("both", "of task 0"),
                    ("d/empty", ""),
                ],
            ),
            (
                0,
                3,
                &[("frames/1.exr", "one, again"), ("both", "of task 0, again")],
            ),
        ];
        for (minute, part) in [&runs[..2], &runs[2..], &[]].into_iter().enumerate() {
            for (task, run, files) in part {
                both.output(ROOT, *task, *run, files);
                // Of two outputs the later counts, and the server's times are whole seconds.
                sleep(Duration::from_millis(1100));
                actions.push(json!({
                    "sessionActionId": format!("{}-{run}", id("sessionaction")), "status": "SUCCEEDED",
                    "startedAt": format!("2025-01-31T12:00:0{run}+00:00"),
                    "endedAt": format!("2025-01-31T12:00:0{run}+00:00"),
                    "definition": { "taskRun": { "taskId": format!("{}-{task}", id("task")), "stepId": id("step") } },
                }));
            }
            // Its outputs are asked for again if the job is not as it was.
            let job = job(minute, &json!([root(ROOT)]));
            fs::write(&jobs, json!({ "jobs": [job] }).to_string()).unwrap();
            let (theirs, ours) = (theirs(&actions, &job), ours());
            // What it writes for Deadline Cloud's monitor.
            fs::remove_dir_all(machine.path("theirs/.deadline")).unwrap();
            assert_same_fields(&theirs, &ours, &COUNTS);
            assert_eq!(ours["downloaded_session_actions"], part.len());
            assert_same_files(&machine.path("theirs"), &machine.path("ours"), 1);
            let latest = ["of task 0", "of task 0, again", "of task 0, again"];
            assert_eq!(text(&machine.path("ours/both")), latest[minute]);
        }
        assert_eq!(text(&machine.path("ours/frames/1.exr")), "one, again");
    });
}
