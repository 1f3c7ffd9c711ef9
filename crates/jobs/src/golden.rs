//! Names, keys, metadata, addresses and attachments against what AWS's library makes of them (`tests/vectors/README.md`).

use std::fs;
use std::path::Path;

use attachfs_paths::{PathFormat, asset_root_dir_name};
use attachfs_store::StoreAddress;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    ActionTime, Attachments, InputKey, OutputKey, OutputMetadata, OutputPlace, Queue,
    RootAttachment,
};

const HEX: &str = "0123456789abcdef0123456789abcdef";

/// The cases whose id begins with a word.
fn cases(kind: &str) -> Vec<Value> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/names-keys-metadata.json");
    let file: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap().iter();
    cases
        .filter(|case| text(case, "id").starts_with(kind))
        .cloned()
        .collect()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} of {case}"))
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(word: &str) -> T {
    format!("{word}{HEX}").parse().unwrap()
}

fn place(task: bool) -> OutputPlace {
    OutputPlace {
        farm: id("farm-"),
        queue: id("queue-"),
        job: id("job-"),
        step: id("step-"),
        task: task.then(|| format!("task-{HEX}-1").parse().unwrap()),
    }
}

fn output(task: bool, time: ActionTime, location: Option<&str>, root: &str) -> String {
    let action = format!("sessionaction-{HEX}-1").parse().unwrap();
    let key = OutputKey::new(place(task), time, action, location, root);
    key.manifest_key().unwrap().to_string()
}

#[test]
fn every_case_is_looked_at() {
    let kinds = [
        "root:",
        "time:",
        "uri:",
        "rootpath:",
        "prefixes",
        "attachments",
    ];
    let counts = kinds.map(|kind| cases(kind).len());
    assert_eq!(counts, [8, 4, 7, 3, 1, 2]);
    assert_eq!(counts.iter().sum::<usize>(), cases("").len());
}

#[test]
fn roots_have_the_names_and_the_metadata_that_python_gives_them() {
    let time = ActionTime::from_micros(0).unwrap();
    for case in cases("root:") {
        let root = text(&case, "root");
        assert_eq!(
            asset_root_dir_name(root),
            text(&case, "assetroot_dir"),
            "{root}"
        );
        // Made on Linux: there every root is a path of Linux.
        let input = InputKey::new(id("farm-"), id("queue-"), id(""), PathFormat::Posix, root);
        let input = input.manifest_key().unwrap().to_string();
        assert!(
            input.ends_with(text(&case, "input_manifest_name")),
            "{root}"
        );
        for (location, name) in [
            (None, "worker_output_manifest_name_no_fsl"),
            (Some("Loc 1"), "worker_output_manifest_name_fsl_Loc1"),
        ] {
            let output = output(true, time, location, root);
            assert!(output.ends_with(text(&case, name)), "{root}");
        }
        let said = OutputMetadata {
            asset_root: root.to_owned(),
            location: Some("Loc 1".to_owned()),
        };
        let metadata = said.encode().unwrap();
        let told: Value = metadata
            .iter()
            .map(|(name, value)| (name, json!(value)))
            .collect();
        assert_eq!(told, case["output_metadata"], "{root}");
        assert_eq!(OutputMetadata::decode(&metadata), Ok(said));
    }
}

#[test]
fn session_actions_have_the_folders_that_python_gives_them() {
    for case in cases("time:") {
        let seconds = case["time"].as_f64().unwrap();
        let time = ActionTime::from_micros((seconds * 1e6).floor() as i64).unwrap();
        assert_eq!(time.to_string(), text(&case, "iso"));
        for (task, folder) in [(true, "task_prefix"), (false, "chunked_prefix")] {
            // The ids of the vectors are shorter than those of the service.
            let expected = text(&case, folder)
                .replace("task-1", &format!("task-{HEX}-1"))
                .replace("sessionaction-1", &format!("sessionaction-{HEX}-1"));
            let words = ["farm-1", "queue-1", "job-1", "step-1"];
            let expected = words.iter().fold(expected, |text, word| {
                text.replace(word, &word.replace('1', HEX))
            });
            let key = output(task, time, None, "/r");
            assert_eq!(key.rsplit_once('/').unwrap().0, expected);
        }
    }
}

fn queue_with(bucket: &str, prefix: &str) -> Result<Queue, crate::DocumentError> {
    let document = json!({
        "farmId": format!("farm-{HEX}"), "queueId": format!("queue-{HEX}"), "displayName": "q",
        "jobAttachmentSettings": { "s3BucketName": bucket, "rootPrefix": prefix },
    });
    Queue::from_json(document.to_string().as_bytes())
}

