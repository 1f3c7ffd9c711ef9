//! What fails, is tried again and given up; a store that is gone; a checkpoint that is none.

use std::fs;

use attachfs_manifest::ContentHash;
use attachfs_test_s3::{Mishap, Rule};

use super::{arguments, checkpoint, files, placed, run};
use crate::farm::{Farm, Output};
use crate::machine::{Machine, on_both_stores};

on_both_stores![
    a_manifest_that_fails_is_given_up_after_five_runs_and_keeps_nothing_else_back,
    a_checkpoint_that_is_damaged_or_of_another_store_is_not_used,
    an_earlier_output_is_placed_once_the_later_one_is_given_up,
    keys_that_are_passed_over_are_told,
];

fn an_earlier_output_is_placed_once_the_later_one_is_given_up(machine: &Machine) {
    let farm = Farm::of(machine);
    let earlier = [("f", "earlier"), ("g", "earlier g"), ("only", "once")];
    let later = [("f", "later, lost"), ("g", "later g")];
    for (action, files, seconds) in [(1, &earlier[..], 10), (2, &later[..], 20)] {
        let key = farm.publish(&Output {
            action,
            files,
            ..Output::default()
        });
        farm.written(&key, seconds);
    }
    let object = machine.object(&ContentHash::of(b"later, lost").to_string());
    fs::remove_file(object).unwrap();
    let proj = machine.path("proj");
    for _ in 1..=4 {
        run(machine, arguments(machine, &farm, &[]), 13);
        assert_eq!(placed(&proj), files([("g", "later g"), ("only", "once")]));
    }
    // Where the later one has its path, the earlier one does not come back.
    let whole = files([("f", "earlier"), ("g", "later g"), ("only", "once")]);
    run(machine, arguments(machine, &farm, &[]), 13);
    assert_eq!(placed(&proj), whole);
    let told = run(machine, arguments(machine, &farm, &[]), 13);
    assert_eq!(told["read_manifests"], 0, "{told}");
    assert_eq!(told["given_up_manifests"], 1);
    assert_eq!(placed(&proj), whole);
}

fn keys_that_are_passed_over_are_told(machine: &Machine) {
    let farm = Farm::of(machine);
    let key = farm.publish(&Output {
        files: &[("a", "text")],
        ..Output::default()
    });
    let beside = farm.file(&key).with_file_name("notes.txt");
    fs::write(beside, "text").unwrap();
    let said = machine.ok(arguments(machine, &farm, &[]));
    said.saying("1 key among the outputs");
}

#[test]
fn a_manifest_that_cannot_be_read_stops_nothing_else() {
    Machine::with_directory(|machine| {
        let farm = Farm::of(machine);
        for (job, path) in [(1, "bad"), (2, "good"), (3, "fifo")] {
            let key = farm.publish(&Output {
                job,
                files: &[(path, path)],
                ..Output::default()
            });
            let file = farm.file(&key);
            if path == "fifo" {
                fs::remove_file(&file).unwrap();
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, &file, kind, mode, 0).unwrap();
            }
            if path == "bad" {
                let said = machine.path("store/Metadata").join(key.as_str());
                for of in fs::read_dir(said).unwrap() {
                    fs::write(of.unwrap().path(), vec![b' '; 1 << 20]).unwrap();
                }
            }
        }
        let told = run(machine, arguments(machine, &farm, &[]), 13);
        assert_eq!(told["downloaded_files"], 1, "{told}");
        assert_eq!(told["jobs"][Farm::job(1).to_string()]["tries"], 1, "{told}");
        assert_eq!(placed(&machine.path("proj")), files([("good", "good")]));
    });
}

#[test]
fn a_run_that_the_store_ends_uses_up_no_try_of_what_failed_before() {
    Machine::with_s3(|machine| {
        let farm = Farm::of(machine);
        let torn = farm.publish(&Output {
            files: &[("torn", "text")],
            ..Output::default()
        });
        fs::write(farm.file(&torn), "{").unwrap();
        farm.publish(&Output {
            job: 2,
            files: &[("a", "text")],
            ..Output::default()
        });
        let refused = Mishap::Error {
            status: 403,
            code: "InvalidAccessKeyId",
        };
        machine.server().add(Rule::on("GET", refused).of("/Data/"));
        machine.says(arguments(machine, &farm, &[])).with_code(11);
        let text = fs::read_to_string(checkpoint(machine, &farm, "mapped")).unwrap();
        assert!(!text.contains("tries"), "{text}");
        machine.server().heal();
        let told = run(machine, arguments(machine, &farm, &[]), 13);
        assert_eq!(told["jobs"][Farm::job(1).to_string()]["tries"], 1, "{told}");
        assert_eq!(placed(&machine.path("proj")), files([("a", "text")]));
    });
}

