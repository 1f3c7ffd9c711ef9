//! What a mount tells of itself: `stats`, its live view, and the metrics.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use attachfs_manifest::ContentHash;
use attachfs_test_s3::{Mishap, Rule};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};
use crate::process::{has_ended, kill, said, stop};

mounting_from_both_stores![stats_follow_what_programs_do];

const LEN: usize = 300_000;

/// A folder with a long and a short file, and a manifest of it.
fn base(machine: &Machine) -> PathBuf {
    machine.file("input/long", "0123456789".repeat(LEN / 10));
    machine.file("input/dir/short", "a short text");
    machine.snapshot(&machine.path("input"), "base.manifest")
}

fn stats(machine: &Machine, mount: &Mount) -> Value {
    machine.json(args!["stats", &mount.dir])
}

/// The counts of an operation.
#[track_caller]
fn operation<'a>(stats: &'a Value, name: &str) -> &'a Value {
    let all = stats["operations"].as_array().unwrap();
    let found = all.iter().find(|of| of["operation"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {stats}"))
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn stats_follow_what_programs_do(machine: &Machine) {
    let manifest = base(machine);
    // What the kernel writes by itself is not counted.
    let mount = machine.mount(args!["--no-passthrough", &manifest], "mnt");
    let before = stats(machine, &mount);
    assert_eq!(before["bytes"]["read"], 0, "{before}");
    fs::read(mount.dir.join("long")).unwrap();
    fs::write(mount.dir.join("new"), "written").unwrap();
    fs::metadata(mount.dir.join("absent")).unwrap_err();
    fs::remove_file(machine.object(&ContentHash::of(b"a short text").to_string())).unwrap();
    fs::read(mount.dir.join("dir/short")).unwrap_err();
    let after = stats(machine, &mount);
    let bytes = &after["bytes"];
    assert_eq!(bytes["read"], LEN, "{after}");
    assert_eq!(bytes["read_of_base"], LEN, "{after}");
    assert_eq!(bytes["written"], 7, "{after}");
    let fetched = number(&bytes["from_store"]) - number(&before["bytes"]["from_store"]);
    assert_eq!(fetched, LEN as u64, "{after}");
    let read = operation(&after, "read");
    assert!(number(&read["count"]) >= 2, "{after}");
    assert!(number(&read["failed"]["io"]) >= 1, "{after}");
    let times = ["p50_us", "p99_us", "max_us"].map(|of| number(&read["took"][of]));
    assert!(times[0] > 0 && times.is_sorted(), "{after}");
    for name in ["lookup", "open", "write", "create"] {
        assert!(number(&operation(&after, name)["count"]) >= 1, "{after}");
    }
    assert!(number(&after["names_missing"]) >= 1, "{after}");
    let requests = &after["requests"];
    let made = |stats: &Value| number(&stats["requests"]["made"]["get"]);
    assert!(made(&after) > made(&before), "{after}");
    assert!(number(&requests["missing"]) >= 1, "{after}");
    assert!(number(&requests["first_byte"]["max_us"]) > 0, "{after}");
    assert_eq!(after["fetches"], json!({"in_flight": 0, "waiting": 0}));
    machine
        .ok(args!["stats", &mount.session])
        .printing("read       300.00 kB")
        .printing("read: io");
}

#[test]
fn a_request_that_is_made_again_is_a_retry_in_stats() {
    Machine::mounting_from_s3(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        assert_eq!(stats(machine, &mount)["requests"]["retries"], 0);
        let broken = Rule::on("GET", Mishap::Break { after: 1000 });
        machine.server().add(broken.times(1));
        fs::read(mount.dir.join("long")).unwrap();
        let after = stats(machine, &mount);
        assert_eq!(after["requests"]["retries"], 1, "{after}");
    });
}

#[test]
fn what_is_read_again_after_another_mount_comes_from_the_disk_cache_and_is_counted_so() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let first = machine.mount(args![&manifest], "mnt");
        fs::read(first.dir.join("long")).unwrap();
        machine.ok(args!["umount", &first.dir]);
        // Then all of it is written.
        until("the process ends", || has_ended(first.pid));
        let second = machine.mount(args!["--no-passthrough", &manifest], "mnt");
        fs::read(second.dir.join("long")).unwrap();
        let stats = stats(machine, &second);
        assert_eq!(stats["bytes"]["from_disk"], LEN, "{stats}");
        assert_eq!(stats["bytes"]["read"], LEN, "{stats}");
    });
}

#[test]
fn a_fetch_that_the_store_does_not_answer_is_under_way() {
    Machine::mounting_from_s3(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        machine.server().add(Rule::on("GET", Mishap::Hold));
        let long = mount.dir.join("long");
        let reader = std::thread::spawn(move || fs::read(long));
        until("the fetch is under way", || {
            let stats = stats(machine, &mount);
            number(&stats["fetches"]["in_flight"]) > 0 && number(&stats["operations_under_way"]) > 0
        });
        machine.server().heal();
        reader.join().unwrap().unwrap();
        let stats = stats(machine, &mount);
        assert_eq!(stats["fetches"]["in_flight"], 0, "{stats}");
    });
}

