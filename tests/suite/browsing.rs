//! `browse`: outputs of jobs as folders, through the program and the kernel.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use attachfs_test_s3::{Mishap, Rule};

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};
use crate::process::{kill_and_wait, said};

mounting_from_both_stores![
    what_tasks_made_is_shown_and_the_verbs_on_sessions_know_a_browse,
    new_outputs_appear_within_the_refresh,
    what_a_killed_browse_left_is_taken_away_by_umount_and_by_the_next_one,
    a_queue_and_lists_of_jobs_have_a_folder_for_each_job_and_inputs_and_places_come_from_documents,
    odd_names_are_shown_byte_for_byte,
    a_wrong_object_is_forgotten_once_all_of_it_was_read,
];

const HEX: &str = "0123456789abcdef0123456789abcdef";
const ROOT: &str = "/studio/film";

fn queue() -> String {
    format!("deadline://farm-{HEX}/queue-{HEX}")
}

fn job() -> String {
    format!("{}/job-{HEX}", queue())
}

/// Publishes what task `task` made in its run `run`: files with these bytes.
fn publish(machine: &Machine, task: u32, run: u32, files: &[(&str, &[u8])]) {
    let made = format!("made/{task}-{run}");
    for (name, bytes) in files {
        machine.file(format!("{made}/{name}"), bytes);
    }
    let manifest = machine.path(format!("{task}-{run}.manifest"));
    machine.ok(args![
        "snapshot",
        machine.path(&made),
        "-o",
        &manifest,
        "--store",
        machine.store()
    ]);
    let hash = attachfs_paths::output_root_hash(None, ROOT);
    let key = format!(
        "farm-{HEX}/queue-{HEX}/job-{HEX}/step-{HEX}/task-{HEX}-{task}/\
         2026-01-02T03:04:{run:02}.000000Z_sessionaction-{HEX}-{run}/{hash}_output"
    );
    machine.ok(args![
        "manifest",
        "upload",
        &manifest,
        "--store",
        machine.store(),
        "--key",
        key,
        "--asset-root",
        ROOT
    ]);
}

/// Browses the job on the directory `at`.
fn browse(machine: &Machine, options: &[&str]) -> Mount {
    machine.dir("at");
    Mount::of(&said(&mut browsing(machine, options)).with_code(0))
}

