//! Documents as the service's command line prints them, and the errors of documents that cannot be used.

use std::error::Error as _;

use serde_json::{Value, json};

use super::*;
use crate::{ActionTime, InputKey, OutputKey, OutputPlace};

const HEX: &str = "0123456789abcdef0123456789abcdef";

fn told(error: &DocumentError) -> String {
    let source = error
        .source()
        .map_or(String::new(), |source| format!(": {source}"));
    format!("{error}{source}")
}

/// A job as `aws deadline get-job` prints it, shortened.
fn job() -> Value {
    json!({
        "jobId": format!("job-{HEX}"), "name": "shot 010", "lifecycleStatus": "CREATE_COMPLETE",
        "lifecycleStatusMessage": "", "priority": 50, "createdAt": "2025-01-31T12:00:00+00:00",
        "createdBy": "me", "taskRunStatusCounts": { "SUCCEEDED": 3 },
        "storageProfileId": format!("sp-{HEX}"),
        "parameters": {
            "Scene": { "path": "/proj/a.blend" }, "Frames": { "string": "1-10" },
            "Textures": { "pathList": ["/proj/t1", "/proj/t2"] }, "Samples": { "int": "64" },
            "Counts": { "intList": ["1", "2"] },
        },
        "attachments": {
            "manifests": [
                {
                    "rootPath": "/proj", "rootPathFormat": "posix", "fileSystemLocationName": "Loc 1",
                    "inputManifestPath": format!("farm-{HEX}/queue-{HEX}/Inputs/{HEX}/{HEX}_input"),
                    "inputManifestHash": HEX, "outputRelativeDirectories": ["out", "."],
                },
                { "rootPath": "C:\\a b", "rootPathFormat": "windows" },
            ],
            "fileSystem": "VIRTUAL",
        },
    })
}

fn read(document: &Value) -> Result<Job, DocumentError> {
    Job::from_json(document.to_string().as_bytes())
}

