//! Jobs: which outputs are used, what is in a bundle, and the attachments document, as AWS's own code has them.

use std::collections::BTreeMap;
use std::fs;

use attachfs_jobs::{
    Attachments, BundleFile, BundleFiles, BundleReferences, BundleValue, FileSystemKind,
    GivenParameters, JobAddress, JobBundle, JobPart, LatestBy, OutputKey, RootAttachment, Which,
    read_outputs,
};
use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{
    ChunkSize, Content, ContentHash, File, ManifestPath, Mtime, Node, Snapshot,
};
use attachfs_paths::{ForeignPath, PathFormat};
use attachfs_store_s3::S3Store;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::{base64, python, text_of};
use crate::foreign::BUCKET;
use crate::moto::Moto;

const HEX: &str = "0123456789abcdef0123456789abcdef";

fn manifest(name: &str, version: u8) -> String {
    let file = Node::File(File {
        size: 1,
        mtime: Mtime(1_700_000_000_123_456),
        runnable: false,
        content: Content::Whole(ContentHash::of(&[version])),
    });
    let path = ManifestPath::new(name.as_bytes()).unwrap();
    let snapshot = Snapshot::new(ChunkSize::WholeFile, None, [(path, file)]).unwrap();
    String::from_utf8(encode_snapshot(&snapshot, Format::V2023_03_03).unwrap()).unwrap()
}

/// A job with two runs of a task, tasks below two roots, and a step whose tasks run together; below a prefix with odd slashes.
const PREFIX: &str = "q/";

fn job() -> JobAddress {
    format!("deadline://farm-{HEX}/queue-{HEX}/job-{HEX}")
        .parse()
        .unwrap()
}

fn outputs() -> Vec<(OutputKey, &'static str, String)> {
    let place = |step: u32, task: Option<u32>| attachfs_jobs::OutputPlace {
        farm: job().farm,
        queue: job().queue,
        job: job().job,
        step: format!("step-{step:032x}").parse().unwrap(),
        task: task.map(|task| format!("task-{step:032x}-{task}").parse().unwrap()),
    };
    let mut all = Vec::new();
    for (version, (step, task, run, root)) in [
        (1, Some(0), 1, "/a"),
        (1, Some(0), 2, "/a"),
        (1, Some(1), 3, "/a"),
        (1, Some(1), 3, "C:\\b \u{e9}"),
        (1, Some(10), 4, "/a"),
        (2, None, 5, "/a"),
        (2, None, 6, "/a"),
    ]
    .into_iter()
    .enumerate()
    {
        let time = attachfs_jobs::ActionTime::from_micros(1_700_000_000_000_000 + run * 1_000_000);
        let action = format!("sessionaction-{HEX}-{run}").parse().unwrap();
        let key = OutputKey::new(place(step, task), time.unwrap(), action, None, root);
        let name = format!("of {step} {}", task.unwrap_or(9) % 2);
        all.push((key, root, manifest(&name, version as u8)));
    }
    all
}