#[test]
fn stats_name_the_processes_that_have_a_file_open() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let held = File::open(mount.dir.join("dir/short")).unwrap();
        let stats_then = stats(machine, &mount);
        assert_eq!(stats_then["open_file_count"], 1);
        let open = &stats_then["open_files"][0];
        assert_eq!(open["path"], "dir/short");
        assert_eq!((&open["handles"], &open["writers"]), (&json!(1), &json!(0)));
        let me = std::process::id();
        let has_it = |process: &Value| process["pid"] == me;
        let processes = open["processes"].as_array().unwrap();
        assert!(processes.iter().any(has_it), "{stats_then}");
        machine
            .ok(args!["stats", &mount.dir])
            .printing("dir/short, by ")
            .printing(&format!("({me})"));
        drop(held);
        until("the file is closed", || {
            stats(machine, &mount)["open_file_count"] == 0
        });
    });
}

#[test]
fn stats_of_a_session_that_is_not_mounted_are_a_usage_error() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        machine.ok(args!["umount", &mount.dir]);
        let refused = machine.says(args!["stats", &mount.session]).with_code(2);
        refused.saying("is not mounted");
    });
}

#[test]
fn stats_of_a_process_that_is_stopped_end() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        assert!(stop(mount.pid));
        let refused = machine.says(args!["stats", &mount.session]).with_code(14);
        refused.saying("does not answer");
        kill(mount.pid, Signal::CONT);
        machine.ok(args!["stats", &mount.session]);
    });
}

#[test]
fn stats_that_are_watched_by_a_program_are_an_object_a_line_until_the_mount_ends() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let mut watch =
            machine.start(machine.attachfs(args!["stats", "--watch", "--json", &mount.dir]));
        watch.wait_for_output("}\n");
        fs::read(mount.dir.join("long")).unwrap();
        watch.wait_for_output("\"read\":300000");
        machine.ok(args!["umount", &mount.dir]);
        let ended = watch.wait().with_code(0);
        let lines = ended.out.lines().map(serde_json::from_str::<Value>);
        assert!(lines.map(Result::unwrap).count() >= 2, "{ended:?}");
    });
}

/// The command with a terminal of 100 columns and 40 lines around it, whose keys come from its standard input.
fn on_a_terminal(machine: &Machine, mount: &Mount) -> std::process::Command {
    let program = crate::programs::program("attachfs");
    let run = format!(
        "stty rows 40 cols 100; '{}' stats --watch '{}'; echo \"exit $?\"; stty -a",
        program.display(),
        mount.dir.display()
    );
    let mut command = machine.command("script");
    command
        .args(["--quiet", "--flush", "--command", &run, "/dev/null"])
        .env("TERM", "xterm-256color")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped());
    command
}

/// What a terminal does to show another screen, and to show the old one again.
const OTHER_SCREEN: &str = "\x1b[?1049h";
const OLD_SCREEN: &str = "\x1b[?1049l";

#[test]
fn the_live_view_is_drawn_on_a_terminal_and_gives_it_back() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let held = File::open(mount.dir.join("dir/short")).unwrap();
        for key in ["q", "\x03"] {
            let mut view = machine.start(on_a_terminal(machine, &mount));
            view.wait_for_output(OTHER_SCREEN);
            view.wait_for_output("operations");
            // Blanks are not drawn over blanks.
            view.wait_for_output("dir/short,");
            view.wait_for_output("quits");
            view.type_keys(key);
            view.wait_for_output("exit 0");
            let ended = view.wait().with_code(0);
            let (_, after) = ended.out.rsplit_once(OLD_SCREEN).unwrap();
            // Lines are edited and keys are echoed as before.
            assert!(
                after.contains(" icanon") && after.contains(" echo "),
                "{after}"
            );
        }
        drop(held);
    });
}

#[test]
fn the_live_view_ends_with_its_mount() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let mut view = machine.start(on_a_terminal(machine, &mount));
        view.wait_for_output("quits");
        machine.ok(args!["umount", &mount.dir]);
        view.wait_for_output("exit 0");
        assert!(view.wait().out.contains(OLD_SCREEN));
    });
}