#[test]
fn a_job_tells_its_attachments_parameters_and_storage_profile() {
    let job = read(&job()).unwrap();
    assert_eq!(job.job.to_string(), format!("job-{HEX}"));
    assert_eq!(job.name.as_deref(), Some("shot 010"));
    assert_eq!(
        job.storage_profile.unwrap().to_string(),
        format!("sp-{HEX}")
    );
    assert_eq!(
        job.parameters["Scene"],
        Parameter::Path("/proj/a.blend".to_owned())
    );
    let textures = Parameter::Paths(vec!["/proj/t1".to_owned(), "/proj/t2".to_owned()]);
    assert_eq!(job.parameters["Textures"], textures);
    let other = |kind: &str, text: &str| Parameter::Other {
        kind: kind.to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(job.parameters["Samples"], other("int", "64"));
    assert_eq!(job.parameters["Counts"], other("intList", "[\"1\",\"2\"]"));
    let attachments = job.attachments.unwrap();
    assert_eq!(attachments.file_system, FileSystemKind::Virtual);
    let [first, second] = &attachments.roots[..] else {
        panic!("{attachments:?}")
    };
    assert_eq!(first.location.as_deref(), Some("Loc 1"));
    assert_eq!(first.outputs, ["out", "."]);
    assert_eq!(second.root, "C:\\a b");
    assert_eq!((&second.inputs, &second.location), (&None, &None));
    let text = attachments.to_json();
    let again: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(again, self::job()["attachments"]);
}

#[test]
fn what_is_not_needed_may_be_missing_empty_or_null() {
    for attachments in [Value::Null, json!({})] {
        let job = json!({ "jobId": format!("job-{HEX}"), "attachments": attachments });
        assert_eq!(read(&job).unwrap().attachments, None);
    }
    let ids = json!({ "farmId": format!("farm-{HEX}"), "queueId": format!("queue-{HEX}") });
    let queue = |settings: Value| {
        let mut queue = ids.clone();
        queue["jobAttachmentSettings"] = settings;
        Queue::from_json(queue.to_string().as_bytes()).map(|queue| queue.attachments)
    };
    for none in [
        Value::Null,
        json!({}),
        json!({ "s3BucketName": "", "rootPrefix": "" }),
    ] {
        assert_eq!(queue(none).unwrap(), None);
    }
    let settings = queue(json!({ "s3BucketName": "b", "rootPrefix": "q/" }))
        .unwrap()
        .unwrap();
    assert_eq!(settings.store().to_string(), "s3://b/q/");
    let attachments = json!({ "manifests": [{
        "rootPath": "/a", "rootPathFormat": "posix", "inputManifestPath": "", "inputManifestHash": null,
        "outputRelativeDirectories": [], "fileSystemLocationName": "",
    }] });
    let attachments = Attachments::from_json(attachments.to_string().as_bytes()).unwrap();
    assert_eq!(
        attachments.to_json(),
        r#"{"manifests": [{"rootPath": "/a", "rootPathFormat": "posix"}], "fileSystem": "COPIED"}"#
    );
}

#[test]
fn tasks_steps_and_dependencies_are_read() {
    let task = json!({
        "taskId": format!("task-{HEX}-7"), "runStatus": "SUCCEEDED",
        "latestSessionActionId": format!("sessionaction-{HEX}-2"),
        "parameters": { "Frame": { "int": "7" } },
    });
    let task = Task::from_json(task.to_string().as_bytes()).unwrap();
    assert_eq!(task.task.number(), 7);
    assert_eq!(
        task.latest_action.unwrap().to_string(),
        format!("sessionaction-{HEX}-2")
    );
    let step = json!({ "stepId": format!("step-{HEX}"), "name": "render" });
    let step = Step::from_json(step.to_string().as_bytes()).unwrap();
    assert_eq!(step.name.as_deref(), Some("render"));
    let steps =
        json!({ "dependencies": [{ "stepId": format!("step-{HEX}"), "status": "RESOLVED" }] });
    assert_eq!(
        step_dependencies(steps.to_string().as_bytes()).unwrap(),
        [step.step]
    );
    assert_eq!(step_dependencies(br#"{"dependencies":[]}"#).unwrap(), []);
}

#[test]
fn an_error_names_the_field_and_what_was_found() {
    let changed = |pointer: &str, value: Value| {
        let mut job = job();
        *job.pointer_mut(pointer).unwrap() = value;
        told(&read(&job).unwrap_err())
    };
    let root = "/attachments/manifests/1";
    for (pointer, value, said) in [
        (
            "/jobId".to_owned(),
            json!(5),
            "jobId is the number 5, a text is expected",
        ),
        (
            "/jobId".to_owned(),
            json!("job-1"),
            "jobId is \"job-1\", the id of a job is expected",
        ),
        (
            "/jobId".to_owned(),
            Value::Null,
            "jobId is missing, a text is expected",
        ),
        (
            "/parameters".to_owned(),
            json!([1, 2]),
            "parameters is a list of 2, an object is expected",
        ),
        (
            "/parameters/Scene".to_owned(),
            json!({ "path": "a", "int": "1" }),
            "parameters.Scene is an object of 2 fields, an object of one field, the kind is expected",
        ),
        (
            format!("{root}/rootPathFormat"),
            json!("POSIX"),
            "attachments.manifests[1].rootPathFormat is \"POSIX\", posix or windows is expected",
        ),
        (
            format!("{root}/rootPath"),
            json!(""),
            "attachments.manifests[1].rootPath is \"\", a path is expected",
        ),
        (
            "/attachments/manifests/0/outputRelativeDirectories/1".to_owned(),
            json!(true),
            "attachments.manifests[0].outputRelativeDirectories[1] is true, a text is expected",
        ),
        (
            "/attachments/manifests/0/inputManifestPath".to_owned(),
            json!("../../x"),
            "inputManifestPath is \"../../x\", the key of a manifest is expected",
        ),
        (
            "/attachments/fileSystem".to_owned(),
            json!("copied"),
            "attachments.fileSystem is \"copied\", COPIED or VIRTUAL is expected",
        ),
        (
            "/attachments/manifests".to_owned(),
            json!({}),
            "attachments.manifests is an object of 0",
        ),
    ] {
        let told = changed(&pointer, value);
        assert!(told.contains(said), "{told}\n{said}");
        assert!(
            told.starts_with("the job's document cannot be used: "),
            "{told}"
        );
    }
    let error = Job::from_json(b"{\"jobId\":").unwrap_err();
    assert!(
        told(&error).contains("the job's document is no JSON: EOF"),
        "{}",
        told(&error)
    );
    let error = Job::from_json(b"[]").unwrap_err();
    assert!(
        told(&error).contains("the document is a list of 0, an object"),
        "{}",
        told(&error)
    );
    let long = changed("/jobId", json!("\u{1b}".repeat(1000)));
    assert!(long.len() < 1000 && !long.contains('\u{1b}'), "{long}");
}

#[test]
fn the_key_of_a_manifest_tells_its_root_and_one_of_no_root_is_an_error() {
    let attachments = read(&job()).unwrap().attachments.unwrap();
    let roots = JobRoots::of(&attachments);
    let place = OutputPlace {
        farm: format!("farm-{HEX}").parse().unwrap(),
        queue: format!("queue-{HEX}").parse().unwrap(),
        job: format!("job-{HEX}").parse().unwrap(),
        step: format!("step-{HEX}").parse().unwrap(),
        task: None,
    };
    let output = |location, root| {
        let action = format!("sessionaction-{HEX}-2").parse().unwrap();
        OutputKey::new(
            place,
            ActionTime::from_micros(0).unwrap(),
            action,
            location,
            root,
        )
    };
    for (index, of) in attachments.roots.iter().enumerate() {
        let key = output(of.location.as_deref(), &of.root);
        assert_eq!(roots.of_output(&key), Ok(index));
        let submission = HEX.parse().unwrap();
        let input = InputKey::new(place.farm, place.queue, submission, of.format, &of.root);
        assert_eq!(roots.of_input(&input), Ok(index));
    }
    // The location is a part of the name.
    let error = roots.of_output(&output(None, "/proj")).unwrap_err();
    let said = "belongs to no root of the job; the job has the roots \"/proj\", \"C:\\\\a b\"";
    assert!(error.to_string().contains(said), "{error}");
    assert!(
        error.to_string().contains(&format!("step-{HEX}/1970-")),
        "{error}"
    );
}

fn yaml(text: &str) -> Result<Value, DocumentError> {
    read_document("a test", Syntax::Yaml, text.as_bytes(), |field| {
        Ok(field.value("a value")?.clone())
    })
}

#[test]
fn yaml_is_read_as_json_is() {
    let found = yaml(
        "a: 1\n'b': [x, \"y\", {z: null}]\nc: |\n  two\n  lines\nd: &n {e: f}\ng: *n\nh: {<<: *n, i: 1}\na: 2\n",
    );
    let expected = json!({
        "a": 2, "b": ["x", "y", { "z": null }], "c": "two\nlines\n", "d": { "e": "f" },
        "g": { "e": "f" }, "h": { "e": "f", "i": 1 },
    });
    assert_eq!(found.unwrap(), expected);
    for bad in ["a: [", "a: *unknown", "a: 1\n---\nb: 2\n", "&a [*a]"] {
        let error = told(&yaml(bad).unwrap_err());
        assert!(
            error.starts_with("a test is no YAML that can be read: "),
            "{error}"
        );
    }
}

#[test]
fn yaml_that_stands_for_much_more_than_its_length_is_refused() {
    // Nine levels of nine: 400 million texts.
    let mut bomb = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..9 {
        let last = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [last.as_str(); 9].join(", "));
    }
    let started = std::time::Instant::now();
    yaml(&bomb).unwrap_err();
    // So is one name that is used often, or for a long text.
    let often = |long: usize, times: usize| {
        let text = "x".repeat(long);
        format!("a: &a {text}\nb: [{}]\n", vec!["*a"; times].join(", "))
    };
    yaml(&often(1, 1001)).unwrap_err();
    yaml(&often(1 << 20, 70)).unwrap_err();
    yaml(&often(1 << 20, 60)).unwrap();
    yaml(&often(1, 1000)).unwrap();
    // And one that is deep.
    yaml(&"[".repeat(100_000)).unwrap_err();
    yaml(&format!("a: {}", "{b: ".repeat(1000))).unwrap_err();
    assert!(started.elapsed().as_secs() < 20);
    // What people write is far below these bounds.
    let mut many = String::new();
    for number in 0..100_000 {
        many += &format!(
            "- /proj/textures/{number}.exr
"
        );
    }
    assert_eq!(yaml(&many).unwrap().as_array().unwrap().len(), 100_000);
}

#[test]
fn a_document_that_is_too_long_is_not_read() {
    let long = vec![b' '; (64 << 20) + 1];
    let error = Job::from_json(&long).unwrap_err();
    assert!(matches!(error, DocumentError::TooLong { .. }), "{error}");
}
