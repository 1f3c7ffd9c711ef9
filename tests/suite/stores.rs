//! `attachfs store` and `attachfs manifest upload`, as their users run them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use attachfs_test_s3::{Mishap, Rule};
use serde_json::{Value, json};

use crate::machine::{Machine, args, on_both_stores};
use crate::tree::set_modified;

on_both_stores![
    a_store_is_counted,
    damage_is_found_by_reading_and_a_loss_by_asking,
    another_store_is_filled_by_a_manifest_and_only_once,
    a_manifest_comes_over_after_its_objects_or_not_at_all,
    what_nothing_needs_is_listed_when_it_is_old,
    a_manifest_that_cannot_be_read_leaves_no_plan,
    a_file_without_a_hash_is_damage_and_neither_published_nor_synced,
    a_bad_manifest_does_not_keep_the_good_ones_from_coming_over,
    a_manifest_without_its_objects_is_not_uploaded,
    a_manifest_comes_back_with_what_is_said_of_it,
];

/// A folder in the store: its manifest.
fn scene(machine: &Machine) -> PathBuf {
    machine.file("scene/a", "aaa");
    machine.file("scene/d/b", "b".repeat(5000));
    machine.file("scene/big", "0123456789".repeat(300_000));
    machine.snapshot(&machine.path("scene"), "scene.manifest")
}

fn object_of(machine: &Machine, bytes: &str) -> PathBuf {
    machine.object(&attachfs_manifest::ContentHash::of(bytes.as_bytes()).to_string())
}

/// Puts the scene's manifest into the store.
fn upload(machine: &Machine, manifest: &Path, key: &str) -> Value {
    machine.json(args![
        "manifest",
        "upload",
        manifest,
        "--store",
        machine.store(),
        "--key",
        key,
        "--asset-root",
        "/proj",
    ])
}

fn age(file: &Path, days: u64) {
    set_modified(file, SystemTime::now() - Duration::from_hours(24 * days));
}

fn a_store_is_counted(machine: &Machine) {
    let manifest = scene(machine);
    upload(machine, &manifest, "job/m");
    machine.file(machine.store_files().join("Data/notes.txt"), "mine");
    let old = object_of(machine, "aaa");
    fs::rename(&old, old.with_extension("")).unwrap();
    let stat = machine.json(args!["store", "stat", machine.store()]);
    // `big` is three objects.
    assert_eq!(stat["objects"], 5);
    assert_eq!(stat["bytes"], 3 + 5000 + 3_000_000);
    assert_eq!(stat["old_names"], 1);
    assert_eq!(stat["manifests"], 1);
    assert_eq!(
        stat["manifest_bytes"],
        fs::metadata(&manifest).unwrap().len()
    );
    assert_eq!(stat["first_foreign"], json!(["Data/notes.txt"]));
    let said = machine.ok(args!["store", "stat", machine.store()]);
    said.printing("5 objects").printing("1 manifest");
}

fn damage_is_found_by_reading_and_a_loss_by_asking(machine: &Machine) {
    let manifest = scene(machine);
    let verify = args!["store", "verify", machine.store()];
    let deep = args!["store", "verify", machine.store(), "--deep"];
    let by_manifest = args!["store", "verify", machine.store(), "--manifest", &manifest];
    for verb in [&verify[..], &deep, &by_manifest] {
        machine.ok(verb);
    }
    let damaged = object_of(machine, "aaa");
    fs::write(&damaged, "AAA").unwrap();
    machine.ok(&verify);
    machine.ok(&by_manifest);
    let said = machine.says(&deep).with_code(12);
    said.printing("damaged")
        .printing(damaged.file_stem().unwrap().to_str().unwrap());
    fs::remove_file(&damaged).unwrap();
    machine.ok(&deep);
    machine
        .says(&by_manifest)
        .with_code(13)
        .printing("missing")
        .printing("of a in");
    fs::write(&damaged, "aa").unwrap();
    machine
        .says(&by_manifest)
        .with_code(12)
        .printing("it has 2 bytes");
}

