//! A job bundle, submitted by the program and by AWS's own client: the same roots, manifests and documents, and what one side submits
//! the other downloads.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::transfers::{make_files, path};
use super::{Borrowed, python};
use crate::foreign::BUCKET;
use crate::machine::{Machine, args};
use crate::moto::Moto;

const PREFIX: &str = "q/";

/// Both sides, on one bucket of a server that has room for the long names of such keys.
struct Sides<'a> {
    python: Borrowed,
    moto: Moto,
    machine: &'a Machine,
}

fn with_sides(test: impl FnOnce(&Sides<'_>)) {
    let (Some(python), Some(moto)) = (python(), Moto::start()) else {
        return;
    };
    Machine::with_directory(|machine| {
        test(&Sides {
            python,
            moto,
            machine,
        });
    });
}

const HEX: &str = "0123456789abcdef0123456789abcdef";

fn farm() -> String {
    format!("farm-{HEX}")
}

fn queue() -> String {
    format!("queue-{HEX}")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A bundle that uses everything there is: parameters of all flows, directories with links and nothing in them, inputs that are
/// missing, two kinds of locations.
fn bundle(machine: &Machine) -> (PathBuf, Value) {
    let path = |name: &str| machine.path(name);
    make_files(&path("work/files"));
    machine.file("work/single \u{e9}", "single");
    machine.file("local/deep/asset", "of a location");
    machine.file("local/deep/other/asset", "another");
    machine.file("shared/asset", "everybody has it");
    machine.file("elsewhere/linked", "through a link");
    machine.dir("work/empty");
    fs::create_dir_all(path("work/links")).unwrap();
    symlink(path("elsewhere/linked"), path("work/links/file")).unwrap();
    symlink(path("elsewhere"), path("work/links/directory")).unwrap();
    symlink("nowhere", path("work/links/broken")).unwrap();
    let parameter = |name: &str, flow: &str, object: &str| json!({ "name": name, "type": "PATH", "dataFlow": flow, "objectType": object });
    let template = json!({
        "specificationVersion": "jobtemplate-2023-09",
        "name": "a job",
        "parameterDefinitions": [
            { "name": "Script", "type": "PATH", "dataFlow": "IN", "objectType": "FILE", "default": "script.sh" },
            parameter("Scene", "IN", "FILE"),
            parameter("Files", "IN", "DIRECTORY"),
            parameter("Frames", "OUT", "DIRECTORY"),
            parameter("Log", "OUT", "FILE"),
            parameter("Both", "INOUT", "DIRECTORY"),
            parameter("Spoken", "NONE", "FILE"),
            { "name": "Count", "type": "INT", "default": 3 },
            { "name": "Words", "type": "STRING", "default": "it's a \"word\"" },
        ],
        "steps": [],
    });
    machine.file("bundle/template.json", template.to_string());
    machine.file("bundle/script.sh", "echo");
    let values = [
        ("Scene", path("work/single \u{e9}")),
        ("Files", path("work/files")),
        ("Frames", path("work/out/frames")),
        ("Log", path("work/out/logs/log.txt")),
        ("Both", path("local/deep/other")),
        ("Spoken", path("work/spoken/of")),
    ];
    let values: Vec<Value> = (values.iter())
        .map(|(name, value)| json!({ "name": name, "value": text(value) }))
        .collect();
    machine.file(
        "bundle/parameter_values.json",
        json!({ "parameterValues": values }).to_string(),
    );
    let references = json!({ "assetReferences": {
        "inputs": {
            "filenames": [text(&path("local/deep/asset")), text(&path("shared/asset")), text(&path("work/missing"))],
            "directories": [text(&path("work/links")), text(&path("work/empty")), text(&path("work/no such"))],
        },
        "outputs": { "directories": [text(&path("shared/out")), text(&path("only/outputs"))] },
        "referencedPaths": [text(&path("work/a"))],
    }});
    machine.file("bundle/asset_references.json", references.to_string());
    let location =
        |name: &str, kind: &str| json!({ "name": name, "path": text(&path(name)), "type": kind });
    let profile = json!({
        "storageProfileId": format!("sp-{HEX}"),
        "displayName": "here",
        "osFamily": "linux",
        "fileSystemLocations": [location("local", "LOCAL"), location("shared", "SHARED"), location("only", "LOCAL")],
    });
    (path("bundle"), profile)
}

impl Sides<'_> {
    /// What Python answers to a request that names the bucket.
    fn told(&self, mut request: Value) -> Value {
        let access = &self.moto.access;
        let fields = [
            ("endpoint", access.endpoint.as_str()),
            ("region", access.region),
            ("access_key", access.access_key),
            ("secret_key", access.secret_key),
            ("bucket", BUCKET),
            ("prefix", PREFIX),
        ];
        for (name, value) in fields {
            request[name] = value.into();
        }
        self.python.told(&request)
    }

    fn store() -> String {
        format!("s3://{BUCKET}/{PREFIX}")
    }

    fn theirs(&self, folder: &Path, profile: &Value, more: &Value) -> Value {
        let mut request = json!({
            "op": "submit", "farm": farm(), "queue": queue(), "folder": path(folder), "given": {},
            "file_system": "VIRTUAL", "cache": path(&self.machine.dir("client")), "profile": profile,
        });
        for (name, value) in more.as_object().unwrap() {
            request[name] = value.clone();
        }
        self.told(request)
    }

    fn ours(&self, folder: &Path, profile: &Value, more: &[&str]) -> String {
        let file = self.machine.file("profile.json", profile.to_string());
        let mut all = args![
            "submit",
            "--bundle",
            folder,
            "--yes",
            "--file-system",
            "virtual",
            "--store",
            Self::store(),
            "--farm",
            farm(),
            "--queue",
            queue(),
            "--storage-profile-json",
            file
        ]
        .to_vec();
        all.extend(more.iter().map(OsString::from));
        let said = self.moto.access.ok(self.machine, &all);
        said.out.strip_suffix('\n').unwrap().to_owned()
    }

    /// The document without its random ids, and the manifests that it names.
    fn parts(&self, document: &str) -> (String, Vec<Vec<u8>>) {
        let parsed: Value = serde_json::from_str(document).unwrap();
        let mut text = document.to_owned();
        let mut manifests = Vec::new();
        for root in parsed["manifests"].as_array().unwrap() {
            if let Some(key) = root["inputManifestPath"].as_str() {
                let id = key.split('/').nth(3).unwrap();
                assert_eq!(id.len(), 32, "{key}");
                text = text.replace(id, "ID");
                let file = self.machine.path("fetched");
                let fetch = args![
                    "manifest",
                    "download",
                    key,
                    "--store",
                    Self::store(),
                    "-o",
                    &file
                ];
                self.moto.access.ok(self.machine, &fetch);
                manifests.push(fs::read(file).unwrap());
            }
        }
        (text, manifests)
    }
}

#[test]
fn a_bundle_is_submitted_as_the_client_of_aws_submits_it() {
    with_sides(|sides| {
        let (folder, profile) = bundle(sides.machine);
        let told = sides.theirs(&folder, &profile, &json!({}));
        let (their_text, their_manifests) = sides.parts(told["document"].as_str().unwrap());
        let again = sides.ours(&folder, &profile, &["--json"]);
        let again: Value = serde_json::from_str(&again).unwrap();
        let roots = again["roots"].as_array().unwrap();
        // The client had sent every object.
        assert!(
            roots.iter().all(|root| root["uploaded_objects"] == 0),
            "{again}"
        );
        assert!(
            roots
                .iter()
                .any(|root| root["present_objects"].as_u64() > Some(5)),
            "{again}"
        );
        let ours = sides.ours(&folder, &profile, &[]);
        let (our_text, our_manifests) = sides.parts(&ours);
        assert_eq!(our_text, their_text);
        assert_eq!(our_manifests, their_manifests);
        assert_eq!(our_manifests.len(), 2, "{our_text}");
        // What is in no location, and both LOCAL ones, of which one has outputs only.
        assert_eq!(our_text.matches("rootPath\"").count(), 3, "{our_text}");
        assert!(!our_text.contains("shared"), "{our_text}");
        // The call that makes the job has the same parameters.
        let call = again["create_job"].as_str().unwrap();
        let shell = "eval \"set -- $0\"; while [ \"$1\" != --parameters ]; do shift; done; printf %s \"$2\"";
        let said = crate::process::said(std::process::Command::new("sh").args(["-c", shell, call]));
        let mut parameters = said.with_code(0).json();
        // The client leaves defaults to the service.
        for (name, default) in [
            ("Count", json!({ "int": "3" })),
            ("Words", json!({ "string": "it's a \"word\"" })),
        ] {
            assert_eq!(
                parameters.as_object_mut().unwrap().remove(name),
                Some(default)
            );
        }
        assert_eq!(parameters, told["parameters"]);
    });
}

#[test]
fn values_that_are_given_with_a_submission_count_as_they_do_for_the_client() {
    with_sides(|sides| {
        let (folder, profile) = bundle(sides.machine);
        let given = sides.machine.file("given/scene", "given");
        let more = json!({ "given": { "Scene": text(&given), "Count": "7" } });
        let told = sides.theirs(&folder, &profile, &more);
        let scene = format!("Scene={}", text(&given));
        let ours = sides.ours(&folder, &profile, &["-p", &scene, "-p", "Count=7"]);
        let (our_text, our_manifests) = sides.parts(&ours);
        assert!(String::from_utf8_lossy(&our_manifests[0]).contains("given/scene"));
        let theirs = sides.parts(told["document"].as_str().unwrap());
        assert_eq!((our_text, our_manifests), theirs);
    });
}

#[test]
fn the_client_of_aws_downloads_what_was_submitted() {
    with_sides(|sides| {
        let machine = sides.machine;
        let (folder, profile) = bundle(machine);
        let document = sides.ours(&folder, &profile, &[]);
        let parsed: Value = serde_json::from_str(&document).unwrap();
        let roots = parsed["manifests"].as_array().unwrap();
        let folders: Vec<PathBuf> = (0..roots.len())
            .map(|number| machine.dir(format!("placed/{number}")))
            .collect();
        let names: Vec<String> = folders.iter().map(|folder| path(folder)).collect();
        sides.told(json!({ "op": "download_inputs", "document": document, "folders": names }));
        for name in [
            "work/single \u{e9}",
            "work/links/file",
            "work/files/a",
            "work/files/large",
            "work/files/d/empty",
            "bundle/script.sh",
            "local/deep/asset",
            "local/deep/other/asset",
        ] {
            let here = machine.path(name);
            let place = roots.iter().zip(&folders).find_map(|(root, folder)| {
                let below = here.strip_prefix(root["rootPath"].as_str().unwrap()).ok()?;
                Some(folder.join(below)).filter(|placed| placed.exists())
            });
            let place = place.unwrap_or_else(|| panic!("{name} was not downloaded"));
            assert!(
                fs::read(&here).unwrap() == fs::read(place).unwrap(),
                "{name}"
            );
        }
    });
}
