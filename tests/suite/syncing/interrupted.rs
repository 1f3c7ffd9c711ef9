//! Runs that are killed, and runs at the same time.

use std::collections::BTreeMap;

use attachfs_test_s3::{Mishap, Request, Rule};
use rustix::process::Signal;

use super::{arguments, checkpoint, placed, run};
use crate::farm::{Farm, Output};
use crate::machine::{Machine, on_both_stores, until};
use crate::process::stop;

on_both_stores![a_run_that_is_killed_where_it_notes_what_it_did_is_gone_on_with];

const ACTIONS: u32 = 40;

/// Forty session actions with a file each, and what is to be placed.
fn forty(farm: &Farm<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for number in 0..ACTIONS {
        let (path, text) = (format!("out/{number}"), format!("text {number}"));
        farm.publish(&Output {
            task: Some(number),
            action: number,
            files: &[(&path, &text)],
            ..Output::default()
        });
        all.insert(path, text);
    }
    all
}

fn a_run_that_is_killed_where_it_notes_what_it_did_is_gone_on_with(machine: &Machine) {
    let farm = Farm::of(machine);
    let whole = forty(&farm);
    let proj = machine.path("proj");
    let steps = [
        ("StagedContent:1", false),
        ("StagedRename:1:after", false),
        ("StagedContent:2", true),
        ("StagedRename:2", true),
    ];
    for (number, (step, is_placed)) in steps.into_iter().enumerate() {
        // Where a checkpoint was begun, the first write is that of what is done.
        let step = match (number, step) {
            (2.., step) => step.replace(":2", ":1"),
            _ => step.to_owned(),
        };
        let mut command = machine.attachfs(arguments(machine, &farm, &[]));
        command.env("ATTACHFS_HALT_AT", &step);
        let mut running = machine.start(command);
        running.wait_for_error("halted at");
        running.signal(Signal::KILL);
        running.wait().with_code(137);
        assert_eq!(placed(&proj).len() == whole.len(), is_placed, "{step}");
    }
    let told = run(machine, arguments(machine, &farm, &[]), 0);
    // Everything is there, once, and was not fetched a second time.
    assert_eq!(placed(&proj), whole);
    assert_eq!(told["downloaded_files"], 0, "{told}");
    assert_eq!(told["skipped_files"], ACTIONS);
    let told = run(machine, arguments(machine, &farm, &[]), 0);
    assert_eq!(told["read_manifests"], 0, "{told}");
}

#[test]
fn a_run_that_is_killed_while_it_fetches_is_gone_on_with_and_places_each_file_once() {
    Machine::with_s3(|machine| {
        let farm = Farm::of(machine);
        let whole = forty(&farm);
        let proj = machine.path("proj");
        let objects = |machine: &Machine| {
            let requests = machine.server().requests();
            let gets = requests
                .into_iter()
                .filter(|of| of.method == "GET" && of.path.contains("/Data/"));
            gets.map(|of| of.path).collect::<Vec<_>>()
        };
        for _ in 0..3 {
            let before = placed(&proj).len();
            let asked = objects(machine).len();
            machine
                .server()
                .add(Rule::on("GET", Mishap::Hold).of("/Data/").after(8));
            let running = machine.start(machine.attachfs(arguments(machine, &farm, &[])));
            until("some files are placed", || {
                placed(&proj).len() >= before + 8
            });
            running.signal(Signal::KILL);
            running.wait().with_code(137);
            machine.server().heal();
            let done = placed(&proj);
            assert!(done.len() < whole.len());
            assert!(done.iter().all(|(path, text)| whole[path] == *text));
            assert!(objects(machine).len() > asked);
        }
        let asked = objects(machine).len();
        let left = whole.len() - placed(&proj).len();
        run(machine, arguments(machine, &farm, &[]), 0);
        assert_eq!(placed(&proj), whole);
        assert_eq!(objects(machine).len() - asked, left);
    });
}

#[test]
fn a_run_waits_for_another_one_and_says_who_it_is_if_that_takes_long() {
    Machine::with_s3(|machine| {
        let farm = Farm::of(machine);
        let whole = forty(&farm);
        machine
            .server()
            .add(Rule::on("GET", Mishap::Hold).of("/Data/"));
        let first = machine.start(machine.attachfs(arguments(machine, &farm, &[])));
        machine.server().wait_for("it fetches", |requests| {
            let is_it = |of: &Request| of.method == "GET" && of.path.contains("/Data/");
            requests.iter().any(is_it)
        });
        // Stopped, so that it does not give up on the store meanwhile.
        assert!(stop(first.pid()));
        let pid = first.pid().to_string();
        let said = machine.says(arguments(machine, &farm, &[])).with_code(14);
        said.saying(&pid).saying("is used by");
        // The next one waits for a shorter time.
        let second = machine.start(machine.attachfs(arguments(machine, &farm, &["--json"])));
        std::thread::sleep(std::time::Duration::from_millis(300));
        machine.server().heal();
        first.signal(Signal::CONT);
        first.wait().with_code(0);
        let told = second.wait().with_code(0).json();
        assert_eq!(told["read_manifests"], 0, "{told}");
        assert_eq!(placed(&machine.path("proj")), whole);
        assert!(checkpoint(machine, &farm, "mapped").exists());
    });
}
