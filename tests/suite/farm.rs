//! Outputs of jobs in a machine's store, as workers leave them: objects, manifests under the keys of outputs, and what is said of them.
//!
//! A [`Farm`] has one queue. Ids are made of numbers, so that a test names what it means: `farm.job(1)`, `farm.step(2)`,
//! `farm.task(2, 7)`. Each [`Output`] is published by the suite's own hands through the store's interface, not by the program under test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_jobs::{
    ActionTime, FarmId, InputKey, JobAddress, JobId, JobPart, OutputKey, OutputMetadata,
    OutputPlace, QueueId, SessionActionId, StepId, SubmissionId, TaskId,
};
use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{
    ChunkSize, Content, ContentHash, File, ManifestPath, Mtime, Node, Snapshot,
};
use attachfs_paths::PathFormat;
use attachfs_store::{DirectoryStore, ManifestKey, Metadata, Payload, S3Access, Store};
use attachfs_store_s3::{S3Credentials, S3Options, S3Store};
use attachfs_test_s3::{ACCESS_KEY, REGION, SECRET_KEY};
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::tree::set_modified;

/// When session actions of a test begin, if nothing else is said: 2025-01-31T12:00:00Z, in microseconds since 1970.
pub(crate) const BEGINNING: i64 = 1_738_324_800_000_000;

/// A farm with one queue, whose store is the machine's.
pub(crate) struct Farm<'a> {
    machine: &'a Machine,
    store: Arc<dyn Store>,
    runtime: tokio::runtime::Runtime,
    pub(crate) id: FarmId,
    pub(crate) queue: QueueId,
}

/// What one session action wrote below one root.
#[derive(Debug, Clone)]
pub(crate) struct Output<'a> {
    pub(crate) job: u32,
    pub(crate) step: u32,
    /// `None` where the tasks of a step run together.
    pub(crate) task: Option<u32>,
    /// The session action, by its number.
    pub(crate) action: u32,
    /// When it began, in seconds after [`BEGINNING`], by its worker's clock.
    pub(crate) began: i64,
    pub(crate) root: &'a str,
    pub(crate) location: Option<&'a str>,
    /// Paths below the root, and what is in these files.
    pub(crate) files: &'a [(&'a str, &'a str)],
}

impl Default for Output<'_> {
    fn default() -> Self {
        Self {
            job: 1,
            step: 1,
            task: Some(0),
            action: 1,
            began: 0,
            root: "/proj",
            location: None,
            files: &[],
        }
    }
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(what: &str, number: u32) -> T {
    format!("{what}-{number:032x}").parse().unwrap()
}

impl<'a> Farm<'a> {
    /// A farm that keeps its attachments in the machine's store.
    pub(crate) fn of(machine: &'a Machine) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = runtime.block_on(open(machine));
        Self {
            machine,
            store,
            runtime,
            id: id("farm", 0xfa),
            queue: id("queue", 0xab),
        }
    }

    pub(crate) fn job(number: u32) -> JobId {
        id("job", number)
    }

    pub(crate) fn step(number: u32) -> StepId {
        id("step", number)
    }

    pub(crate) fn task(step: u32, number: u32) -> TaskId {
        format!("task-{step:032x}-{number}").parse().unwrap()
    }

    /// A session action of the session 5.
    pub(crate) fn action(number: u32) -> SessionActionId {
        format!("sessionaction-{:032x}-{number}", 5)
            .parse()
            .unwrap()
    }

    /// The address of everything of the queue: `deadline://FARM/QUEUE`.
    pub(crate) fn address(&self) -> String {
        format!("deadline://{}/{}", self.id, self.queue)
    }

    /// A job by its address.
    pub(crate) fn job_address(&self, job: u32) -> String {
        self.part(job, JobPart::Whole)
    }

    /// A step by its address.
    pub(crate) fn step_address(&self, job: u32, step: u32) -> String {
        self.part(job, JobPart::Step(Self::step(step)))
    }

    /// A task by its address.
    pub(crate) fn task_address(&self, job: u32, step: u32, task: u32) -> String {
        self.part(job, JobPart::Task(Self::step(step), Self::task(step, task)))
    }

    fn part(&self, job: u32, part: JobPart) -> String {
        let address = JobAddress {
            farm: self.id,
            queue: self.queue,
            job: Self::job(job),
            part,
        };
        address.to_string()
    }

    /// The key of an output.
    pub(crate) fn key(&self, output: &Output<'_>) -> ManifestKey {
        let place = OutputPlace {
            farm: self.id,
            queue: self.queue,
            job: Self::job(output.job),
            step: Self::step(output.step),
            task: output.task.map(|task| Self::task(output.step, task)),
        };
        let began = ActionTime::from_micros(BEGINNING + output.began * 1_000_000).unwrap();
        let action = Self::action(output.action);
        let key = OutputKey::new(place, began, action, output.location, output.root);
        key.manifest_key().unwrap()
    }

    /// Publishes an output: its objects, and then its manifest.
    pub(crate) fn publish(&self, output: &Output<'_>) -> ManifestKey {
        let said = OutputMetadata {
            asset_root: output.root.to_owned(),
            location: output.location.map(str::to_owned),
        };
        let key = self.key(output);
        self.put(&key, output.files, &said.encode().unwrap());
        key
    }

