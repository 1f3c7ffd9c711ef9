//! `attachfs jobs`.

use serde_json::{Value, json};

use crate::farm::{BEGINNING, Farm, Output};
use crate::machine::{Machine, args, on_both_stores};

on_both_stores![
    a_store_tells_its_queues_jobs_steps_tasks_and_runs,
    a_listing_that_was_cut_goes_on_behind_its_end,
    what_was_written_since_is_told_by_the_stores_clock,
    files_and_bytes_are_those_of_the_latest_runs,
    keys_of_something_else_are_named_and_passed_over,
    an_empty_listing_is_no_failure_and_says_so,
    a_job_is_named_by_options_and_documents_too,
];

/// Two jobs: one with two steps, one of whose tasks ran twice below two roots; one whose tasks run together.
fn two_jobs(farm: &Farm<'_>) {
    let of = |output| farm.publish(&output);
    let frame = &[("frames/a.0001.exr", "first")];
    of(Output {
        files: frame,
        ..Output::default()
    });
    let again = Output {
        action: 2,
        began: 60,
        files: &[("frames/a.0001.exr", "second time"), ("log", "x")],
        ..Output::default()
    };
    of(again.clone());
    of(Output {
        root: "C:\\proj",
        files: &[("w", "windows")],
        ..again
    });
    of(Output {
        task: Some(1),
        action: 3,
        began: 120,
        files: &[("frames/a.0002.exr", "2")],
        ..Output::default()
    });
    of(Output {
        step: 2,
        action: 4,
        began: 180,
        files: &[("movie.mov", "movie")],
        ..Output::default()
    });
    of(Output {
        job: 2,
        task: None,
        action: 5,
        began: 240,
        files: &[("chunk", "1-10")],
        ..Output::default()
    });
}

fn jobs(machine: &Machine, more: &[&str]) -> Value {
    let mut arguments = args!["jobs", "--store", machine.store()].to_vec();
    arguments.extend(more.iter().map(Into::into));
    machine.json(arguments)
}

fn field<'a>(document: &'a Value, name: &str) -> Vec<&'a Value> {
    let entries = document["entries"].as_array().unwrap();
    entries.iter().map(|entry| &entry[name]).collect()
}

fn a_store_tells_its_queues_jobs_steps_tasks_and_runs(machine: &Machine) {
    let farm = Farm::of(machine);
    two_jobs(&farm);
    farm.submit(1, "/proj", &[("scene.blend", "scene")]);
    let found = jobs(machine, &[]);
    assert_eq!(found["address"], "deadline://");
    assert_eq!((&found["keys"], &found["next"]), (&json!(7), &json!(null)));
    assert_eq!(field(&found, "kind"), ["inputs", "job", "job"]);
    let [first, second] = [farm.job_address(1), farm.job_address(2)];
    let addresses = [&farm.address(), &first, &second];
    assert_eq!(field(&found, "address"), addresses);
    let [inputs, one, two] = [0, 1, 2].map(|at| &found["entries"][at]);
    assert_eq!(inputs["manifests"], 1);
    for (name, expected) in [("tasks", 3), ("runs", 4), ("manifests", 5)] {
        assert_eq!(one[name], expected, "{name}");
    }
    assert_eq!(one["first_began"], BEGINNING);
    assert_eq!(one["last_began"], BEGINNING + 180_000_000);
    assert_eq!(one["steps"][0]["address"], farm.step_address(1, 1));
    assert_eq!(one["steps"][0]["runs"], 3);
    assert_eq!(one["steps"][1]["tasks"], 1);
    assert_eq!((&two["tasks"], &two["runs"]), (&json!(0), &json!(1)));
    // A queue, a job, and what is in it.
    let of_queue = jobs(machine, &[&farm.address()]);
    assert_eq!(of_queue["entries"], found["entries"]);
    let of_job = jobs(machine, &[&first]);
    assert_eq!(of_job["entries"], json!([one]));
    let of_step = jobs(machine, &[&farm.step_address(1, 1)]);
    assert_eq!(field(&of_step, "kind"), ["run"; 3]);
    let task = |number| json!(farm.task_address(1, 1, number));
    assert_eq!(field(&of_step, "address"), [&task(0), &task(0), &task(1)]);
    assert_eq!(of_step["entries"][1]["manifests"], 2);
    let of_task = jobs(machine, &[&farm.task_address(1, 1, 0)]);
    let actions = [1, 2].map(|number| json!(Farm::action(number).to_string()));
    assert_eq!(
        field(&of_task, "session_action"),
        [&actions[0], &actions[1]]
    );
    // For people.
    let job = args!["jobs", &first, "--store", machine.store()];
    machine
        .ok(&job)
        .printing("2 steps, 3 tasks, 4 runs, 5 manifests")
        .printing(&format!("{}  ", farm.step_address(1, 2)));
    let task = args![
        "jobs",
        farm.task_address(1, 1, 0),
        "--store",
        machine.store()
    ];
    machine.ok(&task).printing(&format!(
        "2025-01-31T12:01:00Z  {}, 2 manifests",
        Farm::action(2)
    ));
}

