//! S3 as it is around the world: keys that change, environments that make no sense, servers that are not AWS's, and addresses with
//! slashes.

mod boto3;
mod environment;
mod server;

use std::fs;
use std::path::Path;
use std::process::Command;

use attachfs_test_s3::{ACCESS_KEY, SECRET_KEY};

use crate::machine::{Machine, Mount, args};
use crate::process::said;
use server::{Answer, Recorder};

/// Keys from the usual file and not from variables.
fn from_file(command: &mut Command) -> &mut Command {
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
}

fn write_keys(machine: &Machine, access_key: &str, secret_key: &str) {
    machine.file(
        "home/.aws/credentials",
        format!(
            "[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
        ),
    );
}

#[test]
fn a_mount_and_a_commit_go_on_after_keys_were_changed_in_their_file() {
    Machine::mounting_from_s3(|machine| {
        machine.file("input/a", "first");
        machine.file("input/b", "second");
        let manifest = machine.snapshot(&machine.path("input"), "m");
        write_keys(machine, ACCESS_KEY, SECRET_KEY);
        let mut mounting = machine.mounting(args![&manifest], "mount");
        let mount = Mount::of(&said(from_file(&mut mounting)).with_code(0));
        assert_eq!(fs::read(mount.dir.join("a")).unwrap(), b"first");
        machine.server().rotate("new-key", "new-secret");
        write_keys(machine, "new-key", "new-secret");
        assert_eq!(fs::read(mount.dir.join("b")).unwrap(), b"second");
        // And once more, with work to commit.
        fs::write(mount.dir.join("c"), "third").unwrap();
        machine.server().rotate("newest-key", "newest-secret");
        write_keys(machine, "newest-key", "newest-secret");
        let mut commit = machine.attachfs(args!["commit", "--json", &mount.session]);
        let committed = said(from_file(&mut commit)).with_code(0).json();
        assert!(committed["manifest"]["address"].is_string(), "{committed}");
    });
}

#[test]
fn an_upload_goes_on_after_keys_were_changed_in_their_file() {
    for (status, code) in [
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (400, "ExpiredToken"),
        // Some servers have no other word for keys that they do not know.
        (403, "AccessDenied"),
    ] {
        Machine::with_directory(|machine| {
            write_keys(machine, "old", "secret");
            let file = machine.path("home/.aws/credentials");
            let server = Recorder::start(move |_, head| {
                if head.contains("Credential=new/") {
                    return Answer::of_empty_store(head);
                }
                let keys = fs::read_to_string(&file).unwrap();
                fs::write(&file, keys.replace("= old", "= new")).unwrap();
                Answer::error(status, code)
            });
            let mut upload = publish(machine, server.endpoint(), "s3://bucket/p");
            said(from_file(&mut upload)).with_code(0);
            let requests = server.requests();
            let refused = requests
                .iter()
                .filter(|head| head.contains("Credential=old/"));
            assert_eq!(refused.count(), 1, "{code}");
        });
    }
}

#[test]
fn keys_that_stay_wrong_are_not_asked_for_again_and_again() {
    Machine::with_directory(|machine| {
        write_keys(machine, "wrong", "secret");
        for number in 0..20 {
            machine.file(format!("input/{number}"), number.to_string());
        }
        let server = Recorder::start(|_, _| Answer::error(403, "InvalidAccessKeyId"));
        let mut upload = publish(machine, server.endpoint(), "s3://bucket/p");
        said(from_file(&mut upload))
            .with_code(11)
            .saying("does not accept these credentials");
        // One question for each object, and what explains the first of them; none of them twice.
        let requests = server.requests();
        assert!(requests.len() <= 23, "{}", requests.len());
    });
}