fn a_manifest_that_fails_is_given_up_after_five_runs_and_keeps_nothing_else_back(
    machine: &Machine,
) {
    let farm = Farm::of(machine);
    for (action, path, text) in [(1, "good", "good"), (2, "bad", "damaged later")] {
        farm.publish(&Output {
            task: Some(action),
            action,
            files: &[(path, text)],
            ..Output::default()
        });
    }
    // One manifest is none.
    let torn = farm.publish(&Output {
        job: 2,
        action: 3,
        files: &[("torn", "text")],
        ..Output::default()
    });
    let whole = fs::read(farm.file(&torn)).unwrap();
    fs::write(farm.file(&torn), &whole[..whole.len() / 2]).unwrap();
    let object = machine.object(&ContentHash::of(b"damaged later").to_string());
    fs::write(&object, "damaged, late").unwrap();
    for tries in 1..=5 {
        let mut all = arguments(machine, &farm, &[]);
        all.push("--json".into());
        let said = machine.says(all).with_code(13);
        let told = said.json();
        for (job, what) in [(1, "bad"), (2, "_output")] {
            let of = &told["jobs"][Farm::job(job).to_string()];
            assert_eq!(of["tries"], tries, "{told}");
            assert_eq!(of["given_up"], tries == 5, "{told}");
            let path = of["errors"][0]["path"].as_str().unwrap();
            assert!(path.ends_with(what), "{told}");
        }
        let is_told =
            said.err.contains(&Farm::job(1).to_string()) && said.err.contains("--retry-failed");
        assert_eq!(is_told, tries == 5, "{}", said.err);
        assert_eq!(placed(&machine.path("proj")), files([("good", "good")]));
    }
    let told = run(machine, arguments(machine, &farm, &[]), 13);
    assert_eq!(told["given_up_manifests"], 2, "{told}");
    assert_eq!(told["read_manifests"], 0);
    assert_eq!(told["retry_with"], "--retry-failed");
    let given_up = told["given_up"].as_array().unwrap();
    let of_torn = given_up.iter().find(|of| of["key"] == torn.as_str());
    let of_torn = of_torn.unwrap();
    assert_eq!(of_torn["job"], Farm::job(2).to_string(), "{told}");
    assert!(!of_torn["error"].as_str().unwrap().is_empty());
    let said = machine.says(arguments(machine, &farm, &[]));
    said.with_code(13)
        .saying("--retry-failed")
        .printing(torn.as_str())
        .printing(&Farm::job(1).to_string());
    // Their job goes on.
    farm.publish(&Output {
        task: Some(9),
        action: 9,
        files: &[("more", "more")],
        ..Output::default()
    });
    let told = run(machine, arguments(machine, &farm, &[]), 13);
    assert_eq!(told["downloaded_files"], 1, "{told}");
    fs::write(&object, "damaged later").unwrap();
    fs::write(farm.file(&torn), whole).unwrap();
    run(machine, arguments(machine, &farm, &["--retry-failed"]), 0);
    assert_eq!(
        placed(&machine.path("proj")),
        files([
            ("good", "good"),
            ("more", "more"),
            ("bad", "damaged later"),
            ("torn", "text")
        ])
    );
}

fn a_checkpoint_that_is_damaged_or_of_another_store_is_not_used(machine: &Machine) {
    let farm = Farm::of(machine);
    farm.publish(&Output {
        files: &[("a", "text")],
        ..Output::default()
    });
    run(machine, arguments(machine, &farm, &[]), 0);
    let file = checkpoint(machine, &farm, "mapped");
    let good = fs::read_to_string(&file).unwrap();
    let other = good.replace(&machine.store(), "s3://other/store");
    assert_ne!(good, other);
    for (bytes, code, text) in [
        (&good[..good.len() / 2], 12, "is not a checkpoint"),
        (&other, 2, "s3://other/store"),
    ] {
        fs::write(&file, bytes).unwrap();
        let said = machine.says(arguments(machine, &farm, &[]));
        said.with_code(code)
            .saying(text)
            .saying("--force-bootstrap");
    }
    // What is in place is not fetched again.
    let told = run(
        machine,
        arguments(machine, &farm, &["--force-bootstrap"]),
        0,
    );
    assert_eq!(told["skipped_files"], 1, "{told}");
    assert_eq!(told["downloaded_files"], 0);
}

#[test]
fn a_store_that_is_gone_counts_as_no_failure_of_a_job() {
    Machine::with_s3(|machine| {
        let farm = Farm::of(machine);
        farm.publish(&Output {
            files: &[("a", "text")],
            ..Output::default()
        });
        machine.server().add(
            Rule::on(
                "GET",
                Mishap::Error {
                    status: 403,
                    code: "InvalidAccessKeyId",
                },
            )
            .of("/Data/"),
        );
        let said = machine.says(arguments(machine, &farm, &[]));
        said.with_code(11);
        machine.server().heal();
        let told = run(machine, arguments(machine, &farm, &[]), 0);
        assert_eq!(told["downloaded_files"], 1, "{told}");
        let text = fs::read_to_string(checkpoint(machine, &farm, "mapped")).unwrap();
        assert!(!text.contains("tries"), "{text}");
    });
}