fn another_store_is_filled_by_a_manifest_and_only_once(machine: &Machine) {
    let manifest = scene(machine);
    let to = machine.path("second");
    let sync = args![
        "store",
        "sync",
        machine.store(),
        &to,
        "--manifest",
        &manifest
    ];
    let first = machine.json(&sync);
    assert_eq!(
        (&first["processed_files"], &first["skipped_files"]),
        (&json!(5), &json!(0))
    );
    assert_eq!(first["processed_bytes"], 3 + 5000 + 3_000_000);
    machine.ok(args![
        "store",
        "verify",
        &to,
        "--manifest",
        &manifest,
        "--deep"
    ]);
    let second = machine.json(&sync);
    assert_eq!(
        (&second["processed_files"], &second["skipped_files"]),
        (&json!(0), &json!(5))
    );
    // And back: what was lost in the first comes from the second.
    fs::remove_file(object_of(machine, "aaa")).unwrap();
    let back = args![
        "store",
        "sync",
        &to,
        machine.store(),
        "--manifest",
        &manifest
    ];
    assert_eq!(machine.json(back)["processed_files"], 1);
    machine.ok(args![
        "store",
        "verify",
        machine.store(),
        "--manifest",
        &manifest
    ]);
}

fn a_manifest_comes_over_after_its_objects_or_not_at_all(machine: &Machine) {
    let manifest = scene(machine);
    upload(machine, &manifest, "job/m");
    let damaged = object_of(machine, "aaa");
    fs::write(&damaged, "AAA").unwrap();
    let to = machine.path("second");
    let sync = args!["store", "sync", machine.store(), &to, "--key", "job/m"];
    let said = machine.says(&sync).with_code(13);
    said.printing("its bytes have the hash")
        .printing("1 of its objects did not come over");
    assert!(!to.join("Manifests/job/m").exists());
    assert_eq!(
        fs::read_dir(to.join("Data"))
            .unwrap()
            .filter(|e| { e.as_ref().unwrap().path().is_file() })
            .count(),
        4
    );
    fs::write(&damaged, "aaa").unwrap();
    let done = machine.json(&sync);
    assert_eq!(
        (&done["processed_files"], &done["manifests"]),
        (&json!(1), &json!(["job/m"]))
    );
    let copy = machine.path("copy");
    let told = machine.json(args![
        "manifest", "download", "job/m", "--store", &to, "-o", &copy
    ]);
    assert_eq!(told["asset_root"], "/proj");
    assert_eq!(fs::read(copy).unwrap(), fs::read(manifest).unwrap());
}

fn what_nothing_needs_is_listed_when_it_is_old(machine: &Machine) {
    let manifest = scene(machine);
    upload(machine, &manifest, "job/m");
    machine.file("other/x", "old garbage");
    machine.file("other/y", "young garbage");
    machine.snapshot(&machine.path("other"), "other.manifest");
    for object in machine.objects() {
        age(&object, 40);
    }
    age(&object_of(machine, "young garbage"), 30);
    let plan = args!["store", "gc", "--plan", machine.store()];
    let found = machine.json(&plan);
    let garbage = object_of(machine, "old garbage");
    let name = format!("Data/{}", garbage.file_name().unwrap().to_str().unwrap());
    assert_eq!(
        found["garbage"],
        json!([{ "key": name, "bytes": 11, "days": 40 }])
    );
    assert_eq!(
        (&found["young"], &found["referenced"]),
        (&json!(1), &json!(5))
    );
    assert_eq!(found["complete"], true);
    assert_eq!(machine.objects().len(), 7, "nothing is deleted");
    let none = machine.json(args![
        "store",
        "gc",
        "--plan",
        machine.store(),
        "--older-than",
        "41"
    ]);
    assert_eq!(none["garbage"], json!([]));
    machine
        .says(args!["store", "gc", machine.store()])
        .with_code(2)
        .saying("deleting is not offered");
    let young = args![
        "store",
        "gc",
        "--plan",
        machine.store(),
        "--older-than",
        "30"
    ];
    machine.says(young).with_code(2);
}

#[test]
fn a_manifest_that_is_replaced_while_a_plan_is_made_keeps_what_it_needs() {
    Machine::with_s3(|machine| {
        let manifest = scene(machine);
        upload(machine, &manifest, "job/m");
        machine.file("other/x", "needed soon");
        let other = machine.snapshot(&machine.path("other"), "other.manifest");
        for object in machine.objects() {
            age(&object, 40);
        }
        let server = machine.server();
        server.add(Rule::on("GET", Mishap::Hold).of("Data%2F"));
        let plan = args!["store", "gc", "--plan", machine.store()];
        let mut command = machine.attachfs(&plan);
        command.arg("--json");
        let running = machine.start(command);
        server.wait_for("it lists the objects", |requests| {
            requests.iter().any(|of| of.query.contains("Data%2F"))
        });
        fs::remove_file(machine.store_files().join("Manifests/job/m")).unwrap();
        upload(machine, &other, "job/m");
        server.heal();
        let found = running.wait().with_code(0).json();
        assert_eq!(found["garbage"], json!([]));
        assert_eq!(found["manifests"], 2, "it was read again");
        let found = machine.json(&plan);
        assert_eq!(found["garbage"].as_array().unwrap().len(), 5);
    });
}