fn browsing(machine: &Machine, options: &[&str]) -> Command {
    let at = machine.path("at");
    let mut command = machine.attachfs(args!["browse", "--json", "--store", machine.store()]);
    command.args(options).arg(job()).arg(at);
    command
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn latest(browse: &Mount) -> PathBuf {
    browse.dir.join("latest/film")
}

fn what_tasks_made_is_shown_and_the_verbs_on_sessions_know_a_browse(machine: &Machine) {
    publish(machine, 0, 1, &[("out/a.exr", b"old"), ("out/b.exr", b"b")]);
    publish(machine, 0, 2, &[("out/a.exr", b"new")]);
    publish(machine, 1, 3, &[("out/c.exr", b"c")]);
    let browse = browse(machine, &[]);
    assert_eq!(names(&browse.dir), ["by-step", "by-time", "latest"]);
    assert_eq!(names(&latest(&browse).join("out")), ["a.exr", "c.exr"]);
    assert_eq!(fs::read(latest(&browse).join("out/a.exr")).unwrap(), b"new");
    let task = format!("by-step/step-{HEX}/task-{HEX}-1/film/out");
    assert_eq!(names(&browse.dir.join(task)), ["c.exr"]);
    assert_eq!(names(&browse.dir.join("by-time")).len(), 3);
    // Nobody can write.
    let out = latest(&browse).join("out");
    let refused: [std::io::Result<()>; 6] = [
        fs::write(out.join("x"), b"x"),
        fs::File::options()
            .append(true)
            .open(out.join("a.exr"))
            .map(drop),
        fs::create_dir(out.join("d")),
        fs::remove_file(out.join("a.exr")),
        fs::rename(out.join("a.exr"), out.join("z")),
        fs::set_permissions(&out, fs::metadata(&out).unwrap().permissions()),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    let listed = machine.json(args!["list"]);
    assert_eq!(listed[0]["state"], "browsing");
    assert_eq!(listed[0]["browses"], *job());
    machine
        .ok(args!["list"])
        .printing(" browsing ")
        .printing(&job());
    for named in [browse.session.clone().into(), out.into_os_string()] {
        let status = machine.json(args!["status", named]);
        assert_eq!(status["mounted"], true);
        assert_eq!(status["browses"], *job());
        assert_eq!(status["pid"], browse.pid);
        assert_eq!(status["manifests"].as_array().unwrap().len(), 0);
    }
    machine
        .ok(args!["status", &browse.dir])
        .printing(&format!("shows      {}", job()));
    for verb in ["commit", "diff"] {
        machine
            .says(args![verb, &browse.session])
            .with_code(2)
            .saying("only shows outputs of")
            .saying("nothing to commit");
    }
    machine
        .says(args!["discard", "--yes", &browse.session])
        .with_code(2)
        .saying("nothing to commit");
    machine
        .says(args!["umount", "--commit", &browse.session])
        .with_code(2)
        .saying("nothing to commit");
    for verb in ["layers", "stats", "report"] {
        machine
            .says(args![verb, &browse.session])
            .with_code(2)
            .saying("for mounts of manifests");
    }
    // Who has a file open is named, and stays until it is done.
    let mut open = fs::File::open(latest(&browse).join("out/c.exr")).unwrap();
    machine
        .says(args!["umount", &browse.dir])
        .with_code(14)
        .saying(&std::process::id().to_string());
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"c");
    drop(open);
    machine.ok(args!["umount", &browse.dir]);
    assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
    assert_eq!(machine.published(&browse.session), []);
}

fn new_outputs_appear_within_the_refresh(machine: &Machine) {
    const REFRESH: Duration = Duration::from_secs(5);
    publish(machine, 0, 1, &[("a.exr", b"old")]);
    let browse = browse(machine, &["--refresh", "5"]);
    assert_eq!(names(&latest(&browse)), ["a.exr"]);
    assert!(!latest(&browse).join("b.exr").exists());
    publish(machine, 1, 2, &[("b.exr", b"b")]);
    publish(machine, 0, 3, &[("a.exr", b"new")]);
    let published = Instant::now();
    until("the kernel sees what is new", || {
        latest(&browse).join("b.exr").exists()
            && fs::read(latest(&browse).join("a.exr")).unwrap() == b"new"
    });
    // A listing takes its time, and the machine may be busy.
    let late = REFRESH + Duration::from_secs(3);
    assert!(published.elapsed() <= late, "{:?}", published.elapsed());
    machine.ok(args!["umount", &browse.dir]);
}

fn what_a_killed_browse_left_is_taken_away_by_umount_and_by_the_next_one(machine: &Machine) {
    publish(machine, 0, 1, &[("a.exr", b"a")]);
    let first = browse(machine, &[]);
    assert_eq!(names(&latest(&first)), ["a.exr"]);
    kill_and_wait(first.pid);
    assert_eq!(machine.json(args!["list"])[0]["state"], "dead");
    let status = machine.json(args!["status", &first.dir]);
    assert_eq!(status["mounted"], false);
    assert_eq!(status["browses"], *job());
    machine
        .says(args!["commit", &first.session])
        .with_code(2)
        .saying("nothing to commit");
    let empty = machine.dir("elsewhere");
    machine
        .says(args!["mount", "--session", &first.session_dir, empty])
        .with_code(2)
        .saying("`attachfs browse` mounts them anew");
    machine.ok(args!["umount", &first.dir]);
    assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
    let second = browse(machine, &[]);
    kill_and_wait(second.pid);
    let third = said(&mut browsing(machine, &[])).with_code(0);
    assert_eq!(third.json()["had_died"], true);
    let third = Mount::of(&third.saying("its dead mount was taken away"));
    assert_eq!(names(&latest(&third)), ["a.exr"]);
    assert_eq!(machine.mounts(), std::slice::from_ref(&third.dir));
    assert_eq!(machine.sessions(), std::slice::from_ref(&third.session_dir));
    // Its mount is gone, and its session is not: `umount` takes that away too.
    kill_and_wait(third.pid);
    crate::machine::detach(&third.dir);
    assert_eq!(machine.json(args!["list"])[0]["state"], "left");
    machine.ok(args!["umount", &third.session]);
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
}

#[test]
fn a_store_that_hangs_keeps_neither_status_nor_umount() {
    Machine::mounting_from_s3(|machine| {
        publish(machine, 0, 1, &[("a.exr", b"a")]);
        let browse = browse(machine, &["--op-timeout", "5"]);
        machine.server().add(Rule::always(Mishap::Silence));
        let folder = browse.dir.join("latest");
        let looking = std::thread::spawn(move || {
            fs::read_dir(folder).and_then(|mut all| all.next().unwrap().map(drop))
        });
        machine.server().wait_for("it lists", |requests| {
            requests
                .iter()
                .any(|request| request.query.contains("list-type"))
        });
        let begun = Instant::now();
        assert_eq!(machine.json(args!["status", &browse.dir])["mounted"], true);
        machine.ok(args!["umount", "--force", &browse.dir]);
        looking.join().unwrap().unwrap_err();
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
        until("the session is gone", || machine.sessions().is_empty());
    });
}

fn a_queue_and_lists_of_jobs_have_a_folder_for_each_job_and_inputs_and_places_come_from_documents(
    machine: &Machine,
) {
    publish(machine, 0, 1, &[("a.exr", b"a")]);
    let umount = |at: &Path| drop(machine.ok(args!["umount", at]));
    let at = machine.dir("at");
    let mounted = |arguments: &[&str]| {
        let mut command = machine.attachfs(args!["browse", "--store", machine.store()]);
        said(command.args(arguments).arg(&at))
    };
    let folder = at.join(format!("job-{HEX}/latest/film"));
    mounted(&[&queue()])
        .with_code(0)
        .printing(&format!("shows      {}; `attachfs umount ", queue()));
    assert_eq!(names(&at), [format!("job-{HEX}")]);
    assert_eq!(names(&folder), ["a.exr"]);
    umount(&at);
    let other = format!("{}/job-{}", queue(), "1".repeat(32));
    let lines = machine.file("jobs", format!("{}\n{other}\n", job()));
    let json = serde_json::json!([job(), { "address": other }]);
    let json = machine.file("jobs.json", json.to_string());
    for list in [lines, json] {
        mounted(&["--jobs-from", list.to_str().unwrap()]).with_code(0);
        assert_eq!(names(&at).len(), 2);
        assert_eq!(names(&folder), ["a.exr"]);
        assert_eq!(
            names(&at.join(format!("job-{}/latest", "1".repeat(32)))),
            [""; 0]
        );
        umount(&at);
    }
    // The job was given one file below the same root, which is elsewhere here.
    machine.file("given/scene.blend", "scene");
    let manifest = machine.path("input.manifest");
    let (folder, store) = (machine.path("given"), machine.store());
    machine.ok(args![
        "snapshot", &folder, "-o", &manifest, "--store", &store
    ]);
    let key = format!("farm-{HEX}/queue-{HEX}/Inputs/1/x_input");
    let upload = args![
        "manifest", "upload", &manifest, "--store", &store, "--key", &key
    ];
    machine.ok(upload);
    let document = serde_json::json!({
        "jobId": format!("job-{HEX}"),
        "attachments": {
            "manifests": [{
                "rootPath": ROOT,
                "rootPathFormat": "posix",
                "inputManifestPath": key,
                "outputRelativeDirectories": ["."],
            }],
            "fileSystem": "COPIED",
        },
    });
    let document = machine.file("job.json", document.to_string());
    let profile = |id: &str, path: &str| {
        let profile = serde_json::json!({
            "storageProfileId": format!("sp-{}", id.repeat(32)),
            "displayName": id,
            "osFamily": "linux",
            "fileSystemLocations": [{ "name": "Studio", "path": path, "type": "LOCAL" }],
        });
        machine.file(format!("profile{id}.json"), profile.to_string())
    };
    let (there, here) = (profile("1", "/studio/film"), profile("2", "/mnt/show"));
    let rules = serde_json::json!([{
        "source_path_format": "POSIX",
        "source_path": "/studio/film",
        "destination_path": "/mnt/show",
    }]);
    let rules = machine.file("rules.json", rules.to_string());
    let profiles = [
        "--storage-profile-json",
        there.to_str().unwrap(),
        "--local-storage-profile-json",
        here.to_str().unwrap(),
    ];
    let rules = ["--path-mapping-rules", rules.to_str().unwrap()];
    for mapped in [&profiles[..], &rules[..]] {
        let mut arguments = vec!["--job-json", document.to_str().unwrap()];
        arguments.extend(mapped);
        let queue = queue();
        arguments.push(&queue);
        mounted(&arguments).with_code(0);
        assert_eq!(names(&at), ["by-step", "by-time", "inputs", "latest"]);
        assert_eq!(names(&at.join("latest/show")), ["a.exr"]);
        let scene = at.join("inputs/show/scene.blend");
        assert_eq!(fs::read(scene).unwrap(), b"scene");
        umount(&at);
    }
    for (bad, code, text) in [
        (vec!["--jobs-from", "nowhere"], 2, "nowhere"),
        (vec!["deadline://farm-1"], 2, "farm-1"),
        (vec!["here"], 2, "is no address of jobs"),
        (vec!["--refresh", "4"], 2, "--refresh"),
        (vec![], 2, "no queue and no job is named"),
    ] {
        mounted(&bad).with_code(code).saying(text);
    }
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
}

fn odd_names_are_shown_byte_for_byte(machine: &Machine) {
    let long = "ü".repeat(127);
    let odd = [
        " a\nb",
        "-rf",
        "a\\b",
        "c:d*\"?",
        "\u{1}\u{7f}",
        "e\u{301}",
        "é",
        "%41%2f",
        "deadline:",
        &long,
    ];
    let files = odd.map(|name| (name, name.as_bytes()));
    publish(machine, 0, 1, &files);
    let browse = browse(machine, &[]);
    // By name, before the kernel has a listing.
    for name in odd {
        let bytes = fs::read(latest(&browse).join(name)).unwrap();
        assert_eq!(bytes, name.as_bytes(), "{name:?}");
    }
    let mut expected = odd.map(str::to_owned);
    expected.sort();
    assert_eq!(names(&latest(&browse)), expected);
    machine.ok(args!["umount", &browse.dir]);
}

fn a_wrong_object_is_forgotten_once_all_of_it_was_read(machine: &Machine) {
    let bytes = vec![b'a'; 12 << 20];
    publish(machine, 0, 1, &[("long.exr", &bytes)]);
    let mut wrong = bytes;
    wrong[0] = b'b';
    for object in machine.objects() {
        fs::write(object, &wrong).unwrap();
    }
    let browse = browse(machine, &[]);
    let mut file = fs::File::open(latest(&browse).join("long.exr")).unwrap();
    let mut read = Vec::new();
    // Whether the last bytes still come is not promised.
    let _ = file.read_to_end(&mut read);
    assert_eq!(read.first(), Some(&b'b'));
    // The kernel had its bytes.
    until("they are forgotten", || {
        let again = file.read_at(&mut [0; 10], 0);
        again.is_err_and(|error| error.raw_os_error() == Some(5))
    });
    drop(file);
    fs::read(latest(&browse).join("long.exr")).unwrap_err();
    let log = browse.log();
    assert!(
        log.contains("wrong object") && log.contains("long.exr"),
        "{log}"
    );
    let status = machine.ok(args!["status", &browse.session]);
    status.printing("failed     ").printing("long.exr");
    let said = machine.ok(args!["umount", &browse.session]);
    let kept = machine.path(format!("state/attachfs/logs/{}.log", browse.session));
    assert!(kept.exists(), "{said:?}");
}

/// What a file manager does with a folder of frames: it lists and looks at each, and reads its beginning for a picture of it.
#[test]
fn a_file_manager_pulls_less_than_two_percent_of_long_frames() {
    const LEN: usize = 20 << 20;
    const FRAMES: u8 = 4;
    Machine::mounting_from_s3(|machine| {
        for number in 0..FRAMES {
            let frame: Vec<u8> = (0..LEN).map(|at| (at >> 12) as u8 ^ number).collect();
            let name = format!("out/frame{number}.exr");
            let task = number.into();
            publish(machine, task, task + 1, &[(&name, &frame)]);
        }
        let browse = browse(machine, &[]);
        let before = machine.server().requests().len();
        for entry in fs::read_dir(latest(&browse).join("out")).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().len(), LEN as u64);
            let mut first = vec![0; 64 << 10];
            let mut file = fs::File::open(entry.path()).unwrap();
            file.read_exact(&mut first).unwrap();
            assert_eq!(first[4096], first[0] ^ 1);
        }
        // What is fetched ahead would come after the reads that it is for.
        std::thread::sleep(Duration::from_millis(500));
        let requests = machine.server().requests();
        let of_objects = requests[before..]
            .iter()
            .filter(|request| request.path.contains("/Data/"));
        let bytes = |request: &attachfs_test_s3::Request| {
            let range = request.range.as_deref().expect("no frame is fetched whole");
            let (first, last) = range
                .strip_prefix("bytes=")
                .unwrap()
                .split_once('-')
                .unwrap();
            let number = |text: &str| text.parse::<usize>().unwrap();
            number(last) + 1 - number(first)
        };
        let pulled: usize = of_objects.map(bytes).sum();
        let all = LEN * usize::from(FRAMES);
        assert!(pulled >= usize::from(FRAMES) * (64 << 10));
        assert!(pulled * 50 < all, "{pulled} of {all} bytes");
        let status = machine.json(args!["status", &browse.dir]);
        assert_eq!(status["fetched"]["bytes"], pulled);
        machine.ok(args!["umount", &browse.dir]);
    });
}