#[test]
fn the_outputs_of_a_job_are_those_that_python_finds() {
    let (Some(python), Some(moto)) = (python(), Moto::start()) else {
        return;
    };
    let access = &moto.access;
    let asked = |op: &str, more: Value| {
        let mut request = json!({
            "op": op, "endpoint": access.endpoint, "bucket": BUCKET, "region": access.region,
            "access_key": access.access_key, "secret_key": access.secret_key,
        });
        for (name, value) in more.as_object().unwrap() {
            request[name] = value.clone();
        }
        python.told(&request)
    };
    for (key, root, text) in outputs() {
        let key = format!("{PREFIX}/{}", key.manifest_key().unwrap().object_key());
        asked(
            "s3_write",
            json!({ "key": key, "asset_root": root, "manifest": base64(text) }),
        );
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime
        .block_on(S3Store::connect(access.options(PREFIX)))
        .unwrap();
    let compare = |address: &JobAddress, which: Which, action: Option<String>| {
        let told = asked(
            "s3_outputs",
            json!({
                "prefix": PREFIX, "farm": address.farm, "queue": address.queue, "job": address.job,
                "step": address.step(), "task": address.task(), "session_action": action,
            }),
        );
        let told: BTreeMap<_, _> = told["outputs"].as_object().unwrap().iter().collect();
        let told: BTreeMap<_, _> = told
            .into_iter()
            .map(|(root, text)| (root.clone(), text_of(text)))
            .collect();
        let ours = runtime
            .block_on(read_outputs(&store, address, which))
            .unwrap();
        let ours: BTreeMap<_, _> = ours
            .into_iter()
            .map(|of| {
                let text = encode_snapshot(&of.snapshot, Format::V2023_03_03).unwrap();
                (of.root, String::from_utf8(text).unwrap())
            })
            .collect();
        assert_eq!(told, ours, "{address}");
        ours.len()
    };
    let by_name = Which::Latest(LatestBy::Name);
    assert_eq!(compare(&job(), by_name, None), 2);
    let mut parts = 0;
    for (key, _, _) in outputs() {
        let step = JobAddress {
            part: JobPart::Step(key.place.step),
            ..job()
        };
        assert!(compare(&step, by_name, None) > 0);
        let number = key.place.task.map_or(0, |task| task.number());
        let task = key
            .place
            .task
            .unwrap_or_else(|| format!("task-{HEX}-{number}").parse().unwrap());
        let task = JobAddress {
            part: JobPart::Task(key.place.step, task),
            ..job()
        };
        // Of a task of a chunked step nothing is found without the session action.
        assert_eq!(compare(&task, by_name, None) > 0, key.place.task.is_some());
        assert!(compare(&task, Which::Of(key.action), Some(key.action.to_string())) > 0);
        parts += 1;
    }
    assert_eq!(parts, 7);
    let elsewhere = JobAddress {
        job: format!("job-{}", "f".repeat(32)).parse().unwrap(),
        ..job()
    };
    assert_eq!(compare(&elsewhere, by_name, None), 0);
}

#[test]
fn the_attachments_document_is_byte_for_byte_that_of_python() {
    let Some(python) = python() else { return };
    let root = (
        ".{1,20}",
        any::<bool>(),
        prop::option::of("[0-9A-Za-z ]{1,9}"),
        any::<bool>(),
        prop::collection::vec(".{0,9}", 0..3),
    );
    let any = (prop::collection::vec(root, 0..4), any::<bool>());
    let run = TestRunner::default().run(&any, |(roots, is_virtual)| {
        let roots =
            roots.into_iter().map(
                |(root, windows, location, inputs, outputs)| RootAttachment {
                    root,
                    format: if windows {
                        PathFormat::Windows
                    } else {
                        PathFormat::Posix
                    },
                    location,
                    inputs: inputs.then(|| "farm/queue/x_input".parse().unwrap()),
                    inputs_hash: inputs.then(|| ContentHash::of(b"x")),
                    outputs,
                },
            );
        let file_system = if is_virtual {
            FileSystemKind::Virtual
        } else {
            FileSystemKind::Copied
        };
        let ours = Attachments {
            roots: roots.collect(),
            file_system,
        };
        let roots = ours.roots.iter().map(|of| {
            json!({
                "root": of.root, "format": of.format.as_str(), "location": of.location,
                "inputs": of.inputs, "inputs_hash": of.inputs_hash.map(|hash| hash.to_string()),
                "outputs": of.outputs,
            })
        });
        let told = python.told(&json!({
            "op": "attachments", "roots": roots.collect::<Vec<_>>(),
            "file_system": file_system.to_string(),
        }));
        prop_assert_eq!(told["document"].as_str().unwrap(), ours.to_json());
        Ok(())
    });
    run.unwrap();
}

const TEMPLATE: &str = r"
specificationVersion: jobtemplate-2023-09
name: shot
parameterDefinitions:
- {name: scene, type: PATH, dataFlow: IN, objectType: FILE, default: scenes/../a.blend}
- {name: textures, type: PATH, dataFlow: IN, objectType: DIRECTORY}
- {name: frames, type: PATH, dataFlow: OUT, objectType: FILE, default: out/frame_####.png}
- {name: both, type: PATH, dataFlow: INOUT, default: cache}
- {name: spoken, type: PATH, default: notes.txt}
- {name: nothing, type: PATH, dataFlow: IN, default: ''}
- {name: several, type: 'LIST[PATH]', dataFlow: IN, objectType: FILE, default: [x/1, x/2]}
- {name: given, type: PATH, dataFlow: IN, objectType: FILE}
- name: text
  type: STRING
  default: |
    two
    lines
- &count {name: count, type: INT, default: 5}
steps: []
";

const VALUES: &str = r#"{"parameterValues": [
    {"name": "textures", "value": "/proj/t"}, {"name": "deadline:priority", "value": 70},
    {"name": "given", "value": "/not/used"}]}"#;

const REFERENCES: &str = r"
assetReferences:
  inputs:
    filenames: [/proj/b.exr, /proj/a.exr, '/proj/a.exr']
    directories:
    - /proj/dir
  outputs:
    directories: [/proj/out]
  referencedPaths: [/proj/spoken of]
";

#[test]
fn a_bundle_says_what_python_reads_in_it() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("template.yaml"), TEMPLATE).unwrap();
    fs::write(folder.join("parameter_values.json"), VALUES).unwrap();
    fs::write(folder.join("asset_references.yaml"), REFERENCES).unwrap();
    let given = BTreeMap::from([("given".to_owned(), "sub/../file".to_owned())]);
    let told = python.told(&json!({
        "op": "bundle", "folder": base64(folder.as_os_str().as_encoded_bytes()),
        "given": given, "working_dir": base64("/tmp"),
    }));
    let yaml = |text: &'static str| BundleFile::one_of("", None, Some(text.as_bytes())).unwrap();
    let files = BundleFiles {
        template: yaml(TEMPLATE),
        parameter_values: BundleFile::one_of("", Some(VALUES.as_bytes()), None).unwrap(),
        asset_references: yaml(REFERENCES),
    };
    let path = ForeignPath::parse(PathFormat::Posix, folder.as_os_str().as_encoded_bytes());
    let bundle = JobBundle::read(&path, &files).unwrap();
    let (parameters, found) = bundle
        .assets(&GivenParameters {
            values: &given,
            working_dir: &ForeignPath::parse(PathFormat::Posix, "/tmp"),
        })
        .unwrap();
    let BundleReferences {
        input_files,
        input_directories,
        outputs,
        references,
    } = found;
    assert_eq!(told["input_files"], json!(input_files));
    assert_eq!(told["input_directories"], json!(input_directories));
    assert_eq!(told["outputs"], json!(outputs));
    assert_eq!(told["references"], json!(references));
    let mut compared = 0;
    for parameter in parameters {
        let value = match parameter.value {
            BundleValue::Path(path) if !path.is_empty() => json!(path),
            BundleValue::Paths(paths) => json!(paths),
            _ => continue,
        };
        assert_eq!(told["values"][&parameter.name], value, "{}", parameter.name);
        compared += 1;
    }
    assert_eq!(compared, 7);
}