fn a_listing_that_was_cut_goes_on_behind_its_end(machine: &Machine) {
    let farm = Farm::of(machine);
    for job in 1..=5 {
        farm.publish(&Output {
            job,
            files: &[("a", "a")],
            ..Output::default()
        });
    }
    farm.submit(1, "/proj", &[("scene", "s")]);
    let whole = jobs(machine, &[]);
    let mut parts = Vec::new();
    let mut after: Option<String> = None;
    for _ in 0..3 {
        let mut options = vec!["--limit", "2"];
        if let Some(after) = &after {
            options.extend(["--after", after]);
        }
        let part = jobs(machine, &options);
        parts.extend(part["entries"].as_array().unwrap().clone());
        after = part["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(after, None, "the fifth job was the last");
    assert_eq!(json!(parts), whole["entries"]);
    let cut = args!["jobs", "--limit", "5", "--store", machine.store()];
    assert_eq!(machine.ok(&cut).err, "", "nothing was left out");
    let cut = args!["jobs", "--limit", "4", "--store", machine.store()];
    machine
        .ok(&cut)
        .saying(&format!("go on with --after {}", farm.job_address(4)));
    let step = args![
        "jobs",
        farm.step_address(1, 1),
        "--limit",
        "1",
        "--store",
        machine.store()
    ];
    machine.says(&step).with_code(2).saying("listed as a whole");
}

fn what_was_written_since_is_told_by_the_stores_clock(machine: &Machine) {
    let farm = Farm::of(machine);
    let old = farm.publish(&Output {
        files: &[("a", "a")],
        ..Output::default()
    });
    farm.written(&old, 0);
    let new = farm.publish(&Output {
        job: 2,
        files: &[("a", "a")],
        ..Output::default()
    });
    farm.written(&new, 3600);
    let since = jobs(machine, &["--since", "2025-01-31T12:30:00Z"]);
    assert_eq!(field(&since, "address"), [&json!(farm.job_address(2))]);
    assert_eq!(jobs(machine, &["--since", "2h"])["entries"], json!([]));
    let runs = |job| {
        let step = farm.step_address(job, 1);
        let found = jobs(machine, &[&step, "--since", "2025-01-31T12:30:00Z"]);
        field(&found, "kind").len()
    };
    assert_eq!((runs(1), runs(2)), (0, 1));
    let bad = args!["jobs", "--since", "yesterday", "--store", machine.store()];
    machine.says(&bad).with_code(2).saying("2025-01-31");
}

fn files_and_bytes_are_those_of_the_latest_runs(machine: &Machine) {
    let farm = Farm::of(machine);
    two_jobs(&farm);
    let found = jobs(machine, &["--long"]);
    // The second run of the first task, below both roots, the other task and the other step.
    let (files, bytes) = (2 + 1 + 1 + 1, 11 + 1 + 7 + 1 + 5);
    assert_eq!(field(&found, "files"), [files, 1]);
    assert_eq!(field(&found, "bytes"), [bytes, 4]);
    assert!(jobs(machine, &[])["entries"][0]["files"].is_null());
    let runs = jobs(machine, &["--long", &farm.task_address(1, 1, 0)]);
    assert_eq!(field(&runs, "files"), [1, 3]);
    let text = args!["jobs", "--long", "--store", machine.store()];
    machine.ok(&text).printing("5 manifests; 5 files, 25 B");
    // A manifest that cannot be used is named, and the rest is counted.
    let bad = farm.key(&Output {
        step: 2,
        action: 4,
        began: 180,
        ..Output::default()
    });
    std::fs::write(farm.file(&bad), "{}").unwrap();
    let found = jobs(machine, &["--long"]);
    assert_eq!(field(&found, "files"), [4, 1]);
    assert_eq!(found["unread"], 1);
    assert_eq!(found["first_unread"][0]["key"], bad.as_str());
}

fn keys_of_something_else_are_named_and_passed_over(machine: &Machine) {
    let farm = Farm::of(machine);
    two_jobs(&farm);
    let wrong = format!("{}/{}/notes.txt", farm.id, farm.queue);
    machine.file(machine.store_files().join("Manifests").join(&wrong), "x");
    let found = jobs(machine, &[&farm.address()]);
    assert_eq!(field(&found, "kind"), ["job"; 2]);
    assert_eq!(found["foreign"], 1);
    assert_eq!(
        found["first_foreign"][0]["key"],
        format!("Manifests/{wrong}")
    );
    let text = args!["jobs", "--store", machine.store()];
    machine
        .ok(&text)
        .saying("1 key passed over")
        .saying("notes.txt: it does not have the parts");
}

fn an_empty_listing_is_no_failure_and_says_so(machine: &Machine) {
    let farm = Farm::of(machine);
    two_jobs(&farm);
    let missing = farm.job_address(99);
    let said = machine.ok(args!["jobs", &missing, "--store", machine.store()]);
    assert_eq!(said.out, "");
    said.saying(&format!("there are no manifests of {missing}"));
    let found = jobs(machine, &[&missing]);
    assert_eq!((&found["entries"], &found["keys"]), (&json!([]), &json!(0)));
    // What is no address is not empty.
    let long = format!("{missing}/step-1/task-1/more");
    for (wrong, said) in [
        ("deadline://farm", "is not the id of a farm"),
        ("s3://bucket", "begins with deadline://"),
        (&*long, "more than five parts"),
    ] {
        let wrong = args!["jobs", wrong, "--store", machine.store()];
        machine.says(&wrong).with_code(2).saying(said);
    }
    machine
        .says(args!["jobs", &missing])
        .with_code(2)
        .saying("--queue-json");
}

fn a_job_is_named_by_options_and_documents_too(machine: &Machine) {
    let farm = Farm::of(machine);
    two_jobs(&farm);
    let queue = farm.queue_json();
    let mut by_document = args!["jobs", "--queue-json", &queue].to_vec();
    if !machine.is_s3() {
        by_document.extend(args!["--store", machine.store()]);
    }
    let by_document = machine.json(by_document);
    assert_eq!(by_document["address"], farm.address());
    assert_eq!(field(&by_document, "kind"), ["job"; 2]);
    let (of_farm, of_queue) = (farm.id.to_string(), farm.queue.to_string());
    let job = Farm::job(1).to_string();
    let step = Farm::step(2).to_string();
    let options = ["--farm", &of_farm, "--queue", &of_queue, "--job", &job];
    let by_ids = jobs(machine, &options);
    assert_eq!(by_ids["address"], farm.job_address(1));
    let of_step = jobs(machine, &[&options[..], &["--step", &step]].concat());
    assert_eq!(
        field(&of_step, "address"),
        [&json!(farm.task_address(1, 2, 0))]
    );
    let action = Farm::action(2).to_string();
    let of_action = jobs(
        machine,
        &[&options[..], &["--session-action", &action]].concat(),
    );
    assert_eq!(field(&of_action, "manifests"), [2]);
}