    /// Publishes outputs.
    pub(crate) fn publish_all(&self, outputs: &[Output<'_>]) {
        for output in outputs {
            self.publish(output);
        }
    }

    /// Publishes what a submission put in below a root, and gives its key.
    pub(crate) fn submit(
        &self,
        submission: u32,
        root: &str,
        files: &[(&str, &str)],
    ) -> ManifestKey {
        let submission: SubmissionId = format!("{submission:032x}").parse().unwrap();
        let format = PathFormat::of_root(root);
        let key = InputKey::new(self.id, self.queue, submission, format, root);
        let key = key.manifest_key().unwrap();
        self.put(&key, files, &Metadata::new());
        key
    }

    fn put(&self, key: &ManifestKey, files: &[(&str, &str)], said: &Metadata) {
        let manifest = manifest(files);
        self.runtime.block_on(async {
            for (_, text) in files {
                let bytes = text.as_bytes().to_vec();
                let hash = ContentHash::of(&bytes);
                let payload = Payload::Bytes(bytes.into());
                self.store.put(hash, payload).await.unwrap();
            }
            let put = self
                .store
                .put_manifest_if_absent(key, manifest.into(), said);
            put.await.unwrap();
        });
    }

    /// The file that holds a manifest.
    pub(crate) fn file(&self, key: &ManifestKey) -> PathBuf {
        self.machine.store_files().join(key.object_key())
    }

    /// Says when a manifest was written, by the store's clock, in seconds after [`BEGINNING`].
    pub(crate) fn written(&self, key: &ManifestKey, seconds: i64) {
        let time = ActionTime::from_micros(BEGINNING + seconds * 1_000_000).unwrap();
        set_modified(&self.file(key), time.system_time());
    }

    /// What `aws deadline get-queue` prints. Its store is a bucket; with a directory store `--store` has to be said.
    pub(crate) fn queue_json(&self) -> PathBuf {
        let store = self.machine.store();
        let of = store
            .strip_prefix("s3://")
            .and_then(|of| of.split_once('/'));
        let (bucket, prefix) = of.unwrap_or(("bucket", "elsewhere"));
        let queue = json!({
            "farmId": self.id.to_string(),
            "queueId": self.queue.to_string(),
            "displayName": "render",
            "jobAttachmentSettings": { "s3BucketName": bucket, "rootPrefix": prefix },
        });
        self.machine.file("queue.json", queue.to_string())
    }

    /// What `aws deadline get-job` prints of a job with these roots, each with the key of its inputs, if it has any.
    pub(crate) fn job_json(&self, job: u32, roots: &[(&str, Option<&ManifestKey>)]) -> PathBuf {
        let manifests = roots.iter().map(|(root, inputs)| {
            let format = match PathFormat::of_root(root) {
                PathFormat::Windows => "windows",
                PathFormat::Posix => "posix",
            };
            let mut manifest: BTreeMap<&str, Value> = BTreeMap::from([
                ("rootPath", json!(root)),
                ("rootPathFormat", json!(format)),
                ("outputRelativeDirectories", json!([])),
            ]);
            if let Some(key) = inputs {
                let bytes = std::fs::read(self.file(key)).unwrap();
                manifest.insert("inputManifestPath", json!(key.as_str()));
                let hash = ContentHash::of(&bytes).to_string();
                manifest.insert("inputManifestHash", json!(hash));
            }
            manifest
        });
        let document = json!({
            "jobId": Self::job(job).to_string(),
            "name": "scene",
            "attachments": { "manifests": manifests.collect::<Vec<_>>(), "fileSystem": "COPIED" },
        });
        let name = format!("job-{job}.json");
        self.machine.file(name, document.to_string())
    }
}

/// A manifest of files, as the Python library writes it.
pub(crate) fn manifest(files: &[(&str, &str)]) -> Vec<u8> {
    let entries = files.iter().map(|(path, text)| {
        let file = File {
            size: text.len() as u64,
            mtime: Mtime(BEGINNING),
            runnable: false,
            content: Content::Whole(ContentHash::of(text.as_bytes())),
        };
        let path = ManifestPath::new(path.as_bytes()).unwrap();
        (path, Node::File(file))
    });
    let snapshot = Snapshot::new(ChunkSize::WholeFile, None, entries).unwrap();
    encode_snapshot(&snapshot, Format::V2023_03_03).unwrap()
}

async fn open(machine: &Machine) -> Arc<dyn Store> {
    if !machine.is_s3() {
        return Arc::new(DirectoryStore::create(&machine.path("store")).unwrap());
    }
    let address = machine.store();
    let (bucket, prefix) = address
        .strip_prefix("s3://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let options = S3Options {
        access: S3Access {
            region: Some(REGION.to_owned()),
            endpoint_url: Some(machine.server().endpoint().to_owned()),
            ..S3Access::default()
        },
        credentials: Some(S3Credentials {
            access_key_id: ACCESS_KEY.to_owned(),
            secret_access_key: SECRET_KEY.to_owned(),
            session_token: None,
        }),
        ..S3Options::new(bucket.parse().unwrap(), prefix.parse().unwrap())
    };
    Arc::new(S3Store::connect(options).await.unwrap())
}
