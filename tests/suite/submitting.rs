//! `attachfs submit` and `attachfs check`, as their users run them: never a document without its data, all faults at once, and always a
//! way to go on. What AWS's client makes of the same bundles is compared in `peers::submits`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use attachfs_test_s3::{Mishap, Request, Rule};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::machine::{Machine, args, on_both_stores, until};
use crate::process::{Running, Said, said};
use crate::programs::program;

const HEX: &str = "0123456789abcdef0123456789abcdef";

/// The arguments of a submission into the machine's store.
fn submission(machine: &Machine, more: &[OsString]) -> Vec<OsString> {
    let (farm, queue) = (format!("farm-{HEX}"), format!("queue-{HEX}"));
    let place = args![
        "submit",
        "--store",
        machine.store(),
        "--farm",
        farm,
        "--queue",
        queue
    ];
    [&place[..], more].concat()
}

fn submit(machine: &Machine, more: &[OsString]) -> Said {
    machine.says(submission(machine, more))
}

/// A submission that succeeds, and its account.
fn submitted(machine: &Machine, more: &[OsString]) -> Value {
    machine.json(submission(machine, more))
}

fn folder(machine: &Machine, count: usize) -> PathBuf {
    for number in 0..count {
        machine.file(format!("scene/{number:03}"), format!("file {number}"));
    }
    machine.path("scene")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Each manifest of the store, below `Manifests/`.
fn manifests(machine: &Machine) -> BTreeSet<PathBuf> {
    fn walk(dir: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                walk(&path, found);
            } else if !name.starts_with('.') {
                found.insert(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&machine.store_files().join("Manifests"), &mut found);
    found
}

/// A bundle whose asset references are these.
fn bundle(machine: &Machine, references: &Value) -> PathBuf {
    let template =
        json!({ "specificationVersion": "jobtemplate-2023-09", "name": "a", "steps": [] });
    machine.file("bundle/template.json", template.to_string());
    let references = json!({ "assetReferences": references }).to_string();
    machine.file("bundle/asset_references.json", references);
    machine.path("bundle")
}

fn what_was_submitted_can_be_read_from_the_store(machine: &Machine) {
    let folder = folder(machine, 3);
    let outputs = machine.path("frames");
    let said = submit(machine, &args![&folder, "--output-dir", &outputs]).with_code(0);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    let [root] = &document["manifests"].as_array().unwrap()[..] else {
        panic!("{document}");
    };
    assert_eq!(
        root["rootPath"],
        text(&machine.path("")).trim_end_matches('/')
    );
    assert_eq!(root["rootPathFormat"], "posix");
    assert_eq!(root["outputRelativeDirectories"], json!(["frames"]));
    assert_eq!(document["fileSystem"], "COPIED");
    let key = root["inputManifestPath"].as_str().unwrap();
    assert!(
        key.starts_with(&format!("farm-{HEX}/queue-{HEX}/Inputs/")),
        "{key}"
    );
    let manifest = machine.store_files().join("Manifests").join(key);
    let cat = args!["cat", &manifest, "scene/001", "--store", machine.store()];
    assert_eq!(machine.ok(cat).out, "file 1");
    let call = said.saying("aws deadline create-job --farm-id").err;
    assert!(call.contains(&format!("--queue-id queue-{HEX}")), "{call}");
}

fn the_document_goes_to_a_file_and_replaces_no_other(machine: &Machine) {
    let folder = folder(machine, 1);
    let output = machine.path("attachments.json");
    let arguments = args![&folder, "-o", &output];
    assert_eq!(submit(machine, &arguments).with_code(0).out, "");
    let first = fs::read_to_string(&output).unwrap();
    assert!(
        first.starts_with("{\"manifests\": [{\"rootPath\": "),
        "{first}"
    );
    submit(machine, &arguments).with_code(0);
    // Each submission has ids of its own.
    assert_ne!(fs::read_to_string(&output).unwrap(), first);
    let before = manifests(machine);
    fs::write(&output, "somebody's").unwrap();
    submit(machine, &arguments)
        .with_code(2)
        .saying("is no attachments document");
    assert_eq!(fs::read_to_string(&output).unwrap(), "somebody's");
    assert_eq!(manifests(machine), before);
}

fn nothing_is_sent_of_what_did_not_change(machine: &Machine) {
    let folder = folder(machine, 60);
    let first = submitted(machine, &args![&folder]);
    assert_eq!(first["roots"][0]["uploaded_objects"], 60);
    assert_eq!(first["roots"][0]["read_files"], 60);
    let again = submitted(machine, &args![&folder]);
    assert_eq!(again["roots"][0]["uploaded_objects"], 0);
    assert_eq!(again["roots"][0]["present_objects"], 60);
    fs::write(folder.join("007"), "changed it").unwrap();
    let changed = submitted(machine, &args![&folder]);
    assert_eq!(changed["roots"][0]["uploaded_objects"], 1);
}

fn all_that_is_wrong_is_listed_and_nothing_is_sent(machine: &Machine) {
    folder(machine, 1);
    let dir = machine.dir("scene/directory");
    let references = json!({ "inputs": {
        "filenames": [text(&machine.path("scene/000")), text(&machine.path("gone")), text(&machine.path("gone too")), text(&dir)],
        "directories": [text(&machine.path("no directory"))],
    }});
    let bundle = bundle(machine, &references);
    let said = submit(
        machine,
        &args!["--bundle", &bundle, "--yes", "--require-paths-exist"],
    );
    let said = said.with_code(2).saying("4 paths cannot be submitted");
    for (name, reason) in [
        ("gone", "it is missing"),
        ("gone too", "it is missing"),
        ("scene/directory", "it is a directory, not a file"),
        ("no directory", "there is no such directory"),
    ] {
        let line = format!("{}: {reason}", text(&machine.path(name)));
        assert!(
            said.err.lines().any(|said| said.ends_with(&line)),
            "{line}: {said:#?}"
        );
    }
    assert_eq!(said.out, "");
    assert!(machine.objects().is_empty() && manifests(machine).is_empty());
    // Missing ones are named and become references; a directory among files stays wrong.
    let said = submit(machine, &args!["--bundle", &bundle, "--yes"]).with_code(2);
    let said = said.saying("directory cannot be submitted");
    assert!(
        said.err
            .contains("gone too: it is missing, and is submitted as a reference")
    );
    assert!(machine.objects().is_empty());
}

fn places_that_nobody_named_are_refused_where_nobody_can_be_asked(machine: &Machine) {
    let secret = machine.file("secrets/key", "secret");
    let bundle = bundle(
        machine,
        &json!({ "inputs": { "filenames": [text(&secret)] } }),
    );
    let said = submit(machine, &args!["--bundle", &bundle]).with_code(2);
    let said = said.saying("the job wants files from places that nobody named");
    assert!(
        said.err.contains(text(secret.parent().unwrap())),
        "{said:#?}"
    );
    assert!(machine.objects().is_empty() && manifests(machine).is_empty());
    let known = args![
        "--bundle",
        &bundle,
        "--known-asset-path",
        secret.parent().unwrap()
    ];
    submit(machine, &known).with_code(0);
    assert_eq!(machine.objects().len(), 1);
    submit(machine, &args!["--bundle", &bundle, "-y"]).with_code(0);
}

fn a_link_that_leads_out_of_a_bundle_is_refused(machine: &Machine) {
    let secret = machine.file("secrets/key", "secret");
    let bundle = bundle(
        machine,
        &json!({ "inputs": { "directories": [text(&machine.path("bundle"))] } }),
    );
    machine.file("bundle/scripts/run.sh", "run");
    symlink("run.sh", bundle.join("scripts/link")).unwrap();
    assert_eq!(
        submitted(machine, &args!["--bundle", &bundle])["roots"][0]["files"],
        4
    );
    let before = machine.objects();
    symlink(secret, bundle.join("scripts/innocent")).unwrap();
    let said = submit(machine, &args!["--bundle", &bundle, "--yes"]).with_code(2);
    said.saying(
        "scripts/innocent cannot be submitted: it is a link that leads out of the job bundle",
    );
    assert_eq!(machine.objects(), before);
}

fn what_every_machine_has_is_left_out_and_named(machine: &Machine) {
    let shared = machine.file("shared/asset", "shared");
    let local = machine.file("local/asset", "local");
    let outputs = machine.path("shared/frames");
    let location = |name: &str, kind: &str| json!({ "name": name, "path": text(&machine.path(name)), "type": kind });
    let profile = json!({
        "storageProfileId": format!("sp-{HEX}"), "displayName": "here", "osFamily": "LINUX",
        "fileSystemLocations": [location("shared", "SHARED"), location("local", "LOCAL")],
    });
    let profile = machine.file("profile.json", profile.to_string());
    let arguments = args![
        &shared,
        &local,
        "--output-dir",
        &outputs,
        "--storage-profile-json",
        &profile
    ];
    let account = submitted(machine, &arguments);
    let roots = account["attachments"]["manifests"].as_array().unwrap();
    assert_eq!(roots.len(), 1, "{account}");
    assert_eq!(roots[0]["fileSystemLocationName"], "local");
    let skipped = account["skipped"].as_array().unwrap();
    let skipped: Vec<&str> = skipped
        .iter()
        .map(|of| of["path"].as_str().unwrap())
        .collect();
    assert_eq!(skipped, [text(&shared), text(&outputs)]);
    let call = account["create_job"].as_str().unwrap();
    assert!(
        call.contains(&format!("--storage-profile-id sp-{HEX}")),
        "{call}"
    );
    let said = submit(machine, &arguments).with_code(0);
    said.saying("output directory in the SHARED location");
}

fn links_that_are_not_followed_and_what_is_no_file_are_named(machine: &Machine) {
    let folder = folder(machine, 1);
    machine.file("elsewhere/file", "linked");
    symlink(machine.path("elsewhere"), folder.join("to-directory")).unwrap();
    symlink(machine.path("elsewhere/file"), folder.join("to-file")).unwrap();
    let pipe = folder.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let account = submitted(machine, &args![&folder]);
    assert_eq!(account["roots"][0]["files"], 2);
    let skipped = account["skipped"].as_array().unwrap();
    let skipped: Vec<&str> = skipped
        .iter()
        .map(|of| of["path"].as_str().unwrap())
        .collect();
    assert_eq!(skipped, [text(&pipe), text(&folder.join("to-directory"))]);
    // Named by itself, it is a fault; nobody waits for its other end.
    let said = submit(machine, &args![&pipe]).with_code(2);
    said.saying("it is neither a file nor a directory");
}

fn a_debug_snapshot_has_everything_and_takes_no_directory_of_somebody(machine: &Machine) {
    let input = machine.file("bundle/input", "bytes");
    let bundle = bundle(
        machine,
        &json!({ "inputs": { "filenames": [text(&input)] } }),
    );
    let to = machine.path("snapshot");
    let (farm, queue) = (format!("farm-{HEX}"), format!("queue-{HEX}"));
    let arguments = args![
        "submit",
        "--bundle",
        &bundle,
        "--snapshot-to",
        &to,
        "--farm",
        farm,
        "--queue",
        queue
    ];
    machine.ok(&arguments);
    for name in ["template.json", "asset_references.json"] {
        let same = fs::read(to.join(name)).unwrap() == fs::read(bundle.join(name)).unwrap();
        assert!(same, "{name}");
    }
    let document = fs::read(to.join("attachments.json")).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    let key = document["manifests"][0]["inputManifestPath"]
        .as_str()
        .unwrap();
    let manifest = to.join("Manifests").join(key);
    assert_eq!(
        machine
            .ok(args!["cat", &manifest, "input", "--store", &to])
            .out,
        "bytes"
    );
    assert!(machine.objects().is_empty());
    machine.says(&arguments).with_code(2).saying("is not empty");
}

on_both_stores![
    what_was_submitted_can_be_read_from_the_store,
    the_document_goes_to_a_file_and_replaces_no_other,
    nothing_is_sent_of_what_did_not_change,
    all_that_is_wrong_is_listed_and_nothing_is_sent,
    places_that_nobody_named_are_refused_where_nobody_can_be_asked,
    a_link_that_leads_out_of_a_bundle_is_refused,
    what_every_machine_has_is_left_out_and_named,
    links_that_are_not_followed_and_what_is_no_file_are_named,
    a_debug_snapshot_has_everything_and_takes_no_directory_of_somebody,
];

fn puts(requests: &[Request]) -> Vec<String> {
    let puts = requests.iter().filter(|request| request.method == "PUT");
    puts.map(|request| request.path.clone()).collect()
}

#[test]
fn a_submission_that_is_killed_publishes_nothing_and_goes_on_where_it_was() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 200);
        let server = machine.server();
        server.add(Rule::on("PUT", Mishap::Hold).after(80));
        let output = machine.path("attachments.json");
        let arguments = args![&folder, "-o", &output];
        let running = machine.start(machine.attachfs(submission(machine, &arguments)));
        server.wait_for("it sends", |requests| puts(requests).len() > 80);
        until("the first are stored", || machine.objects().len() >= 80);
        running.signal(Signal::KILL);
        running.wait().with_code(137);
        let finished = machine.objects();
        assert!(!output.exists() && manifests(machine).is_empty());
        let before = server.requests().len();
        server.heal();
        let account = submitted(machine, &arguments);
        assert_eq!(account["roots"][0]["files"], 200);
        let sent = puts(&server.requests()[before..]);
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let again: Vec<_> = finished.iter().map(name).collect();
        let again: Vec<_> = (again.iter())
            .filter(|name| sent.iter().any(|path| path.ends_with(*name)))
            .collect();
        assert!(again.is_empty(), "{again:?}");
        // The manifest is the last of all, and the document says where it is.
        let manifest = account["roots"][0]["manifest"].as_str().unwrap();
        assert!(sent.last().unwrap().ends_with(manifest), "{sent:?}");
        let manifest = machine.store_files().join("Manifests").join(manifest);
        let check = args![
            "manifest",
            "check",
            &manifest,
            "--store",
            machine.store(),
            "--deep"
        ];
        machine.ok(check);
        assert!(output.exists());
    });
}