#[test]
fn a_service_of_credentials_that_drops_connections_is_waited_for_by_the_first_request() {
    Machine::with_s3(|machine| {
        machine.file("input/a", "first");
        let keys = format!(
            r#"{{"AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}","Token":"t","Expiration":"2999-01-01T00:00:00Z"}}"#
        );
        let service = Recorder::start(move |count, _| {
            if count < 8 {
                Answer::dropped()
            } else {
                Answer::of(200, &keys).with("content-type: application/json")
            }
        });
        let mut snapshot = machine.attachfs(args![
            "snapshot",
            machine.path("input"),
            "-o",
            machine.path("m"),
            "--store",
            machine.store()
        ]);
        let url = format!("{}/keys", service.endpoint());
        from_file(&mut snapshot).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
        said(&mut snapshot).with_code(0);
        assert!(service.requests().len() > 8);
    });
}

#[test]
fn a_metadata_service_that_drops_connections_is_waited_for_by_the_first_request() {
    Machine::with_s3(|machine| {
        machine.file("input/a", "first");
        let keys = format!(
            r#"{{"Code":"Success","LastUpdated":"2026-01-01T00:00:00Z","Type":"AWS-HMAC","AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}","Token":"t","Expiration":"2999-01-01T00:00:00Z"}}"#
        );
        let service = Recorder::start(move |count, head| match head.split(' ').nth(1).unwrap() {
            _ if count < 4 => Answer::dropped(),
            "/latest/api/token" => {
                Answer::of(200, "token").with("x-aws-ec2-metadata-token-ttl-seconds: 21600")
            }
            path if path.ends_with("/security-credentials/") => Answer::of(200, "role"),
            _ => Answer::of(200, &keys),
        });
        let mut snapshot = machine.attachfs(args![
            "snapshot",
            machine.path("input"),
            "-o",
            machine.path("m"),
            "--store",
            machine.store()
        ]);
        from_file(&mut snapshot)
            .env("AWS_EC2_METADATA_DISABLED", "false")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.endpoint());
        said(&mut snapshot).with_code(0);
        assert!(service.requests().len() > 4);
    });
}

#[test]
fn a_program_for_keys_that_fails_for_a_moment_is_asked_again() {
    Machine::with_s3(|machine| {
        use std::os::unix::fs::PermissionsExt as _;
        machine.file("input/a", "first");
        let calls = machine.path("calls");
        let program = machine.file(
            "keys.sh",
            format!(
                "#!/bin/sh\necho x >> {0}\n[ $(wc -l < {0}) -gt 3 ] || exit 1\n\
                 echo '{{\"Version\": 1, \"AccessKeyId\": \"{ACCESS_KEY}\", \"SecretAccessKey\": \"{SECRET_KEY}\"}}'\n",
                calls.display()
            ),
        );
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        machine.file(
            "home/.aws/config",
            format!("[default]\ncredential_process = {}\n", program.display()),
        );
        let mut snapshot = machine.attachfs(args![
            "snapshot",
            machine.path("input"),
            "-o",
            machine.path("m"),
            "--store",
            machine.store()
        ]);
        said(from_file(&mut snapshot)).with_code(0);
        assert_eq!(fs::read_to_string(&calls).unwrap().lines().count(), 4);
    });
}

/// Makes a manifest of a small folder in a store and publishes it there.
fn publish(machine: &Machine, endpoint: &str, store: &str) -> Command {
    let folder = machine.path("input");
    machine.file("input/a", "first");
    let mut command = machine.command(crate::programs::program("attachfs"));
    command
        .args(["--endpoint-url", endpoint, "snapshot"])
        .arg(folder)
        .args(["--store", store, "--publish", "k", "-o"])
        .arg(machine.path("out.manifest"))
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret");
    command
}

