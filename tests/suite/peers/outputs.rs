//! Manifests of jobs: the names of inputs, and outputs with what is said of them: what one side writes, the other reads.
//!
//! The server is moto: `s3s-fs` keeps metadata in files that it names by keys, and keys of outputs are too long for that.

use std::fs;

use attachfs_jobs::InputKey;
use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{
    ChunkSize, Content, ContentHash, File, ManifestPath, Mtime, Node, Snapshot,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::{base64, python, text_of};
use crate::foreign::BUCKET;
use crate::golden::{cases, set_mtime};
use crate::machine::{Machine, args};
use crate::moto::Moto;

const HEX: &str = "0123456789abcdef0123456789abcdef";

/// Roots of every kind that a job may have.
const ROOTS: [&str; 5] = [
    "/proj",
    "C:\\Users\\me\\a b",
    "/home/us\u{e9}r/\u{65e5}\u{672c}",
    "/tmp/\u{1f600}",
    "Z:/quote\"s, and: more",
];

fn manifest(name: &str) -> String {
    let file = Node::File(File {
        size: 1,
        mtime: Mtime(1_700_000_000_123_456),
        runnable: false,
        content: Content::Whole(ContentHash::of(b"x")),
    });
    let path = ManifestPath::new(name.as_bytes()).unwrap();
    let snapshot = Snapshot::new(ChunkSize::WholeFile, None, [(path, file)]).unwrap();
    String::from_utf8(encode_snapshot(&snapshot, Format::V2023_03_03).unwrap()).unwrap()
}

/// The store on the server.
fn store() -> String {
    format!("s3://{BUCKET}/some/DeadlineCloud")
}

/// A request to a driver about the server.
fn asked(moto: &Moto, op: &str, more: &Value) -> Value {
    let access = &moto.access;
    let mut request = json!({
        "op": op, "endpoint": access.endpoint, "bucket": BUCKET, "region": access.region,
        "access_key": access.access_key, "secret_key": access.secret_key,
    });
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

#[test]
fn python_finds_the_outputs_that_were_uploaded() {
    let (Some(python), Some(moto)) = (python(), Moto::start()) else {
        return;
    };
    Machine::with_directory(|machine| {
        for (number, root) in ROOTS.iter().enumerate() {
            let text = manifest(&format!("frame.{number}"));
            let file = machine.file("out.manifest", &text);
            let task = format!("task-{HEX}-{number}");
            let uploaded = moto
                .access
                .ok(
                    machine,
                    &args![
                        "--json",
                        "manifest",
                        "upload",
                        &file,
                        "--store",
                        store(),
                        "--unchecked",
                        "--farm",
                        format!("farm-{HEX}"),
                        "--queue",
                        format!("queue-{HEX}"),
                        "--job",
                        format!("job-{HEX}"),
                        "--step",
                        format!("step-{HEX}"),
                        "--task",
                        &task,
                        "--session-action",
                        format!("sessionaction-{HEX}-{number}"),
                        "--time",
                        "2025-01-31T12:00:00.000000Z",
                        "--asset-root",
                        root,
                        "--file-system-location",
                        "Loc 1",
                    ],
                )
                .json();
            let address = uploaded["address"].as_str().unwrap();
            let key = address.strip_prefix("s3://bucket/").unwrap();
            let told = python.told(&asked(&moto, "s3_read", &json!({ "key": key })));
            assert_eq!(told["asset_root"], *root);
            assert_eq!(text_of(&told["manifest"]), text);
        }
        let outputs = json!({
            "prefix": "some/DeadlineCloud", "farm": format!("farm-{HEX}"),
            "queue": format!("queue-{HEX}"), "job": format!("job-{HEX}"),
        });
        let told = python.told(&asked(&moto, "s3_outputs", &outputs));
        let found = told["outputs"].as_object().unwrap();
        assert_eq!(found.len(), ROOTS.len());
        for (number, root) in ROOTS.iter().enumerate() {
            assert_eq!(text_of(&found[*root]), manifest(&format!("frame.{number}")));
        }
    });
}

#[test]
fn what_python_says_of_an_output_is_read() {
    let (Some(python), Some(moto)) = (python(), Moto::start()) else {
        return;
    };
    Machine::with_directory(|machine| {
        let text = manifest("frame");
        for (number, root) in ROOTS.iter().enumerate() {
            let location = (number % 2 == 0).then_some("Loc 1");
            let key = format!("by/python/{number}_output");
            let written = json!({
                "key": format!("some/DeadlineCloud/Manifests/{key}"), "asset_root": root,
                "location": location, "manifest": base64(&text),
            });
            python.told(&asked(&moto, "s3_write", &written));
            let output = machine.path("downloaded");
            let told = moto
                .access
                .ok(
                    machine,
                    &args![
                        "--json",
                        "manifest",
                        "download",
                        &key,
                        "--store",
                        store(),
                        "-o",
                        &output,
                    ],
                )
                .json();
            assert_eq!(told["asset_root"], *root);
            assert_eq!(told["file_system_location"], json!(location));
            assert_eq!(fs::read_to_string(output).unwrap(), text);
        }
    });
}

/// Roots as people write them, on Windows or not.
fn any_root(windows: bool) -> impl Strategy<Value = String> {
    let (begins, separators) = if windows {
        (
            &["C:", "z:/", "D:\\", "\\", "\\\\server\\share"][..],
            &["\\", "/", "\\\\", "\\/"][..],
        )
    } else {
        (&["", "/", "//", "///", "./"][..], &["/", "//"][..])
    };
    let names = &["a", "b c", ".", "..", ".hidden", "\u{e9}", ""][..];
    let step = (select(separators), select(names)).prop_map(|(one, other)| format!("{one}{other}"));
    let steps = prop::collection::vec(step, 0..6).prop_map(|steps| steps.concat());
    (select(begins), steps).prop_map(|(begin, steps)| format!("{begin}{steps}"))
}

#[test]
fn any_root_has_the_name_that_python_gives_it() {
    let Some(python) = python() else { return };
    let named = |root: &str, format: &str| {
        let asked = json!({
            "op": "input_name", "root": root, "format": format, "manifest": base64(manifest("f")),
        });
        let ours = InputKey::new(
            format!("farm-{HEX}").parse().unwrap(),
            format!("queue-{HEX}").parse().unwrap(),
            HEX.parse().unwrap(),
            format.parse().unwrap(),
            root,
        );
        let ours = format!("{}_input", ours.root);
        assert_eq!(python.told(&asked)["name"], ours, "{root:?} on {format}");
    };
    let mut compared = 0;
    for case in cases("names-keys-metadata.json") {
        if let Some(root) = case["root"].as_str().filter(|root| root.starts_with('/')) {
            named(root, "posix");
            compared += 1;
        }
    }
    assert_eq!(compared, 6);
    let mut runner = TestRunner::default();
    for (windows, format) in [(true, "windows"), (false, "posix")] {
        let any = any_root(windows);
        let run = runner.run(&any, |root| {
            named(&root, format);
            Ok(())
        });
        run.unwrap();
    }
}

#[test]
fn the_vectors_of_keys_and_metadata_hold() {
    Machine::with_directory(|machine| {
        let file = machine.file("out.manifest", manifest("f"));
        let mut compared = 0;
        for case in cases("names-keys-metadata.json") {
            let Some(root) = case["root"].as_str() else {
                continue;
            };
            let uploaded = machine.json(args![
                "manifest",
                "upload",
                &file,
                "--store",
                machine.store(),
                "--unchecked",
                "--farm",
                format!("farm-{HEX}"),
                "--queue",
                format!("queue-{HEX}"),
                "--job",
                format!("job-{HEX}"),
                "--step",
                format!("step-{HEX}"),
                "--session-action",
                format!("sessionaction-{HEX}-{compared}"),
                "--time",
                "2025-01-31T12:00:00.000000Z",
                "--asset-root",
                root,
                "--file-system-location",
                "Loc 1",
            ]);
            assert_eq!(
                uploaded["metadata"], case["output_metadata"],
                "{}",
                case["id"]
            );
            let name = case["worker_output_manifest_name_fsl_Loc1"]
                .as_str()
                .unwrap();
            let address = uploaded["address"].as_str().unwrap();
            assert!(address.ends_with(name), "{address} {name}");
            compared += 1;
        }
        assert_eq!(compared, 8);
    });
}

#[test]
fn a_commit_for_the_library_of_aws_is_what_that_makes_of_the_files() {
    let Some(python) = python() else { return };
    Machine::mounting_from_directory(|machine| {
        machine.file("scene/a", "aaa");
        machine.file("scene/gone", "g");
        let manifest = machine.snapshot(&machine.path("scene"), "scene.manifest");
        let mount = machine.mount(args![&manifest], "mnt");
        let plain = machine.dir("plain");
        for (number, name) in [
            "a",
            "out/b c.exr",
            "out/\u{e9}\u{65e5}\u{1f600}.png",
            "Z~\"x\\",
        ]
        .into_iter()
        .enumerate()
        {
            for root in [&mount.dir, &plain] {
                let file = root.join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, format!("bytes of {name}")).unwrap();
                set_mtime(&file, 1_700_000_000_123_456_789 + number as i64);
            }
        }
        fs::remove_file(mount.dir.join("gone")).unwrap();
        let out = machine.path("out.manifest");
        let commit = args!["commit", &mount.dir, "-o", &out, "--format", "2023-03-03"];
        let told = machine.json(commit);
        assert_eq!(told["account"]["dropped"], json!(["gone"]));
        let root = base64(plain.as_os_str().as_encoded_bytes());
        let taken = python.told(&json!({ "op": "snapshot", "root": root, "include": null }));
        assert_eq!(
            fs::read_to_string(&out).unwrap(),
            text_of(&taken["manifest"])
        );
    });
}