#[test]
fn no_manifest_of_any_root_is_there_before_the_data_of_all() {
    Machine::with_s3(|machine| {
        machine.file("local/a", "a");
        machine.file("other/b", "b");
        let profile = json!({
            "storageProfileId": format!("sp-{HEX}"), "displayName": "here", "osFamily": "LINUX",
            "fileSystemLocations": [
                { "name": "local", "path": text(&machine.path("local")), "type": "LOCAL" },
            ],
        });
        let profile = machine.file("profile.json", profile.to_string());
        let inputs = [machine.path("local"), machine.path("other")];
        let arguments = args![&inputs[0], &inputs[1], "--storage-profile-json", &profile];
        let account = submitted(machine, &arguments);
        assert_eq!(account["roots"].as_array().unwrap().len(), 2);
        let mut sent = puts(&machine.server().requests());
        // The server of the tests stores what has so long a key, and answers with an error: then it is sent once more.
        sent.dedup();
        let is_data: Vec<bool> = sent.iter().map(|path| path.contains("/Data/")).collect();
        assert_eq!(is_data, [true, true, false, false], "{sent:?}");
        // Of two roots no two manifests have one id.
        let ids: BTreeSet<_> = sent[2..]
            .iter()
            .map(|path| path.rsplit('/').nth(1))
            .collect();
        assert_eq!(ids.len(), 2, "{sent:?}");
    });
}