#[test]
fn an_endpoint_with_a_path_and_an_old_bucket_keep_their_names() {
    Machine::with_directory(|machine| {
        let server = Recorder::start(|_, head| Answer::of_empty_store(head));
        let endpoint = format!("{}/storage/v1/s3", server.endpoint());
        said(&mut publish(machine, &endpoint, "s3://Old_Bucket/q/")).with_code(0);
        let requests = server.requests();
        let puts: Vec<&str> = requests
            .iter()
            .filter_map(|head| head.strip_prefix("PUT "))
            .collect();
        assert_eq!(puts.len(), 2, "{requests:?}");
        assert!(
            puts[0].starts_with("/storage/v1/s3/Old_Bucket/q//Data/"),
            "{puts:?}"
        );
        // The SDK says itself what it does.
        assert!(
            puts[1].starts_with("/storage/v1/s3/Old_Bucket/q//Manifests/k"),
            "{puts:?}"
        );
        let below = |head: &&String| head.contains(" /storage/v1/s3/Old_Bucket");
        assert_eq!(requests.iter().filter(below).count(), requests.len());
    });
}

#[test]
fn a_server_that_refuses_checksums_can_be_written_to_if_the_environment_says_so() {
    Machine::with_directory(|machine| {
        let server = Recorder::start(|_, head| {
            let small = head.to_lowercase();
            if small.contains("\nx-amz-checksum-crc") || small.contains("x-amz-sdk-checksum") {
                return Answer::error(400, "InvalidArgument");
            }
            Answer::of_empty_store(head)
        });
        let mut with = publish(machine, server.endpoint(), "s3://bucket/p");
        assert_ne!(said(&mut with).code, 0);
        let mut without = publish(machine, server.endpoint(), "s3://bucket/p");
        without.env("AWS_REQUEST_CHECKSUM_CALCULATION", "WHEN_REQUIRED");
        said(&mut without).with_code(0);
        machine.file(
            "home/.aws/config",
            "[default]\nrequest_checksum_calculation = when_required\n",
        );
        said(&mut publish(machine, server.endpoint(), "s3://bucket/p")).with_code(0);
        // Something has to say what the bytes are: then the signature does.
        let unsigned = |head: &String| head.contains("UNSIGNED-PAYLOAD");
        let requests = server.requests();
        let last_put = requests
            .iter()
            .rfind(|head| head.starts_with("PUT "))
            .unwrap();
        assert!(!unsigned(last_put), "{last_put}");
    });
}

#[test]
fn a_server_without_conditional_writes_can_be_committed_to() {
    for (status, code) in [(501, "NotImplemented"), (400, "NotImplemented")] {
        Machine::with_directory(|machine| {
            let server = Recorder::start(move |_, head| {
                if head.to_lowercase().contains("\nif-none-match:") {
                    return Answer::error(status, code);
                }
                Answer::of_empty_store(head)
            });
            said(&mut publish(machine, server.endpoint(), "s3://bucket/p")).with_code(0);
            let requests = server.requests();
            let of_manifest = |head: &&String| head.contains("/Manifests/k");
            let asked: Vec<_> = requests.iter().filter(of_manifest).collect();
            // Is it there; with the condition; without.
            assert!(asked[0].starts_with("HEAD "), "{asked:?}");
            assert!(asked.last().unwrap().starts_with("PUT "), "{asked:?}");
        });
    }
}

#[test]
fn a_conflict_of_conditional_writes_is_tried_again() {
    Machine::with_directory(|machine| {
        let server = Recorder::start(|_, head| Answer::of_empty_store(head));
        server.refuse_once(
            "if-none-match:",
            Answer::error(409, "ConditionalRequestConflict"),
        );
        said(&mut publish(machine, server.endpoint(), "s3://bucket/p")).with_code(0);
        let puts = server.requests();
        let puts = puts.iter().filter(|head| head.contains("/Manifests/k"));
        assert_eq!(puts.filter(|head| head.starts_with("PUT ")).count(), 2);
    });
}

