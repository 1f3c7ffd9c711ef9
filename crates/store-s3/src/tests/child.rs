//! Tests of environment variables: they run the store in a process of its own, because all tests
//! share the environment of this one.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;

/// Variables for the other process, beside those of the AWS chain.
const ENDPOINT: &str = "ATTACHFS_TEST_ENDPOINT";
const CA_BUNDLE: &str = "ATTACHFS_TEST_CA_BUNDLE";
const UNTIL: &str = "ATTACHFS_TEST_UNTIL";
const MANIFEST: &str = "ATTACHFS_TEST_MANIFEST";

/// A process that stores objects and reads them again.
pub(super) struct Child {
    command: tokio::process::Command,
}

impl Child {
    /// With nothing of this process's environment that concerns AWS or proxies.
    pub(super) fn new(endpoint: &str, home: &Path) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = tokio::process::Command::new(program);
        command.args([
            "tests::child::stores_and_reads",
            "--exact",
            "--ignored",
            "--nocapture",
        ]);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_uppercase();
            if text.starts_with("AWS_") || text.ends_with("_PROXY") {
                command.env_remove(name);
            }
        }
        command.env("HOME", home);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_REGION", REGION);
        command.env(ENDPOINT, endpoint);
        command.kill_on_drop(true);
        Self { command }
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Signs with these keys of the environment.
    pub(super) fn with_keys(self) -> Self {
        self.env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    }

    pub(super) fn trusts(self, bundle: &Path) -> Self {
        self.env(CA_BUNDLE, bundle)
    }

    /// Stores and reads a manifest in the end.
    pub(super) fn with_manifest(self) -> Self {
        self.env(MANIFEST, "farm/m")
    }

    /// Goes on until this file has this many lines.
    pub(super) fn until(self, file: &Path, lines: usize) -> Self {
        self.env(UNTIL, format!("{lines} {}", file.display()))
    }

    /// The store's error, if it failed.
    pub(super) async fn run(mut self) -> Result<(), String> {
        let output = self.command.output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(
            text.contains("1 passed") || text.contains("1 failed"),
            "{text}"
        );
        if output.status.success() {
            Ok(())
        } else {
            Err(text)
        }
    }
}

fn is_done(begun: Instant) -> bool {
    let Ok(until) = std::env::var(UNTIL) else {
        return true;
    };
    let (lines, file) = until.split_once(' ').unwrap();
    let text = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        begun.elapsed() < Duration::from_mins(1),
        "it goes on for ever"
    );
    text.lines().count() >= lines.parse().unwrap()
}

#[tokio::test]
#[ignore = "run by other tests, in a process of its own"]
async fn stores_and_reads() {
    let Ok(endpoint) = std::env::var(ENDPOINT) else {
        return;
    };
    let options = S3Options {
        access: S3Access {
            endpoint_url: Some(endpoint),
            ca_bundle: std::env::var_os(CA_BUNDLE).map(Into::into),
            ..S3Access::default()
        },
        ..S3Options::new("bucket".parse().unwrap(), "p".parse().unwrap())
    };
    let store = S3Store::connect(options).await;
    let store = store.unwrap_or_else(|error| panic!("{}", text_of(&error)));
    let begun = Instant::now();
    for len in 100.. {
        let (hash, bytes) = content(len);
        let put = store.put(hash, Payload::Bytes(bytes.clone())).await;
        put.unwrap_or_else(|error| panic!("{}", text_of(&error)));
        let part = store.get(hash, 0..len as u64).await;
        let part = part.unwrap_or_else(|error| panic!("{}", text_of(&error)));
        assert_eq!(part.bytes, bytes);
        if is_done(begun) {
            break;
        }
    }
    if let Ok(key) = std::env::var(MANIFEST) {
        let key = key.parse().unwrap();
        let (bytes, said) = (Bytes::from_static(b"1"), Metadata::new());
        let written = store.put_manifest_if_absent(&key, bytes, &said).await;
        assert_eq!(written.unwrap(), PutOutcome::Created);
        assert_eq!(store.get_manifest(&key).await.unwrap().bytes, "1");
    }
}