#[test]
fn a_dry_run_says_what_would_be_sent_and_leaves_no_file_and_no_request() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 5);
        let before = all_files(&machine.path(""));
        let said = submit(machine, &args![&folder, "--dry-run"]).with_code(0);
        let said = said.printing("would send 5 files").printing("30 B");
        assert!(said.out.contains(text(&folder)), "{said:#?}");
        let account = submitted(machine, &args![&folder, "--dry-run"]);
        assert_eq!(account["roots"][0]["files"], 5);
        assert_eq!(account["roots"][0]["bytes"], 30);
        assert_eq!(account["attachments"], Value::Null);
        assert_eq!(all_files(&machine.path("")), before);
        assert!(machine.server().requests().is_empty());
    });
}

fn all_files(top: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![top.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

#[test]
fn an_input_below_a_directory_that_may_not_be_listed_is_submitted() {
    use std::os::unix::fs::PermissionsExt as _;
    Machine::with_directory(|machine| {
        let input = machine.file("homes/me/scene/file", "mine");
        let homes = machine.path("homes");
        fs::set_permissions(&homes, fs::Permissions::from_mode(0o311)).unwrap();
        let outputs = machine.path("frames");
        let more = args![&input, "--output-dir", &outputs, "--json"];
        let submit = machine.attachfs(submission(machine, &more));
        // Root may list everything, unless that is taken from it.
        let mut command = machine.command("setpriv");
        command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
        command.arg(submit.get_program()).args(submit.get_args());
        let mut command = if rustix::process::geteuid().is_root() {
            command
        } else {
            submit
        };
        let account = crate::process::said(&mut command).with_code(0).json();
        let manifest = account["roots"][0]["manifest"].as_str().unwrap();
        let manifest = machine.store_files().join("Manifests").join(manifest);
        let cat = args![
            "cat",
            &manifest,
            "homes/me/scene/file",
            "--store",
            machine.store()
        ];
        assert_eq!(machine.ok(cat).out, "mine");
        fs::set_permissions(&homes, fs::Permissions::from_mode(0o755)).unwrap();
    });
}

#[test]
fn a_check_lists_what_would_go_wrong() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 2);
        machine
            .ok(args!["check", &folder])
            .printing("nothing is wrong");
        assert!(machine.server().requests().is_empty());
        machine.file("scene/Name", "one");
        machine.file("scene/name", "two");
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        machine.file(Path::new("scene").join(&long), "long");
        let gone = machine.path("gone");
        let check = |more: &[OsString]| {
            let all = [&args!["check", &folder, &gone, "--json"][..], more].concat();
            let found = machine.says(all).with_code(13).json();
            let found = found["findings"].as_array().unwrap().clone();
            let kinds = found
                .iter()
                .map(|of| of["kind"].as_str().unwrap().to_owned());
            kinds.collect::<Vec<_>>()
        };
        assert_eq!(check(&[]), ["input", "case-clash"]);
        let windows = args!["--windows-root", r"C:\work\a-longer-root"];
        assert_eq!(check(&windows), ["input", "long-path", "case-clash"]);
    });
}

