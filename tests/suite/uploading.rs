//! `attachfs snapshot --store` and `attachfs upload`, as their users run them, into stores that forget, refuse, break off and hang: never
//! a manifest without its data, and always a way to go on.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use attachfs_scan::cache::{BUSY_TIMEOUT, S3CheckCache};
use attachfs_test_s3::{Mishap, Rule};
use rustix::process::Signal;
use serde_json::Value;

use crate::machine::{Machine, args, on_both_stores};
use crate::process::{Running, Said};

const KEY: &str = "farm/queue/Inputs/scene_input";

/// A folder of files that are all different.
fn folder(machine: &Machine, count: usize) -> PathBuf {
    for number in 0..count {
        machine.file(format!("scene/{number:03}"), format!("file {number}"));
    }
    machine.path("scene")
}

/// Takes a snapshot of the folder into the machine's store, publishes it and writes it to `out`.
fn upload(machine: &Machine, folder: &Path, more: &[&str]) -> Said {
    let out = machine.path("out");
    let mut command = machine.attachfs(args!["snapshot", folder, "-o", &out, "--json"]);
    command.args(["--store", &machine.store(), "--publish", KEY]);
    crate::process::said(command.args(more))
}

/// The same, and it succeeds. Gives its account.
fn uploaded(machine: &Machine, folder: &Path, more: &[&str]) -> Value {
    upload(machine, folder, more).with_code(0).json()
}

/// Files that were sent, files that were there, files that failed.
fn files(account: &Value) -> (u64, u64, usize) {
    let count = |name: &str| account[name].as_u64().unwrap();
    let errors = account["errors"].as_array().unwrap();
    (
        count("processed_files"),
        count("skipped_files"),
        errors.len(),
    )
}

fn published(machine: &Machine) -> PathBuf {
    machine.store_files().join("Manifests").join(KEY)
}

fn name_of(file: &Path) -> &str {
    file.file_name().unwrap().to_str().unwrap()
}

/// Fails the test unless all that the published manifest names is in the store, if it is published.
fn assert_whole(machine: &Machine) {
    if published(machine).exists() {
        let store = machine.store();
        let check = args!["manifest", "check", published(machine), "--store", store];
        machine.ok([&check[..], &args!["--deep"]].concat());
    }
}

/// How many requests of a method there were for objects since the first `before` requests.
fn requests(machine: &Machine, method: &str, before: usize) -> usize {
    let requests = machine.server().requests();
    let of = requests[before..].iter();
    of.filter(|request| request.method == method && request.path.contains("/Data/"))
        .count()
}

#[test]
fn what_an_earlier_upload_saw_is_sampled_and_not_asked_for_again() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 60);
        assert_eq!(files(&uploaded(machine, &folder, &[])), (60, 0, 0));
        let before = machine.server().requests().len();
        assert_eq!(files(&uploaded(machine, &folder, &[])), (0, 60, 0));
        assert_eq!(requests(machine, "HEAD", before), 30);
        assert_eq!(requests(machine, "PUT", before), 0);
    });
}

#[test]
fn objects_that_were_deleted_behind_the_caches_back_are_sent_again() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 60);
        uploaded(machine, &folder, &[]);
        let all = machine.objects();
        // So many that no sample misses all of them.
        for object in all.iter().take(40) {
            fs::remove_file(object).unwrap();
        }
        assert_eq!(files(&uploaded(machine, &folder, &[])), (40, 20, 0));
        assert_eq!(machine.objects(), all);
        assert_whole(machine);
    });
}

#[test]
fn a_forced_check_finds_the_one_object_that_has_another_length_and_replaces_it() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 60);
        uploaded(machine, &folder, &[]);
        let first = machine.objects().pop_first().unwrap();
        let right = fs::read(&first).unwrap();
        fs::write(&first, "f").unwrap();
        let account = uploaded(machine, &folder, &["--force-s3-check"]);
        assert_eq!(files(&account), (1, 59, 0));
        assert_eq!(fs::read(&first).unwrap(), right);
    });
}

#[test]
fn what_the_deadline_client_saw_on_aws_is_not_believed_of_another_server() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 60);
        uploaded(machine, &folder, &[]);
        // The client knows each object in a bucket of this name.
        let client = machine.dir("client");
        let seen = S3CheckCache::open(&client, BUSY_TIMEOUT).unwrap();
        for object in machine.objects() {
            let key = object.strip_prefix(machine.path("s3")).unwrap();
            seen.remember(key.to_str().unwrap(), SystemTime::now());
        }
        seen.flush();
        drop(seen);
        let cache = client.join("s3_check_cache.db");
        let before = fs::read(&cache).unwrap();
        // What this program itself has seen is forgotten.
        fs::remove_dir_all(machine.path("cache")).unwrap();
        let share = ["--share-deadline-cache", client.to_str().unwrap()];
        let asked = machine.server().requests().len();
        assert_eq!(files(&uploaded(machine, &folder, &share)), (0, 60, 0));
        assert_eq!(requests(machine, "HEAD", asked), 60, "each is asked for");
        assert!(client.join("hash_cache.db").exists());
        assert_eq!(fs::read(&cache).unwrap(), before);
    });
}

