//! Stores on moto, a second server that answers as S3 does: what one server lets pass, the other may not.
//!
//! The server is a process of its own, on a free port; it ends with the test.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use attachfs_store::conformance;
use attachfs_store_s3::S3Store;

use crate::foreign::{BUCKET, ForeignS3};
use crate::machine::{Machine, args, skipped};

/// The access key and its secret.
const KEY: &str = "moto";
const REGION: &str = "us-east-1";

/// A running server with one bucket.
pub(crate) struct Moto {
    child: Child,
    pub(crate) access: ForeignS3,
}

impl Moto {
    /// Starts a server, unless this machine has none. In CI it has to have one.
    pub(crate) fn start() -> Option<Self> {
        let Some(python) = std::env::var_os("ATTACHFS_MOTO") else {
            let must = std::env::var_os("CI").is_some();
            assert!(!must, "ATTACHFS_MOTO names no Python with moto");
            skipped(
                "ATTACHFS_MOTO is not set; `cargo xtask test --only peers` makes what it names",
            );
            return None;
        };
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/moto/serve.py");
        let mut child = Command::new(python)
            .args(["-I", "-X", "utf8"])
            .arg(script)
            .arg(BUCKET)
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", KEY)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("AWS_PROFILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("piped");
        BufReader::new(output).read_line(&mut line).unwrap();
        let endpoint = line.trim().to_owned();
        assert!(
            endpoint.starts_with("http://127.0.0.1:"),
            "moto said {line:?}"
        );
        let access = ForeignS3 {
            endpoint,
            region: REGION,
            access_key: KEY,
            secret_key: KEY,
        };
        Some(Self { child, access })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended already; there is nothing to do about it either way.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

#[test]
fn a_store_on_moto_conforms() {
    let Some(moto) = Moto::start() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = S3Store::connect(moto.access.options("a/prefix"))
            .await
            .unwrap();
        conformance::run(Arc::new(store)).await;
    });
}

#[test]
fn what_is_put_into_moto_is_there_and_comes_out() {
    let Some(moto) = Moto::start() else { return };
    Machine::with_directory(|machine| {
        machine.file("scene/a", "aaa");
        machine.file("scene/d/big", "0123456789".repeat(2_000_000));
        let store = format!("s3://{BUCKET}/farm");
        let run = |arguments: &[_]| moto.access.ok(machine, arguments);
        let manifest = machine.path("m");
        run(&args![
            "snapshot",
            machine.path("scene"),
            "-o",
            &manifest,
            "--store",
            &store
        ]);
        run(&args![
            "manifest",
            "upload",
            &manifest,
            "--store",
            &store,
            "--key",
            "k",
            "--asset-root",
            "/p"
        ]);
        run(&args![
            "store",
            "verify",
            &store,
            "--manifest",
            &manifest,
            "--deep"
        ]);
        run(&args!["store", "stat", &store])
            .printing("2 objects")
            .printing("1 manifest");
        let second = machine.path("second");
        run(&args!["store", "sync", &store, &second, "--key", "k"]).printing("manifest   k");
        let cat = args!["cat", second.join("Manifests/k"), "a", "--store", &second];
        assert_eq!(machine.ok(cat).out, "aaa");
    });
}