#[test]
fn an_address_says_exactly_where_its_objects_are() {
    Machine::with_directory(|machine| {
        for (address, below) in [
            ("s3://farm", "/farm/"),
            ("s3://farm/", "/farm/"),
            ("s3://farm/q", "/farm/q/"),
            ("s3://farm/q/", "/farm/q//"),
            ("s3://farm//q", "/farm//q/"),
            ("s3://farm//", "/farm///"),
            ("s3://farm/q//r_-", "/farm/q//r_-/"),
        ] {
            let server = Recorder::start(|_, head| Answer::of_empty_store(head));
            said(&mut publish(machine, server.endpoint(), address)).with_code(0);
            let requests = server.requests();
            let puts = requests.iter().filter_map(|head| head.strip_prefix("PUT "));
            let puts: Vec<&str> = puts.collect();
            assert!(
                puts[0].starts_with(&format!("{below}Data/")),
                "{address}: {puts:?}"
            );
            assert!(
                puts[1].starts_with(&format!("{below}Manifests/k?")),
                "{address}: {puts:?}"
            );
        }
    });
}

#[test]
fn slashes_that_were_probably_not_meant_are_said_and_not_guessed() {
    Machine::with_s3(|machine| {
        machine.file("input/a", "first");
        let snapshot = |store: &str| {
            machine.ok(args![
                "snapshot",
                machine.path("input"),
                "-o",
                machine.path("m"),
                "--store",
                store
            ])
        };
        let said = snapshot("s3://farm/q");
        assert!(!said.err.contains("slash"), "{}", said.err);
        snapshot("s3://farm/q/").saying("there is in s3://farm/q:");
        let requests = machine.server().requests();
        let mut objects = requests.iter().filter(|r| r.path.contains("Data/"));
        assert!(
            objects
                .next_back()
                .unwrap()
                .path
                .starts_with("/farm/q//Data/")
        );
    });
}

#[test]
fn a_mistyped_address_is_refused_and_makes_nothing() {
    Machine::with_directory(|machine| {
        machine.file("input/a", "first");
        let manifest = machine.snapshot(&machine.path("input"), "m");
        let input = machine.path("input");
        let before = names(machine);
        for (typed, meant) in [
            ("s3:/b/p", "s3://b/p"),
            ("s3:b", "s3://b"),
            ("s3//b/p", "s3://b/p"),
            ("S3://b/p", "s3://b/p"),
            ("https://b.s3.us-west-2.amazonaws.com/p", "s3://b/p"),
        ] {
            let lines = [
                args![
                    "snapshot",
                    &input,
                    "-o",
                    machine.path("n"),
                    "--store",
                    typed
                ]
                .to_vec(),
                args!["upload", &manifest, "--root", &input, "--store", typed].to_vec(),
                args!["run", "--input", &input, "--store", typed, "--", "true"].to_vec(),
                args!["mount", &manifest, machine.path("input"), "--store", typed].to_vec(),
                args![
                    "download",
                    &manifest,
                    "--root",
                    machine.path("out"),
                    "--store",
                    typed
                ]
                .to_vec(),
                args!["cat", &manifest, "a", "--store", typed].to_vec(),
                args!["store", "stat", typed].to_vec(),
                args![
                    "store",
                    "sync",
                    machine.store(),
                    typed,
                    "--manifest",
                    &manifest
                ]
                .to_vec(),
                args!["ls", format!("{typed}/Manifests/x")].to_vec(),
                args![
                    "manifest",
                    "download",
                    format!("{typed}/Manifests/x"),
                    "-o",
                    "n"
                ]
                .to_vec(),
            ];
            for line in lines {
                let said = machine.says(&line);
                let code = if line[0] == "run" { 125 } else { 2 };
                assert_eq!(said.code, code, "{line:?} {said:?}");
                said.saying(meant);
            }
        }
        assert_eq!(names(machine), before);
    });
}

/// What lies in a machine's working directory.
fn names(machine: &Machine) -> Vec<String> {
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| !["cache", "state", "data"].contains(&name.as_str()))
            .collect();
        names.sort();
        names
    };
    names(&machine.path(""))
}