#[test]
fn an_upload_that_is_killed_goes_on_without_repeating_what_was_finished() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 200);
        let server = machine.server();
        server.add(Rule::on("PUT", Mishap::Hold).after(80));
        let out = machine.path("out");
        let mut command = machine.attachfs(args!["snapshot", folder.clone(), "-o", &out]);
        command.args(["--store", &machine.store(), "--publish", KEY]);
        let running: Running = machine.start(command);
        let is_put = |request: &&attachfs_test_s3::Request| request.method == "PUT";
        server.wait_for("it sends", |requests| {
            requests.iter().filter(is_put).count() > 80
        });
        crate::machine::until("the first are stored", || machine.objects().len() >= 80);
        running.signal(Signal::KILL);
        running.wait().with_code(137);
        let finished = machine.objects();
        let finished: BTreeSet<_> = finished.iter().map(|object| name_of(object)).collect();
        assert!(!out.exists() && !published(machine).exists());
        let before = server.requests().len();
        server.heal();
        let account = uploaded(machine, &folder, &[]);
        assert_eq!(account["total_files"], 200);
        let again: Vec<_> = server.requests()[before..]
            .iter()
            .filter(is_put)
            .filter_map(|request| Some(request.path.rsplit_once('/')?.1.to_owned()))
            .filter(|name| finished.contains(name.as_str()))
            .collect();
        assert_eq!(again, Vec::<String>::new());
        assert_whole(machine);
    });
}

#[test]
fn a_cancelled_upload_says_how_far_it_came_and_publishes_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        Machine::with_s3(|machine| {
            let folder = folder(machine, 200);
            let server = machine.server();
            server.add(Rule::on("PUT", Mishap::Hold).after(10));
            let out = machine.path("out");
            let mut command = machine.attachfs(args!["snapshot", folder.clone(), "-o", &out]);
            command.args(["--store", &machine.store(), "--publish", KEY]);
            let running = machine.start(command);
            server.wait_for("it sends", |requests| {
                requests.iter().filter(|of| of.method == "PUT").count() > 10
            });
            running.signal(signal);
            running
                .wait()
                .with_code(15)
                .saying("cancelled after ")
                .saying(" of 200 uploads");
            assert!(!out.exists() && !published(machine).exists());
            server.heal();
            uploaded(machine, &folder, &[]);
            assert_whole(machine);
        });
    }
}

#[test]
fn a_cancelled_upload_in_parts_leaves_no_parts_in_the_bucket() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 1);
        machine.file("scene/large", vec![7; 20 << 20]);
        let server = machine.server();
        server.add(Rule::on("PUT", Mishap::Hold).of("partNumber=3"));
        let out = machine.path("out");
        let mut command = machine.attachfs(args!["snapshot", folder.clone(), "-o", &out]);
        command.args(["--store", &machine.store(), "--publish", KEY]);
        let running = machine.start(command);
        server.wait_for("it sends", |requests| {
            let is_last = |of: &attachfs_test_s3::Request| of.query.contains("partNumber=3");
            requests.iter().any(is_last)
        });
        running.signal(Signal::INT);
        running.wait().with_code(15);
        let aborted = |of: &attachfs_test_s3::Request| {
            of.method == "DELETE" && of.query.contains("uploadId=")
        };
        assert!(server.requests().iter().any(aborted));
        server.heal();
        uploaded(machine, &folder, &[]);
        assert_whole(machine);
    });
}

#[test]
fn a_file_that_never_rests_is_reported_and_the_others_are_stored() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 5);
        let restless = machine.file("scene/restless", vec![1; 24 << 20]);
        let mut file = OpenOptions::new().append(true).open(&restless).unwrap();
        let out = machine.path("out");
        let mut command = machine.attachfs(args!["snapshot", folder.clone(), "-o", &out, "--json"]);
        command.args(["--store", &machine.store(), "--publish", KEY]);
        let mut running = machine.start(command);
        while running.is_running() {
            file.write_all(b"+").unwrap();
        }
        let said = running.wait().with_code(13);
        let account = said.json();
        assert_eq!(files(&account), (5, 0, 1));
        assert_eq!(account["errors"][0]["path"], "restless");
        said.saying("changed while it was being read");
        assert!(!out.exists() && !published(machine).exists());
        drop(file);
        assert_eq!(files(&uploaded(machine, &folder, &[])), (1, 5, 0));
    });
}

