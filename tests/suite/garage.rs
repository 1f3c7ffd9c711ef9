//! Stores on Garage, a distributed S3 server: three nodes that each hold everything, of which one may die.
//!
//! The nodes are processes of their own on free ports of this machine, with a layout, a key and a bucket made
//! by Garage's own program. Building it takes long, so this is not part of every run: `cargo xtask soak
//! --garage` builds it and runs what is here.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use attachfs_store::conformance;
use attachfs_store_s3::S3Store;

use crate::foreign::{BUCKET, ForeignS3};
use crate::machine::{Machine, args, until};
use crate::process::{Said, said};

const REGION: &str = "garage";
/// As Garage makes them: letters that say what it is, and 12 bytes.
const ACCESS_KEY: &str = "GK0123456789abcdef01234567";
const SECRET_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// What the nodes know each other by.
const RPC_SECRET: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// A node. It is killed when it is dropped.
struct Node {
    program: PathBuf,
    config: PathBuf,
    access: ForeignS3,
    child: Child,
}

impl Node {
    fn start(program: &Path, home: &Path) -> Self {
        fs::create_dir_all(home).unwrap();
        let [rpc, api] = free_ports();
        let config = home.join("garage.toml");
        let shown = home.display();
        let text = format!(
            "metadata_dir = \"{shown}/meta\"\n\
             data_dir = \"{shown}/data\"\n\
             db_engine = \"sqlite\"\n\
             replication_factor = 3\n\
             rpc_secret = \"{RPC_SECRET}\"\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\n\
             rpc_public_addr = \"127.0.0.1:{rpc}\"\n\
             [s3_api]\n\
             s3_region = \"{REGION}\"\n\
             api_bind_addr = \"127.0.0.1:{api}\"\n\
             root_domain = \".s3.garage.localhost\"\n"
        );
        fs::write(&config, text).unwrap();
        let log = File::create(home.join("log")).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .arg("server")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let node = Self {
            program: program.to_owned(),
            config,
            access: ForeignS3 {
                endpoint: format!("http://127.0.0.1:{api}"),
                region: REGION,
                access_key: ACCESS_KEY,
                secret_key: SECRET_KEY,
            },
            child,
        };
        until("the node answers", || {
            node.says(&["node", "id", "-q"]).code == 0 && node.says(&["status"]).code == 0
        });
        node
    }

    /// What Garage's own program says to this.
    fn says(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(&self.program);
        said(command.arg("-c").arg(&self.config).args(arguments))
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.says(arguments).with_code(0).out
    }

    /// `<id>@<address>`.
    fn id(&self) -> String {
        self.ok(&["node", "id", "-q"]).trim().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have been killed already; there is nothing to do about it either way.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Ports that nobody had a moment ago.
fn free_ports() -> [u16; 2] {
    let bound = [0, 0].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
    bound.map(|listener| listener.local_addr().unwrap().port())
}

/// Three nodes that know each other, with the bucket.
fn cluster(home: &Path) -> [Node; 3] {
    let program = std::env::var_os("ATTACHFS_GARAGE");
    let program = PathBuf::from(program.expect("ATTACHFS_GARAGE names no Garage"));
    let nodes = ["1", "2", "3"].map(|name| Node::start(&program, &home.join(name)));
    let first = &nodes[0];
    for other in &nodes[1..] {
        first.ok(&["node", "connect", &other.id()]);
    }
    for (node, zone) in nodes.iter().zip(["a", "b", "c"]) {
        let id = node.id();
        let id = id.split('@').next().unwrap();
        first.ok(&["layout", "assign", "-z", zone, "-c", "1G", id]);
    }
    first.ok(&["layout", "apply", "--version", "1"]);
    until("the layout is everywhere", || {
        first.says(&["bucket", "create", BUCKET]).code == 0
    });
    first.ok(&[
        "key", "import", ACCESS_KEY, SECRET_KEY, "-n", "test", "--yes",
    ]);
    let allow = ["bucket", "allow", "--read", "--write", "--owner"];
    first.ok(&[&allow[..], &[BUCKET, "--key", "test"]].concat());
    nodes
}

#[test]
#[ignore = "Garage takes long to build; `cargo xtask soak --garage` runs it"]
fn a_store_on_garage_conforms() {
    Machine::with_directory(|machine| {
        let nodes = cluster(&machine.dir("garage"));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let options = nodes[1].access.options("a/prefix");
            let store = S3Store::connect(options).await.unwrap();
            // Garage has no conditional writes, and nothing that would keep the nodes in step for one.
            conformance::run_without_races(Arc::new(store)).await;
        });
    });
}

#[test]
#[ignore = "Garage takes long to build; `cargo xtask soak --garage` runs it"]
fn what_went_in_through_one_node_comes_out_of_another_while_the_third_is_dead() {
    Machine::with_directory(|machine| {
        let [one, two, three] = cluster(&machine.dir("garage"));
        for number in 0..300 {
            machine.file(
                format!("scene/d{}/{number}", number % 7),
                number.to_string(),
            );
        }
        machine.file("scene/big", "0123456789".repeat(4_000_000));
        let scene = machine.path("scene");
        let store = format!("s3://{BUCKET}/farm");
        let manifest = machine.path("m");
        let snapshot = args!["snapshot", &scene, "-o", &manifest, "--store", &store];
        one.access
            .ok(machine, &[&snapshot[..], &args!["--publish", "k"]].concat());
        drop(three);
        let out = machine.path("out");
        let address = format!("{store}/Manifests/k");
        two.access
            .ok(machine, &args!["download", &address, "--root", &out]);
        let differences = said(Command::new("diff").arg("-r").arg(&scene).arg(&out));
        assert_eq!(differences.with_code(0).out, "");
        // Two of three are enough to go on writing, too.
        machine.file("scene/more", "more");
        let again = args!["snapshot", &scene, "-o", &manifest, "--store", &store];
        two.access.ok(machine, &again);
        one.access.ok(
            machine,
            &args!["store", "verify", &store, "--manifest", &manifest],
        );
    });
}
