//! The page for artists, command by command as it is printed there: `docs/artists.md`.

use std::fs;
use std::process::Command;

use attachfs_test_s3::REGION;
use serde_json::{Value, json};

use crate::machine::{Machine, args, until};
use crate::process::{Said, said};
use crate::programs::program;

const PAGE: &str = include_str!("../../docs/artists.md");
const FARM: &str = "farm-00000000000000000000000000000001";
const QUEUE: &str = "queue-00000000000000000000000000000002";
const JOB: &str = "job-00000000000000000000000000000003";
const STEP: &str = "step-00000000000000000000000000000004";

const TEMPLATE: &str = "\
specificationVersion: jobtemplate-2023-09
name: shot010
parameterDefinitions:
- {name: Scene, type: PATH, objectType: FILE, dataFlow: IN, default: scene.json}
- {name: Frames, type: PATH, objectType: DIRECTORY, dataFlow: OUT, default: frames}
steps:
- name: render
  script: {actions: {onRun: {command: render, args: ['{{Param.Scene}}', '{{Param.Frames}}']}}}
";
const REFERENCES: &str = "\
assetReferences:
  inputs: {filenames: [], directories: [shot010/textures]}
  outputs: {directories: []}
  referencedPaths: []
";

/// What is printed as commands between two marks, which say what happens elsewhere.
fn commands() -> Vec<String> {
    let parts = PAGE.split("<!-- the farm renders");
    let of_part = |part: &str| {
        let blocks = part.split("```sh\n").skip(1);
        let blocks = blocks.map(|block| block.split("```").next().unwrap());
        blocks.collect::<String>()
    };
    parts.map(of_part).collect()
}

/// The commands, typed by a person in the machine's folder. The first that fails ends them.
fn typed(machine: &Machine, commands: &str) -> Said {
    let mut shell: Command = machine.command("bash");
    let attachfs = program("attachfs");
    let path = std::env::var("PATH").unwrap();
    shell
        .args(["-exuo", "pipefail", "-c", commands])
        .env(
            "PATH",
            format!("{}:{path}", attachfs.parent().unwrap().display()),
        )
        .env("AWS_ENDPOINT_URL", machine.server().endpoint())
        .env("AWS_REGION", REGION)
        .envs([("FARM", FARM), ("QUEUE", QUEUE), ("JOB", JOB)]);
    said(&mut shell).with_code(0)
}

/// What a worker does for a task: mounts the inputs that were submitted, and publishes a frame as the task's output.
fn render(machine: &Machine, task: u32) {
    let attachments = fs::read(machine.path("attachments.json")).unwrap();
    let attachments: Value = serde_json::from_slice(&attachments).unwrap();
    let root = &attachments["manifests"][0];
    assert_eq!(root["rootPath"], *machine.path("shot010").to_str().unwrap());
    let key = root["inputManifestPath"].as_str().unwrap();
    let inputs = format!("{}/Manifests/{key}", machine.store());
    let mount = machine.mount(args!["--output-dir", "frames", inputs], "worker");
    let texture = mount.dir.join("textures/wood.txt");
    assert_eq!(
        fs::read_to_string(texture).unwrap(),
        "wood\nanother grain\n"
    );
    let frames = mount.dir.join("frames");
    fs::create_dir_all(&frames).unwrap();
    fs::write(frames.join(format!("f_{task:04}.exr")), frame(task)).unwrap();
    let out = machine.path(format!("{task}.manifest"));
    let umount = args![
        "umount",
        "--commit",
        "--format",
        "2023-03-03",
        "-o",
        &out,
        &mount.dir
    ];
    machine.ok(umount);
    machine.ok(args![
        "manifest",
        "upload",
        &out,
        "--store",
        machine.store(),
        "--farm",
        FARM,
        "--queue",
        QUEUE,
        "--job",
        JOB,
        "--step",
        STEP,
        "--task",
        format!("task-00000000000000000000000000000005-{task}"),
        "--session-action",
        format!("sessionaction-00000000000000000000000000000006-{task}"),
        "--time",
        format!("2025-01-31T12:00:{task:02}.000000Z"),
        "--asset-root",
        root["rootPath"].as_str().unwrap()
    ]);
}

fn frame(task: u32) -> String {
    format!("the frame of task {task}")
}

#[test]
fn the_commands_of_the_page_for_artists_work_as_they_are_printed() {
    Machine::mounting_from_s3(|machine| {
        machine.file("shot010/template.yaml", TEMPLATE);
        machine.file("shot010/asset_references.yaml", REFERENCES);
        machine.file("shot010/scene.json", "{}");
        machine.file("shot010/textures/wood.txt", "wood\n");
        let store = machine.store();
        let (bucket, prefix) = store
            .strip_prefix("s3://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let queue = json!({
            "farmId": FARM,
            "queueId": QUEUE,
            "displayName": "film",
            "jobAttachmentSettings": {"s3BucketName": bucket, "rootPrefix": prefix},
        });
        machine.file("queue.json", queue.to_string());
        let [submit, look, fetch] = &commands()[..] else {
            panic!("the page has other parts");
        };

        typed(machine, submit)
            .saying("1 object")
            .saying("create-job");
        (0..2).for_each(|task| render(machine, task));
        typed(machine, look).printing(JOB).printing("f_0001.exr");
        // What comes later is shown, too.
        render(machine, 2);
        let outputs = machine.path("outputs/latest");
        let root = fs::read_dir(outputs)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let later = root.join("frames/f_0002.exr");
        until("the new frame is shown", || later.exists());
        assert_eq!(fs::read_to_string(later).unwrap(), frame(2));

        typed(machine, fetch);
        for to in ["frames", "synced"] {
            for task in 0..3 {
                let path = machine.path(format!("{to}/frames/f_{task:04}.exr"));
                assert_eq!(fs::read_to_string(path).unwrap(), frame(task));
            }
        }
    });
}