#[test]
fn root_prefixes_lead_to_the_keys_that_python_makes() {
    let mut wrong = 0;
    for case in cases("uri:") {
        let uri = text(&case, "uri");
        let Some(bucket) = case["s3BucketName"].as_str() else {
            // Python takes no empty prefix. Here it is the top of a bucket, and no prefix of a queue.
            wrong += 1;
            match uri.parse::<StoreAddress>() {
                Ok(StoreAddress::S3 { bucket, prefix }) => {
                    assert_eq!(uri, "s3://b/");
                    queue_with(bucket.as_str(), prefix.as_str()).unwrap_err();
                }
                Ok(StoreAddress::Directory(_)) => panic!("{uri}"),
                Err(_) => {}
            }
            continue;
        };
        let queue = queue_with(bucket, text(&case, "rootPrefix")).unwrap();
        let store = queue.attachments.as_ref().unwrap().store();
        assert_eq!(store.to_string(), text(&case, "to_s3_root_uri"));
        let prefix = &queue.attachments.unwrap().prefix;
        assert_eq!(prefix.join("Data"), text(&case, "full_cas_prefix"));
        // Python leaves out what it takes for the query of a URL.
        if !uri.contains('?') {
            assert_eq!(uri.parse(), Ok(store));
        }
    }
    assert_eq!(wrong, 3);
    for case in cases("rootpath:") {
        let store = format!("s3://{}", text(&case, "root_path")).parse();
        let Ok(StoreAddress::S3 { bucket, prefix }) = store else {
            panic!("{case}")
        };
        // Python takes no bucket without a slash behind it.
        let expected = [&case["s3BucketName"], &case["rootPrefix"]].map(|of| of.as_str());
        let [expected_bucket, expected_prefix] = expected;
        assert_eq!(expected_bucket.unwrap_or("b"), bucket.as_str());
        assert_eq!(expected_prefix.unwrap_or(""), prefix.as_str());
    }
    let [case] = &cases("prefixes")[..] else {
        panic!("one case")
    };
    let settings = &case["settings"];
    let queue = queue_with(text(settings, "s3BucketName"), text(settings, "rootPrefix")).unwrap();
    let prefix = queue.attachments.unwrap().prefix;
    assert_eq!(prefix.join("Data"), text(case, "full_cas_prefix"));
    for (field, below) in [
        ("job", "f/q/j"),
        ("step", "f/q/j/s"),
        ("task", "f/q/j/s/t"),
        ("output", "f/q/j/s/t/sa"),
        ("manifest", "x/y"),
    ] {
        assert_eq!(
            prefix.join(&format!("Manifests/{below}")),
            text(case, field)
        );
    }
}

#[test]
fn attachments_are_written_byte_for_byte_as_python_writes_them() {
    for case in cases("attachments") {
        let document = text(&case, "to_dict_json");
        let attachments = Attachments::from_json(document.as_bytes()).unwrap();
        assert_eq!(attachments.to_json(), document);
        let again: Value = serde_json::from_str(&attachments.to_json()).unwrap();
        assert_eq!(again, case["to_dict"]);
    }
}

proptest! {
    #[test]
    fn any_prefix_that_a_service_allows_is_kept_as_it_is(prefix in "[a-zA-Z0-9_/-]{1,63}") {
        let queue = queue_with("bucket", &prefix).unwrap();
        let store = queue.attachments.unwrap().store();
        prop_assert_eq!(store.to_string(), format!("s3://bucket/{}", prefix));
        prop_assert_eq!(store.to_string().parse::<StoreAddress>(), Ok(store.clone()));
        let key = output(true, ActionTime::from_micros(0).unwrap(), None, "/r");
        // As Python joins them.
        let full = [&prefix, "Manifests", &key].join("/");
        let address = format!("s3://bucket/{full}");
        let parsed: attachfs_store::ManifestAddress = address.parse().unwrap();
        prop_assert_eq!(parsed.to_string(), address);
        prop_assert_eq!(parsed.store, store);
        let key = OutputKey::try_from(&parsed.key).unwrap();
        prop_assert_eq!(key.place, place(true));
    }

    #[test]
    fn what_is_no_prefix_of_a_queue_is_refused(prefix in "[a-z/]{0,5}[^a-zA-Z0-9_/-][a-z/]{0,5}") {
        prop_assert!(queue_with("bucket", &prefix).is_err());
    }

    #[test]
    fn attachments_read_as_they_are_written(
        roots in prop::collection::vec(
            (".{1,20}", any::<bool>(), prop::option::of("[0-9A-Za-z ]{1,9}"), any::<bool>(),
                prop::collection::vec(".{0,9}", 0..3)),
            0..4,
        ),
        is_virtual in any::<bool>(),
    ) {
        let roots = roots.into_iter().map(|(root, windows, location, inputs, outputs)| {
            let format = if windows { PathFormat::Windows } else { PathFormat::Posix };
            let key = InputKey::new(id("farm-"), id("queue-"), id(""), format, &root);
            RootAttachment {
                root,
                format,
                location,
                inputs: inputs.then(|| key.manifest_key().unwrap()),
                inputs_hash: inputs.then_some(key.root),
                outputs,
            }
        });
        let attachments = Attachments {
            roots: roots.collect(),
            file_system: if is_virtual { crate::FileSystemKind::Virtual } else { crate::FileSystemKind::Copied },
        };
        let text = attachments.to_json();
        prop_assert!(text.is_ascii());
        prop_assert_eq!(Attachments::from_json(text.as_bytes()).unwrap(), attachments);
    }
}