#[test]
fn a_deep_check_finds_objects_that_are_gone_or_damaged() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 3);
        submitted(machine, &args![&folder]);
        machine.file("scene/new", "never sent");
        let check = args!["check", &folder, "--deep", "--store", machine.store()];
        let said = machine.ok(&check).printing("nothing is wrong");
        said.printing("the store has 3 objects, and lacks 1");
        let object = machine.objects().pop_first().unwrap();
        fs::remove_file(&object).unwrap();
        machine
            .says(&check)
            .with_code(13)
            .printing("was in the store, and is gone");
        fs::write(&object, "other").unwrap();
        machine
            .says(&check)
            .with_code(12)
            .printing("5 bytes in the store instead of 6");
    });
}

#[test]
fn what_is_missing_of_a_submission_is_named() {
    Machine::with_directory(|machine| {
        let folder = folder(machine, 1);
        machine
            .says(args!["submit"])
            .with_code(2)
            .saying("there is nothing to submit");
        let said = machine.says(args!["submit", &folder, "--store", machine.store()]);
        said.with_code(2)
            .saying("the queue of the job is not known");
        let farm = format!("farm-{HEX}");
        let queue = json!({
            "farmId": farm, "queueId": format!("queue-{HEX}"),
            "jobAttachmentSettings": { "s3BucketName": "bucket", "rootPrefix": "p" },
        });
        let queue = machine.file("queue.json", queue.to_string());
        // The document names the queue, the option the store.
        let mut command = machine.attachfs(args![
            "submit",
            &folder,
            "--queue-json",
            &queue,
            "--store",
            machine.store()
        ]);
        crate::process::said(&mut command).with_code(0);
        let broken = machine.file("broken/template.json", "{");
        let broken = broken.parent().unwrap();
        let said = submit(machine, &args!["--bundle", broken]).with_code(2);
        said.saying("cannot use the job bundle");
    });
}

