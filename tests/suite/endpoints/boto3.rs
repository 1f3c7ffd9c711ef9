//! What the environment and the configuration files say, held against what boto3 makes of it: both send an object, and the requests
//! go to the same place and say the same of the body.
//!
//! The Python is that of moto, which has boto3.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::server::{Answer, Recorder};
use crate::machine::{Machine, args, skipped};
use crate::process::said;

/// Where and how an object was sent.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    /// `a`, `b` or `proxy`.
    to: &'static str,
    /// What was asked for, up to the key.
    target: String,
    host: String,
    has_checksum: bool,
    times: usize,
}

/// The servers of a case. Answers are such that nothing is asked twice.
struct Servers([(&'static str, Recorder); 3]);

impl Servers {
    fn start(status: u16) -> Self {
        let start = || {
            Recorder::start(move |_, head| match status {
                200 => Answer::of_empty_store(head),
                // Whether something is there is not what is compared.
                _ if head.starts_with("HEAD ") => Answer::error(404, "NoSuchKey"),
                status => Answer::error(status, "InternalError"),
            })
        };
        Self([("a", start()), ("b", start()), ("proxy", start())])
    }

    fn url(&self, number: usize) -> &str {
        self.0[number].1.endpoint()
    }

    /// `A`, `B` and `P` in a text, as the servers' URLs.
    fn filled(&self, text: &str) -> String {
        let port = |number: usize| self.url(number).rsplit_once(':').unwrap().1.to_owned();
        text.replace("{A}", self.url(0))
            .replace("{B}", self.url(1))
            .replace("{P}", self.url(2))
            .replace("{PORT}", &port(0))
    }

    /// What was sent, first.
    fn sent(&self) -> Vec<Sent> {
        let mut found = Vec::new();
        for (to, server) in &self.0 {
            let requests = server.requests();
            let sends = |head: &&String| head.starts_with("PUT ") || head.starts_with("CONNECT ");
            let sends: Vec<_> = requests.iter().filter(sends).collect();
            let Some(head) = sends.first() else { continue };
            let target = head.split(' ').nth(1).unwrap();
            let target = target.split("/Data/").next().unwrap();
            let small = head.to_lowercase();
            let host = small.split("\nhost: ").nth(1).unwrap_or_default();
            let is_tunnel = head.starts_with("CONNECT ");
            found.push(Sent {
                to,
                target: target.to_owned(),
                // What a tunnel leads to is its target.
                host: if is_tunnel {
                    String::new()
                } else {
                    host.split('\r').next().unwrap().to_owned()
                },
                has_checksum: small.contains("\nx-amz-checksum-")
                    || small.contains("\nx-amz-trailer"),
                times: if is_tunnel { 1 } else { sends.len() },
            });
        }
        found
    }
}

struct Case {
    env: &'static [(&'static str, &'static str)],
    config: &'static str,
    bucket: &'static str,
    status: u16,
}

const USUAL: Case = Case {
    env: &[],
    config: "",
    bucket: "bucket",
    status: 200,
};

const CASES: [Case; 27] = [
    Case {
        env: &[("AWS_ENDPOINT_URL", "{A}")],
        ..USUAL
    },
    Case {
        env: &[("AWS_ENDPOINT_URL", "{A}"), ("AWS_ENDPOINT_URL_S3", "{B}")],
        ..USUAL
    },
    Case {
        env: &[("AWS_ENDPOINT_URL", "")],
        config: "[default]\nendpoint_url = {A}\n",
        ..USUAL
    },
    Case {
        config: "[default]\nendpoint_url = {A}\nservices = x\n[services x]\ns3 =\n  endpoint_url = {B}\n",
        ..USUAL
    },
    Case {
        env: &[("AWS_ENDPOINT_URL", "{A}")],
        config: "[default]\nservices = x\n[services x]\ns3 =\n  endpoint_url = {B}\n",
        ..USUAL
    },
    Case {
        env: &[("AWS_PROFILE", "x")],
        config: "[default]\nendpoint_url = {A}\n[profile x]\nendpoint_url = {B}\n",
        ..USUAL
    },
    Case {
        env: &[("AWS_ENDPOINT_URL", "{A}/storage/v1/s3")],
        ..USUAL
    },
    Case {
        env: &[("AWS_ENDPOINT_URL", "{A}/storage/v1/s3/")],
        ..USUAL
    },
    Case {
        env: &[("AWS_ENDPOINT_URL", "{A}")],
        bucket: "Old_Bucket.x",
        ..USUAL
    },
    // Proxies and their exceptions.
    Case {
        env: &[("AWS_ENDPOINT_URL", "{A}"), ("HTTP_PROXY", "{P}")],
        ..USUAL
    },
    Case {
        env: &[("AWS_ENDPOINT_URL", "{A}"), ("HTTPS_PROXY", "{P}")],
        ..USUAL
    },
    Case {
        env: &[
            ("AWS_ENDPOINT_URL", "{A}"),
            ("HTTP_PROXY", "{P}"),
            ("http_proxy", ""),
        ],
        ..USUAL
    },
    Case {
        env: &[
            ("AWS_ENDPOINT_URL", "{A}"),
            ("http_proxy", "{P}"),
            ("HTTP_PROXY", "http://127.0.0.1:1"),
        ],
        ..USUAL
    },
    Case {
        env: &[
            ("AWS_ENDPOINT_URL", "{A}"),
            ("HTTP_PROXY", "{P}"),
            ("NO_PROXY", "127.0.0.1"),
        ],
        ..USUAL
    },
    Case {
        env: &[
            ("AWS_ENDPOINT_URL", "{A}"),
            ("HTTP_PROXY", "{P}"),
            ("NO_PROXY", "x, 127.0.0.1:{PORT}"),
        ],
        ..USUAL
    },
    Case {
        env: &[
            ("AWS_ENDPOINT_URL", "{A}"),
            ("HTTP_PROXY", "{P}"),
            ("no_proxy", "*"),
        ],
        ..USUAL
    },
    Case {
        env: &[
            ("AWS_ENDPOINT_URL", "http://s3.example.test"),
            ("HTTP_PROXY", "{P}"),
            ("NO_PROXY", "ample.test"),
        ],
        ..USUAL
    },
    // Where the bucket stands.
    Case {
        env: &[
            ("AWS_ENDPOINT_URL", "http://s3.example.test"),
            ("HTTP_PROXY", "{P}"),
        ],
        config: "[default]\ns3 =\n  addressing_style = virtual\n",
        ..USUAL
    },
    Case {
        env: &[
            ("AWS_ENDPOINT_URL", "http://s3.example.test/base"),
            ("HTTP_PROXY", "{P}"),
        ],
        config: "[default]\ns3 =\n  addressing_style = path\n",
        ..USUAL
    },
    Case {
        env: &[("HTTPS_PROXY", "{P}")],
        config: "[default]\ns3 =\n  addressing_style = path\n",
        ..USUAL
    },
    // AWS itself.
    Case {
        env: &[("HTTPS_PROXY", "{P}")],
        ..USUAL
    },
    Case {
        env: &[("HTTPS_PROXY", "{P}"), ("AWS_USE_FIPS_ENDPOINT", "true")],
        ..USUAL
    },
    Case {
        env: &[
            ("HTTPS_PROXY", "{P}"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "true"),
        ],
        ..USUAL
    },
    Case {
        env: &[("HTTPS_PROXY", "{P}")],
        config: "[default]\nendpoint_url = {A}\nignore_configured_endpoint_urls = true\n",
        ..USUAL
    },
    // Checksums and retries.
    Case {
        env: &[
            ("AWS_ENDPOINT_URL", "{A}"),
            ("AWS_REQUEST_CHECKSUM_CALCULATION", "WHEN_REQUIRED"),
        ],
        ..USUAL
    },
    Case {
        env: &[("AWS_ENDPOINT_URL", "{A}")],
        config: "[default]\nrequest_checksum_calculation = when_required\n",
        ..USUAL
    },
    Case {
        env: &[("AWS_ENDPOINT_URL", "{A}"), ("AWS_MAX_ATTEMPTS", "2")],
        status: 500,
        ..USUAL
    },
];

/// With what a case says around it, and nothing else.
fn in_case(machine: &Machine, mut command: Command, case: &Case, servers: &Servers) -> Command {
    let config = machine.file("home/.aws/config", servers.filled(case.config));
    assert!(config.exists());
    command
        .env_remove("NO_PROXY")
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_DEFAULT_REGION", "us-west-2")
        .env("AWS_MAX_ATTEMPTS", "1");
    for (name, value) in case.env {
        command.env(name, servers.filled(value));
    }
    command
}

#[test]
fn requests_go_where_those_of_boto3_go() {
    let Some(python) = std::env::var_os("ATTACHFS_MOTO") else {
        let must = std::env::var_os("CI").is_some();
        assert!(!must, "ATTACHFS_MOTO names no Python with boto3");
        skipped("ATTACHFS_MOTO is not set; `cargo xtask test --only peers` makes what it names");
        return;
    };
    // Python takes seconds to start.
    std::thread::scope(|scope| {
        for number in 0..4 {
            let python = &python;
            scope.spawn(move || {
                for case in CASES.iter().skip(number).step_by(4) {
                    Machine::with_directory(|machine| compare(machine, python, case));
                }
            });
        }
    });
}

fn compare(machine: &Machine, python: &OsStr, case: &Case) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/boto3/put.py");
    machine.file("input/a", "first");
    let servers = Servers::start(case.status);
    let mut command = machine.command(python);
    command
        .args(["-I", "-X", "utf8"])
        .arg(&script)
        .args([case.bucket, "Data/x"]);
    let theirs_said = said(&mut in_case(machine, command, case, &servers));
    let theirs = plain(&servers);
    let servers = Servers::start(case.status);
    let mut command = machine.command(crate::programs::program("attachfs"));
    command.args(args![
        "snapshot",
        machine.path("input"),
        "-o",
        machine.path("m"),
        "--store",
        format!("s3://{}", case.bucket)
    ]);
    let ours_said = said(&mut in_case(machine, command, case, &servers));
    let ours = plain(&servers);
    let of = format!(
        "{:?} {:?}\n{ours_said:#?}\n{theirs_said:#?}",
        case.env, case.config
    );
    assert_eq!(ours, theirs, "{of}");
    assert!(ours.contains("to: "), "{of}");
}

/// What was sent, with the servers' names for their ports, which are others each time.
fn plain(servers: &Servers) -> String {
    let mut text = format!("{:#?}", servers.sent());
    for (name, server) in &servers.0 {
        text = text.replace(server.endpoint().trim_start_matches("http://"), name);
    }
    text
}