#[test]
fn an_object_that_is_refused_is_reported_and_the_others_are_stored() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 40);
        machine.file("other/one", "file 7");
        let one = uploaded(machine, &machine.path("other"), &[]);
        assert_eq!(one["total_files"], 1);
        let refused = machine.objects().pop_first().unwrap();
        fs::remove_file(&refused).unwrap();
        fs::remove_file(published(machine)).unwrap();
        fs::remove_file(machine.path("out")).unwrap();
        fs::remove_dir_all(machine.path("cache")).unwrap();
        let denied = Mishap::Error {
            status: 403,
            code: "AccessDenied",
        };
        machine
            .server()
            .add(Rule::on("PUT", denied).of(name_of(&refused)));
        let said = upload(machine, &folder, &[]).with_code(13);
        let account = said.json();
        assert_eq!(files(&account), (39, 0, 1));
        assert_eq!(account["errors"][0]["path"], "007");
        said.saying("1 of 40 files could not be uploaded");
        assert!(!machine.path("out").exists() && !published(machine).exists());
        machine.server().heal();
        assert_eq!(files(&uploaded(machine, &folder, &[])), (1, 39, 0));
        assert_whole(machine);
    });
}

#[test]
fn what_waits_for_a_manifest_never_gets_an_account() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 3);
        let denied = Mishap::Error {
            status: 403,
            code: "AccessDenied",
        };
        let refused = attachfs_manifest::ContentHash::of(b"file 1").to_string();
        machine.server().add(Rule::on("PUT", denied).of(refused));
        for (more, account) in [
            (&[][..], "failed     001: "),
            (&["--json"], "\"total_files\":5"),
        ] {
            // Something that the store takes.
            machine.file(folder.join(format!("taken {}", more.len())), account);
            let arguments = args!["snapshot", &folder, "-o", "-", "--store", machine.store()];
            let mut command = machine.attachfs(arguments);
            let said = crate::process::said(command.args(more)).with_code(13);
            assert_eq!(said.out, "");
            said.saying(account);
        }
    });
}

#[test]
fn a_store_that_takes_nothing_is_its_own_failure_and_not_that_of_each_file() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 300);
        let denied = Mishap::Error {
            status: 403,
            code: "AccessDenied",
        };
        machine.server().add(Rule::on("PUT", denied));
        upload(machine, &folder, &[])
            .with_code(11)
            .saying("s3:PutObject");
        assert!(requests(machine, "PUT", 0) < 300);
        assert!(!machine.path("out").exists() && !published(machine).exists());
    });
}

#[test]
fn whatever_happens_to_requests_no_manifest_is_without_its_data_and_the_next_run_completes_it() {
    let error = |status, code| Mishap::Error { status, code };
    let after = |status, code| Mishap::ErrorAfter { status, code };
    let mishaps = [
        error(500, "InternalError"),
        error(503, "SlowDown"),
        error(403, "AccessDenied"),
        error(404, "NoSuchBucket"),
        after(500, "InternalError"),
        Mishap::Close,
    ];
    for mishap in mishaps {
        for (method, skip) in [("HEAD", 3), ("PUT", 0), ("PUT", 25)] {
            Machine::with_s3(|machine| {
                let folder = folder(machine, 40);
                let rule = Rule::on(method, mishap.clone()).after(skip).times(9);
                machine.server().add(rule);
                let said = upload(machine, &folder, &[]);
                assert!([0, 11, 13].contains(&said.code), "{said:#?}");
                assert_eq!(machine.path("out").exists(), said.code == 0, "{said:#?}");
                assert_whole(machine);
                machine.server().heal();
                uploaded(machine, &folder, &[]);
                assert_eq!(machine.objects().len(), 40);
                assert_whole(machine);
            });
        }
    }
}

on_both_stores![
    a_manifest_is_published_once_and_never_replaced,
    what_was_uploaded_is_told_if_its_manifest_cannot_be_published,
    the_files_of_manifests_are_uploaded_from_where_they_are,
];

fn a_manifest_is_published_once_and_never_replaced(machine: &Machine) {
    let folder = folder(machine, 3);
    uploaded(machine, &folder, &[]);
    let first = fs::read(published(machine)).unwrap();
    assert_eq!(first, fs::read(machine.path("out")).unwrap());
    uploaded(machine, &folder, &[]);
    machine.file("scene/new", "new");
    upload(machine, &folder, &[])
        .with_code(12)
        .saying("nothing was overwritten");
    assert_eq!(fs::read(published(machine)).unwrap(), first);
}