/// A pipe that nobody writes into.
fn pipe(path: &Path) {
    rustix::fs::mkfifoat(CWD, path, Mode::RWXU).unwrap();
}

#[test]
fn a_document_of_a_bundle_is_a_file_of_the_bundle_and_has_an_end() {
    Machine::with_directory(|machine| {
        let folder = folder(machine, 1);
        let bundle = bundle(
            machine,
            &json!({ "inputs": { "directories": [text(&folder)] } }),
        );
        let values = bundle.join("parameter_values.json");
        let refused = |why: &str| {
            let bundle = text(&bundle);
            for arguments in [
                submission(machine, &args!["--bundle", bundle, "--yes"]),
                args!["check", "--bundle", bundle].to_vec(),
            ] {
                let mut command = machine.command("timeout");
                command.args(["-s", "KILL", "20"]);
                command.arg(program("attachfs")).args(arguments);
                let said = said(&mut command).with_code(2).saying(text(&values));
                said.saying(why);
            }
            fs::remove_file(&values).unwrap();
        };
        pipe(&values);
        refused("it is no regular file");
        symlink("/dev/zero", &values).unwrap();
        refused("it is a link that leads out of the job bundle");
        let secret = machine.file("secrets/values.json", r#"{"parameterValues":[]}"#);
        symlink(secret, &values).unwrap();
        refused("it is a link that leads out of the job bundle");
        fs::create_dir(bundle.join("scripts")).unwrap();
        let file = fs::File::create(&values).unwrap();
        file.set_len((64 << 20) + 1).unwrap();
        refused("is longer than a document of a job bundle may be");
        assert!(machine.objects().is_empty() && manifests(machine).is_empty());
        // A link that stays in the bundle is followed.
        machine.file("bundle/scripts/values.json", r#"{"parameterValues":[]}"#);
        symlink("scripts/values.json", &values).unwrap();
        submit(machine, &args!["--bundle", &bundle, "--yes"]).with_code(0);
    });
}

#[test]
fn a_signal_ends_a_submission_that_waits_for_a_document() {
    Machine::with_directory(|machine| {
        let folder = folder(machine, 1);
        let fifo = machine.path("fifo");
        pipe(&fifo);
        for arguments in [
            args!["submit", &folder, "--queue-json", &fifo].to_vec(),
            args!["submit", &folder, "--storage-profile-json", &fifo].to_vec(),
            args!["check", &folder, "--storage-profile-json", &fifo].to_vec(),
        ] {
            for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
                let mut command = machine.attachfs(arguments.clone());
                command.stdin(Stdio::null());
                let (out, err) = (machine.path("out"), machine.path("err"));
                let mut running = Running::start(command, out, err);
                // Held open, so that there is no end to read.
                let mut writer = None;
                until("it reads the document", || {
                    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    writer = rustix::fs::open(&fifo, flags, Mode::empty()).ok();
                    writer.is_some()
                });
                running.signal(signal);
                until("the signal ends it", || !running.is_running());
                running.wait().with_code(code);
                drop(writer);
            }
        }
    });
}

#[test]
fn standard_input_is_read_for_one_document_only() {
    Machine::with_directory(|machine| {
        let folder = folder(machine, 1);
        for arguments in [
            args!["download", "--queue-json", "-", "--job-json", "-"].to_vec(),
            submission(
                machine,
                &args![&folder, "--queue-json", "-", "--storage-profile-json", "-"],
            ),
        ] {
            let mut command = machine.attachfs(arguments);
            let profile = json!({
                "storageProfileId": format!("sp-{HEX}"), "displayName": "here", "osFamily": "LINUX",
                "fileSystemLocations": [],
            });
            let profile = machine.file("profile.json", profile.to_string());
            command.stdin(fs::File::open(profile).unwrap());
            let said = said(&mut command).with_code(2);
            said.saying("standard input can be read only once");
        }
    });
}

/// Starts a submission in the background; gives its id and its process.
fn in_background(machine: &Machine, more: &[OsString]) -> (String, u32) {
    let started = submitted(machine, &[&args!["--background"][..], more].concat());
    let pid = started["pid"].as_u64().unwrap();
    let id = started["submission"].as_str().unwrap().to_owned();
    (id, u32::try_from(pid).unwrap())
}

#[test]
fn a_submission_in_the_background_says_how_far_it_is_and_where_its_document_is() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 60);
        let server = machine.server();
        server.add(Rule::on("PUT", Mishap::Hold).after(20));
        let (id, pid) = in_background(machine, &args![&folder]);
        let status = || machine.says(args!["submit", "--status", &id, "--json"]);
        server.wait_for("it sends", |requests| puts(requests).len() > 20);
        assert_eq!(status().with_code(13).json()["state"], "running");
        until("it is written down how far it is", || {
            status().json()["items_total"] == 60
        });
        crate::process::kill(pid, Signal::KILL);
        until("it is gone", || status().json()["state"] == "interrupted");
        status().with_code(13);
        assert!(manifests(machine).is_empty());
        server.heal();
        let (second, _) = in_background(machine, &args![&folder]);
        assert_ne!(id, second);
        let status = || machine.says(args!["submit", "--status", &second, "--json"]);
        until("it is done", || status().json()["state"] != "running");
        let done = status().with_code(0).json();
        let document = fs::read(done["attachments_file"].as_str().unwrap()).unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        let key = document["manifests"][0]["inputManifestPath"]
            .as_str()
            .unwrap();
        assert!(machine.store_files().join("Manifests").join(key).exists());
        let call = done["create_job"].as_str().unwrap();
        assert!(call.starts_with("aws deadline create-job "), "{call}");
        machine.says(args!["submit", "--status", "0"]).with_code(2);
    });
}

