//! Verbs of AWS's `deadline` beside ours, on one bucket: the rows of `docs/commands.md`.
//!
//! The client's own program runs, as its users run it. Verbs that ask the Deadline service for a queue or a job cannot run here; the table
//! says which, and what of them is compared by the library alone. The server is moto, since metadata is compared.

mod jobs;
mod manifests;
mod served;
mod transfers;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::foreign::BUCKET;
use crate::machine::{Machine, args};
use crate::moto::Moto;
use crate::peers::{Borrowed, bytes_of, python};
use crate::process::{Said, said};

/// The profile that the client takes its keys from: with one it asks no service.
const PROFILE: &str = "suite";

/// A server, and both programs on one machine.
struct Both<'a> {
    machine: &'a Machine,
    moto: Moto,
    python: Borrowed,
}

impl Both<'_> {
    /// Does a test, unless the peers are not there.
    fn with(test: impl FnOnce(&Both<'_>)) {
        let (Some(python), Some(moto)) = (python(), Moto::start()) else {
            return;
        };
        Machine::with_directory(|machine| {
            let access = &moto.access;
            let profile = format!(
                "[profile {PROFILE}]\nregion = {}\naws_access_key_id = {}\naws_secret_access_key = {}\n",
                access.region, access.access_key, access.secret_key
            );
            machine.file("home/.aws/config", profile);
            test(&Both {
                machine,
                moto,
                python,
            });
        });
    }

    /// Runs the client to its end.
    fn client(&self, arguments: impl AsRef<[OsString]>) -> Said {
        let python = std::env::var_os("ATTACHFS_PYTHON").unwrap();
        // Beside the environment's Python.
        let mut command = self
            .machine
            .command(Path::new(&python).with_file_name("deadline"));
        command
            .args(arguments.as_ref())
            .env("AWS_ENDPOINT_URL", &self.moto.access.endpoint)
            .env("DEADLINE_CLOUD_TELEMETRY_OPT_OUT", "true");
        said(&mut command).with_code(0)
    }

    /// Runs `attachfs` to its end.
    fn ours(&self, arguments: impl AsRef<[OsString]>) -> Said {
        self.moto.access.ok(self.machine, arguments.as_ref())
    }

    /// A snapshot that the client made, by the name that it gave.
    fn snapshot(&self, root: &Path, more: &[&str]) -> PathBuf {
        let mut arguments = args![
            "manifest",
            "snapshot",
            "--root",
            root,
            "-d",
            self.machine.dir("snapshots"),
            "-n",
            "scene",
            "--json"
        ]
        .to_vec();
        arguments.extend(more.iter().map(OsString::from));
        // What is going on is printed before the document, in a line of its own.
        let said = self.client(arguments);
        let line = said.out.lines().last().unwrap_or_default();
        let told: Value = serde_json::from_str(line).unwrap();
        PathBuf::from(told["manifest"].as_str().unwrap())
    }

    /// A request to the client's library about the server.
    fn asked(&self, op: &str, more: &Value) -> Value {
        let access = &self.moto.access;
        let mut request = json!({
            "op": op, "endpoint": access.endpoint, "region": access.region, "bucket": BUCKET,
            "access_key": access.access_key, "secret_key": access.secret_key,
        });
        for (name, value) in more.as_object().unwrap() {
            request[name] = value.clone();
        }
        self.python.told(&request)
    }

    /// All objects below a prefix, by what follows it in their keys, and what is said of them.
    fn objects(&self, prefix: &str) -> BTreeMap<String, (Vec<u8>, Value)> {
        let told = self.asked("s3_objects", &json!({ "prefix": prefix }));
        let all = told["objects"].as_object().unwrap().iter();
        all.map(|(key, object)| {
            let key = key.strip_prefix(prefix).unwrap().to_owned();
            (
                key,
                (bytes_of(&object["bytes"]), object["metadata"].clone()),
            )
        })
        .collect()
    }
}

/// A store on the server.
fn store(prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}")
}

/// Fails unless both say the same in these fields, which the client's programs read.
#[track_caller]
fn assert_same_fields(theirs: &Value, ours: &Value, fields: &[&str]) {
    for field in fields {
        assert!(
            !theirs[field].is_null(),
            "the client has no {field}: {theirs}"
        );
        assert_eq!(theirs[field], ours[field], "{field}");
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
