//! Environments that make no sense: they are told with the name of what is wrong, and never a panic.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::machine::{Machine, args};
use crate::process::{Said, said};

/// Variables that this program, what it is made of, or the SDK reads.
const VARIABLES: [&str; 59] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_MAX_ATTEMPTS",
    "AWS_RETRY_MODE",
    "AWS_NEW_RETRIES_2026",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL_SSO",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES",
    "AWS_DISABLE_REQUEST_COMPRESSION",
    "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH",
    "AWS_S3_USE_ARN_REGION",
    "AWS_ACCOUNT_ID",
    "AWS_ACCOUNT_ID_ENDPOINT_MODE",
    "AWS_AUTH_SCHEME_PREFERENCE",
    "AWS_SIGV4A_SIGNING_REGION_SET",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "_X_AMZN_TRACE_ID",
    "AWS_SDK_UA_APP_ID",
    "HTTP_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "NO_PROXY",
    "ATTACHFS_LOG",
    "ATTACHFS_HALT_AT",
    "HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "TMPDIR",
    "TZ",
    "COLUMNS",
    "NO_COLOR",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TOKIO_WORKER_THREADS",
];

/// What they are set to.
const VALUES: [&[u8]; 8] = [
    b"",
    b"abc",
    b"99999999999999999999999",
    b"-1",
    b"\xff\xfe",
    b"a\nb",
    b"http://a b/",
    b"[:///%%",
];

/// Lines of arguments, one for each kind of verb. None of them leaves anything running.
fn lines(machine: &Machine) -> Vec<Vec<OsString>> {
    let store = machine.store();
    let there = format!("{store}/Manifests/k");
    let gone = format!("{store}/Manifests/none");
    vec![
        args!["ls", &there].to_vec(),
        args!["cat", &there, "a"].to_vec(),
        args!["mount", &gone, machine.path("input")].to_vec(),
        args!["status", "0123"].to_vec(),
        args!["list"].to_vec(),
        args![
            "upload",
            machine.path("m"),
            "--root",
            machine.path("input"),
            "--store",
            &store
        ]
        .to_vec(),
        args!["download", &there, "--root", machine.path("out")].to_vec(),
        args!["store", "stat", &store].to_vec(),
        args!["manifest", "check", machine.path("m"), "--store", &store].to_vec(),
        args![
            "snapshot",
            machine.path("input"),
            "-o",
            machine.path("n"),
            "--store",
            &store
        ]
        .to_vec(),
        args!["inspect", &there].to_vec(),
    ]
}

fn says(machine: &Machine, line: &[OsString], name: &str, value: &[u8]) -> Said {
    let mut command = machine.command(crate::programs::program("attachfs"));
    command
        .env("AWS_ENDPOINT_URL_S3", machine.server().endpoint())
        .env("AWS_REGION", attachfs_test_s3::REGION)
        .env("AWS_MAX_ATTEMPTS", "1")
        .args(line)
        .env(name, OsStr::from_bytes(value));
    said(&mut command)
}

fn prepared(machine: &Machine) {
    machine.file("input/a", "first");
    machine.ok(args![
        "snapshot",
        machine.path("input"),
        "-o",
        machine.path("m"),
        "--store",
        machine.store(),
        "--publish",
        "k"
    ]);
}

#[test]
fn no_environment_makes_a_verb_panic() {
    Machine::with_s3(|machine| {
        prepared(machine);
        let lines = lines(machine);
        // Each variable with each value, each time with another verb: all of them would take too long.
        let pairs: Vec<(&str, &[u8])> = VARIABLES
            .iter()
            .flat_map(|name| VALUES.map(|value| (*name, value)))
            .collect();
        let one_of = |number: usize, of: usize| {
            let mine = pairs.iter().enumerate().skip(number).step_by(of);
            for (number, (name, value)) in mine {
                let line = &lines[(number * 7 + number / 8) % lines.len()];
                let said = says(machine, line, name, value);
                let value = value.escape_ascii();
                assert!(
                    (0..=15).contains(&said.code) && !said.err.contains("panicked"),
                    "{name}={value} {line:?}: {said:#?}"
                );
            }
        };
        std::thread::scope(|scope| {
            for number in 0..4 {
                scope.spawn(move || one_of(number, 4));
            }
        });
    });
}

#[test]
fn a_malformed_variable_is_a_usage_error_that_names_it_with_every_verb() {
    Machine::with_s3(|machine| {
        prepared(machine);
        for line in lines(machine) {
            // These ask no store.
            if ["list", "status"].iter().any(|verb| line[0] == *verb) {
                says(machine, &line, "AWS_MAX_ATTEMPTS", b"");
                continue;
            }
            says(machine, &line, "AWS_MAX_ATTEMPTS", b"abc")
                .with_code(2)
                .saying("AWS_MAX_ATTEMPTS is \"abc\"");
        }
        let line = &lines(machine)[0];
        for (name, value, text) in [
            ("AWS_REGION", &b"\xff"[..], "UTF-8"),
            ("AWS_PROFILE", b"nobody", "there is no profile \"nobody\""),
            ("HTTPS_PROXY", b"a b", "HTTPS_PROXY is \"a b\""),
            ("ATTACHFS_LOG", b"=[", "ATTACHFS_LOG is \"=[\""),
        ] {
            says(machine, line, name, value).with_code(2).saying(text);
        }
    });
}

#[test]
fn a_file_of_the_configuration_that_never_comes_is_not_waited_for() {
    Machine::with_s3(|machine| {
        prepared(machine);
        let pipe = machine.path("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let line = &lines(machine)[0];
        std::thread::scope(|scope| {
            for (name, code) in [
                ("AWS_CONFIG_FILE", 2),
                ("AWS_SHARED_CREDENTIALS_FILE", 2),
                ("AWS_CA_BUNDLE", 11),
            ] {
                let pipe = pipe.as_os_str().as_bytes();
                scope.spawn(move || {
                    let said = says(machine, line, name, pipe).with_code(code);
                    said.saying("pipe").saying("could not be read within");
                });
            }
            // What there is to trust is not needed here.
            scope.spawn(|| {
                says(machine, line, "SSL_CERT_FILE", pipe.as_os_str().as_bytes()).with_code(0)
            });
        });
    });
}

#[test]
fn an_empty_variable_is_unset() {
    Machine::with_s3(|machine| {
        prepared(machine);
        let needed = [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ENDPOINT_URL_S3",
            "AWS_REGION",
            "NO_PROXY",
            "HOME",
            "XDG_STATE_HOME",
            "XDG_CACHE_HOME",
            "XDG_DATA_HOME",
        ];
        let mut command = machine.command(crate::programs::program("attachfs"));
        for name in VARIABLES {
            if !needed.contains(&name) {
                command.env(name, "");
            }
        }
        command
            .env("AWS_ENDPOINT_URL_S3", machine.server().endpoint())
            .env("AWS_REGION", attachfs_test_s3::REGION)
            .args(args![
                "cat",
                format!("{}/Manifests/k", machine.store()),
                "a"
            ]);
        assert_eq!(said(&mut command).with_code(0).out, "first");
    });
}