fn a_manifest_that_cannot_be_read_leaves_no_plan(machine: &Machine) {
    let manifest = scene(machine);
    for object in machine.objects() {
        age(&object, 40);
    }
    upload(machine, &manifest, "job/m");
    let other = machine.store_files().join("Manifests/job/broken");
    fs::write(&other, &fs::read(&manifest).unwrap()[..100]).unwrap();
    fs::remove_file(machine.store_files().join("Manifests/job/m")).unwrap();
    let said = machine
        .says(args!["store", "gc", "--plan", machine.store()])
        .with_code(12);
    said.printing("Manifests/job/broken").printing("no plan");
    let said = machine.says(args!["store", "gc", "--plan", "--json", machine.store()]);
    assert_eq!(said.json()["garbage"], json!([]));
    fs::remove_file(other).unwrap();
    let plan = machine.json(args!["store", "gc", "--plan", machine.store()]);
    assert_eq!(plan["garbage"].as_array().unwrap().len(), 5);
}

fn a_manifest_without_its_objects_is_not_uploaded(machine: &Machine) {
    let manifest = scene(machine);
    fs::remove_file(object_of(machine, "aaa")).unwrap();
    let mut verb = args![
        "manifest",
        "upload",
        &manifest,
        "--store",
        machine.store(),
        "--key",
        "m",
    ]
    .to_vec();
    machine
        .says(&verb)
        .with_code(13)
        .printing("was not uploaded");
    assert!(!machine.store_files().join("Manifests/m").exists());
    verb.push("--unchecked".into());
    machine.ok(&verb);
}

fn a_manifest_comes_back_with_what_is_said_of_it(machine: &Machine) {
    let manifest = scene(machine);
    let first = upload(machine, &manifest, "job/m");
    assert_eq!(first["existed"], false);
    assert_eq!(upload(machine, &manifest, "job/m")["existed"], true);
    let other = args![
        "manifest",
        "upload",
        &manifest,
        "--store",
        machine.store(),
        "--key",
        "job/m",
        "--asset-root",
        "/other",
    ];
    machine
        .says(other)
        .with_code(12)
        .saying("with other metadata");
    let out = machine.path("out");
    let told = machine.json(args![
        "manifest",
        "download",
        "job/m",
        "--store",
        machine.store(),
        "-o",
        &out,
    ]);
    assert_eq!(told["metadata"], json!({ "asset-root": "/proj" }));
    assert!(told["modified"].as_u64().unwrap() > 1_700_000_000_000_000);
    assert_eq!(fs::read(&out).unwrap(), fs::read(&manifest).unwrap());
    let address = first["address"].as_str().unwrap();
    if machine.is_s3() {
        machine.ok(args!["manifest", "download", address, "-o", &out]);
    }
    let missing = args![
        "manifest",
        "download",
        "none",
        "--store",
        machine.store(),
        "-o",
        &out
    ];
    machine
        .says(missing)
        .with_code(11)
        .saying("not in the store");
}

fn a_file_without_a_hash_is_damage_and_neither_published_nor_synced(machine: &Machine) {
    machine.file("scene/a", "aaa");
    let bare = machine.path("bare.manifest");
    machine.ok(args![
        "manifest",
        "collect",
        machine.path("scene"),
        "-o",
        &bare
    ]);
    let verify = args!["store", "verify", machine.store(), "--manifest", &bare];
    let said = machine.says(verify).with_code(12);
    said.printing("of a in").printing("it has no hash");
    let publish = args![
        "manifest",
        "upload",
        &bare,
        "--store",
        machine.store(),
        "--key",
        "m",
    ];
    machine
        .says(publish)
        .with_code(13)
        .printing("it has no hash");
    assert!(!machine.store_files().join("Manifests/m").exists());
    let to = machine.path("second");
    let sync = args!["store", "sync", machine.store(), &to, "--manifest", &bare];
    machine.says(sync).with_code(13).printing("it has no hash");
}

fn a_bad_manifest_does_not_keep_the_good_ones_from_coming_over(machine: &Machine) {
    let manifest = scene(machine);
    upload(machine, &manifest, "job/m");
    let bad = machine.file("bad.manifest", "{}");
    let to = machine.path("second");
    let sync = args![
        "store",
        "sync",
        machine.store(),
        &to,
        "--manifest",
        &bad,
        "--key",
        "job/none",
        "--key",
        "job/m",
    ];
    let said = machine.says(sync).with_code(13);
    said.printing("bad.manifest").printing("job/none");
    assert!(to.join("Manifests/job/m").exists());
}