#[test]
fn a_submission_that_failed_in_the_background_says_why() {
    Machine::with_s3(|machine| {
        let folder = folder(machine, 2);
        machine.server().add(Rule::on(
            "PUT",
            Mishap::Error {
                status: 403,
                code: "AccessDenied",
            },
        ));
        let (id, _) = in_background(machine, &args![&folder]);
        let status = || machine.says(args!["submit", "--status", &id, "--json"]);
        until("it has failed", || status().json()["state"] != "running");
        let said = status();
        assert!([11, 13].contains(&said.code), "{said:#?}");
        let failed = said.json();
        assert_eq!(failed["state"], "failed");
        assert_ne!(failed["failure"]["text"], "");
        // What is refused before anything is sent is refused at once.
        let gone = args![
            "--background",
            machine.path("gone"),
            "--require-paths-exist"
        ];
        submit(machine, &gone).with_code(2).saying("it is missing");
    });
}

#[test]
fn a_person_is_asked_about_places_that_nobody_named_and_no_answer_is_no() {
    Machine::with_directory(|machine| {
        let secret = machine.file("secrets/key", "secret");
        let bundle = bundle(
            machine,
            &json!({ "inputs": { "filenames": [text(&secret)] } }),
        );
        let output = machine.path("attachments.json");
        let submit = machine.attachfs(submission(
            machine,
            &args!["--bundle", bundle, "-o", &output],
        ));
        let words = std::iter::once(submit.get_program()).chain(submit.get_args());
        let line: Vec<String> = words
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        for (answer, code, sent) in [("\r", 15, 0), ("n\r", 15, 0), ("y\r", 0, 1)] {
            // A terminal, by script(1).
            let mut command = machine.command("script");
            command.args(["-qec", &line.join(" "), "/dev/null"]);
            command.stdin(std::process::Stdio::piped());
            let mut running = machine.start(command);
            running.wait_for_output("[y/N]");
            running.type_keys(answer);
            let said = running.wait().with_code(code);
            assert!(
                said.out.contains(text(secret.parent().unwrap())),
                "{said:#?}"
            );
            assert_eq!(machine.objects().len(), sent, "{answer:?}");
            assert_eq!(output.exists(), sent > 0);
        }
    });
}

#[test]
fn how_a_job_is_run_stands_in_the_call_as_the_bundle_says() {
    Machine::with_directory(|machine| {
        let bundle = bundle(machine, &json!({}));
        let values = json!({ "parameterValues": [
            { "name": "deadline:priority", "value": 80 },
            { "name": "deadline:targetTaskRunStatus", "value": "SUSPENDED" },
        ] });
        machine.file("bundle/parameter_values.json", values.to_string());
        let call = |options: &[OsString]| {
            let account = submitted(machine, options);
            account["create_job"].as_str().unwrap().to_owned()
        };
        let told = call(&args!["--bundle", &bundle]);
        assert!(
            told.contains(" --priority 80 --target-task-run-status SUSPENDED "),
            "{told}"
        );
        // It works from any directory.
        let template = format!("file://{}", text(&bundle.join("template.json")));
        assert!(told.ends_with(&template), "{told}");
        let told = call(&args!["--bundle", &bundle, "-p", "deadline:priority=7"]);
        assert!(told.contains(" --priority 7 "), "{told}");
    });
}