fn what_was_uploaded_is_told_if_its_manifest_cannot_be_published(machine: &Machine) {
    let folder = folder(machine, 3);
    uploaded(machine, &folder, &[]);
    machine.file("scene/new", "new");
    let (manifest, store) = (machine.path("manifest"), machine.store());
    machine.ok(args!["snapshot", &folder, "-o", &manifest]);
    let verb = args![
        "upload",
        &manifest,
        "--root",
        &folder,
        "--store",
        &store,
        "--publish",
        KEY
    ];
    let said = machine.says([&verb[..], &args!["--json"]].concat());
    let account = said.with_code(12).json();
    assert_eq!(files(&account), (1, 3, 0));
    assert_eq!(account["published"], Value::Null);
    let said = machine.says(&verb).with_code(12);
    said.printing("skipped    4 files")
        .saying("nothing was overwritten");
    // So does a snapshot, whose manifest is written.
    let said = upload(machine, &folder, &[]).with_code(12);
    assert_eq!(files(&said.json()), (0, 4, 0));
    let written = fs::read(machine.path("out")).unwrap();
    assert_eq!(written, fs::read(&manifest).unwrap());
}

fn the_files_of_manifests_are_uploaded_from_where_they_are(machine: &Machine) {
    let folder = folder(machine, 3);
    machine.file("scene/big", "0123456789".repeat(250));
    symlink("000", folder.join("link")).unwrap();
    let (old, new, diff) = (
        machine.path("old"),
        machine.path("new"),
        machine.path("diff"),
    );
    let cut = ["--format", "2023-03-03"];
    machine.ok([
        &args!["snapshot", &folder, "-o", &old][..],
        &cut.map(Into::into),
    ]
    .concat());
    let send = |manifests: &[&PathBuf], code: i32| {
        let mut command = machine.attachfs(args!["upload", "--json", "--root", &folder]);
        command.args(manifests).args(["--store", &machine.store()]);
        crate::process::said(&mut command).with_code(code).json()
    };
    // The link was replaced by what it points to, which has the bytes of another file.
    assert_eq!(files(&send(&[&old], 0)), (4, 1, 0));
    assert_eq!(files(&send(&[&old], 0)), (0, 5, 0));
    let chunked = args!["--chunk-size", "1000"];
    let base = machine.path("base");
    machine.ok([&args!["snapshot", &folder, "-o", &base][..], &chunked].concat());
    machine.file("scene/added", "added");
    machine.ok([&args!["snapshot", &folder, "-o", &new][..], &chunked].concat());
    machine.ok(args!["manifest", "diff", &base, &new, "-o", &diff]);
    let of_diff = send(&[&diff], 0);
    assert_eq!(
        (files(&of_diff), &of_diff["processed_bytes"]),
        ((1, 0, 0), &5.into())
    );
    let whole = send(&[&new, &old], 0);
    assert_eq!(
        (files(&whole), &whole["total_files"]),
        ((1, 9, 0), &10.into())
    );
    let store = machine.store();
    machine.ok(args![
        "manifest", "check", &new, "--store", &store, "--deep"
    ]);
    // What is no longer the manifest's is reported, whatever it is now.
    fs::remove_file(folder.join("000")).unwrap();
    machine.file("scene/001", "FILE 1");
    fs::remove_dir_all(machine.store_files().join("Data")).unwrap();
    let changed = send(&[&new], 13);
    let failed: Vec<_> = changed["errors"].as_array().unwrap().iter().collect();
    let failed: Vec<_> = failed
        .iter()
        .map(|of| of["path"].as_str().unwrap())
        .collect();
    assert_eq!(failed, ["000", "001"]);
    assert_eq!(files(&changed).0, 3);
}

#[test]
fn nothing_outside_of_the_folder_is_uploaded_for_a_manifest() {
    Machine::with_directory(|machine| {
        machine.file("secret/file", "secret");
        let (elsewhere, root) = (machine.path("secret"), machine.dir("root"));
        let manifest = machine.path("m");
        machine.ok(args![
            "snapshot",
            &machine.path(""),
            "-o",
            &manifest,
            "-i",
            "secret/*"
        ]);
        symlink(&elsewhere, root.join("secret")).unwrap();
        let store = machine.store();
        let upload = args!["upload", &manifest, "--root", &root, "--store", &store];
        machine.says(upload).with_code(13).saying("is not below");
        assert_eq!(machine.objects(), BTreeSet::new());
    });
}