/// An answer over HTTP: its head and its body.
fn ask(address: &str, request: &str) -> (String, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

/// Host and port of `http://127.0.0.1:9400/metrics`.
fn address_of(url: &Value) -> String {
    let url = url.as_str().unwrap().strip_prefix("http://").unwrap();
    url.strip_suffix("/metrics").unwrap().to_owned()
}

/// The samples of a text in Prometheus' format, each held against the type that the text says of its metric.
fn samples(address: &str) -> Vec<(String, f64)> {
    let (head, body) = ask(
        address,
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n",
    );
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    let mut types: Vec<(&str, &str)> = Vec::new();
    let mut found = Vec::new();
    for line in body.lines() {
        if let Some(said) = line.strip_prefix("# TYPE ") {
            types.push(said.split_once(' ').unwrap());
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let metric = name.split('{').next().unwrap();
        let (of, kind) = types.last().unwrap();
        let is_of = match *kind {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| metric.strip_suffix(end) == Some(of)),
            "counter" => metric == *of && metric.ends_with("_total"),
            "gauge" => metric == *of,
            other => panic!("{other}"),
        };
        assert!(is_of, "{line} after {of} {kind}");
        assert!(metric.starts_with("attachfs_"), "{line}");
        found.push((name.to_owned(), value.parse().unwrap()));
    }
    found
}

#[track_caller]
fn sample(samples: &[(String, f64)], name: &str) -> f64 {
    let found = samples.iter().find(|(of, _)| of == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {samples:#?}"))
        .1
}

#[expect(clippy::float_cmp, reason = "they count whole things")]
#[test]
fn metrics_are_as_prometheus_reads_them_and_follow_what_is_read() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(args!["--metrics-addr", "127.0.0.1:0", &manifest], "mnt");
        let url = machine.json(args!["status", &mount.dir])["metrics"].clone();
        assert_eq!(stats(machine, &mount)["metrics"], url);
        let address = address_of(&url);
        let before = samples(&address);
        assert_eq!(sample(&before, "attachfs_read_bytes_total"), 0.0);
        fs::read(mount.dir.join("long")).unwrap();
        let held = File::open(mount.dir.join("dir/short")).unwrap();
        let after = samples(&address);
        let is = |name: &str| sample(&after, name);
        assert_eq!(is("attachfs_read_bytes_total"), LEN as f64);
        assert_eq!(is("attachfs_open_files"), 1.0);
        let store = "attachfs_source_bytes_total{source=\"store\"}";
        assert_eq!(is(store) - sample(&before, store), LEN as f64);
        let requests = "attachfs_store_requests_total{kind=\"get\"}";
        assert!(is(requests) > sample(&before, requests));
        let reads = is("attachfs_operation_duration_seconds_count{operation=\"read\"}");
        let all = "attachfs_operation_duration_seconds_bucket{operation=\"read\",le=\"+Inf\"}";
        assert!(reads >= 1.0);
        assert_eq!(is(all), reads);
        assert!(is("attachfs_operation_duration_seconds_sum{operation=\"read\"}") > 0.0);
        // Nothing that a job or a manifest names is in a label.
        assert!(
            !after
                .iter()
                .any(|(name, _)| name.contains("short") || name.contains("mnt"))
        );
        drop(held);
        let post = "POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
        assert!(ask(&address, post).0.starts_with("http/1.1 405"));
        let other = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert!(ask(&address, other).0.starts_with("http/1.1 404"));
        machine.ok(args!["umount", &mount.dir]);
        until("nobody answers", || TcpStream::connect(&address).is_err());
    });
}

#[test]
fn clients_of_the_metrics_that_say_nothing_keep_no_read_waiting() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(args!["--metrics-addr", "127.0.0.1:0", &manifest], "mnt");
        let address = address_of(&stats(machine, &mount)["metrics"]);
        let silent: Vec<_> = (0..32)
            .map(|_| TcpStream::connect(&address).unwrap())
            .collect();
        assert_eq!(fs::read(mount.dir.join("long")).unwrap().len(), LEN);
        assert_eq!(stats(machine, &mount)["bytes"]["read"], LEN);
        machine.ok(args!["umount", &mount.dir]);
        drop(silent);
    });
}

#[test]
fn metrics_that_other_machines_could_read_are_refused() {
    let machine = |machine: &Machine| {
        let manifest = base(machine);
        for open in ["0.0.0.0:0", "192.168.7.7:9400", "[::]:0"] {
            let mut mount = machine.mounting(args!["--metrics-addr", open, &manifest], "mnt");
            let refused = said(&mut mount).with_code(2);
            refused.saying("only loopback addresses are taken");
            assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
        }
    };
    Machine::mounting_from_directory(machine);
}

#[test]
fn a_mount_whose_metrics_cannot_be_had_is_not_made() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let mut mount = machine.mounting(args!["--metrics-addr", &address, &manifest], "mnt");
        let refused = said(&mut mount).with_code(1);
        refused.saying(&format!("cannot give metrics at {address}"));
        assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
        assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
    });
}

#[test]
fn a_command_that_is_run_can_see_the_stats_and_metrics_of_its_mount() {
    Machine::mounting_from_directory(|machine| {
        base(machine);
        let program = crate::programs::program("attachfs");
        let stats = machine.path("stats.json");
        let script = format!(
            "cat long >/dev/null && '{}' stats --json . >'{}'",
            program.display(),
            stats.display()
        );
        machine.ok(args![
            "run",
            "--manifest",
            machine.path("base.manifest"),
            "--store",
            machine.store(),
            "--metrics-addr",
            "127.0.0.1:0",
            "--",
            "sh",
            "-c",
            script,
        ]);
        let stats: Value = serde_json::from_slice(&fs::read(Path::new(&stats)).unwrap()).unwrap();
        assert_eq!(stats["bytes"]["read"], LEN, "{stats}");
        assert!(address_of(&stats["metrics"]).starts_with("127.0.0.1:"));
    });
}
