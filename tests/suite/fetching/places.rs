//! Where roots go.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use serde_json::json;

use super::{HEX, Output, download, job_with, put, text};
use crate::machine::{Machine, args};
use crate::process::said;

#[test]
fn one_root_goes_into_the_folder_itself_and_several_each_into_one_of_their_own() {
    Machine::with_directory(|machine| {
        job_with(machine, &["C:\\show\\proj"]);
        machine.ok(download(machine, &["one"]));
        assert_eq!(text(machine.path("one/f")), "C:\\show\\proj");
        job_with(machine, &["C:\\show\\proj", "/mnt/Proj", "/home/me"]);
        machine.ok(download(machine, &["all"]));
        assert_eq!(text(machine.path("all/proj/f")), "C:\\show\\proj");
        assert_eq!(text(machine.path("all/Proj (mnt)/f")), "/mnt/Proj");
        assert_eq!(text(machine.path("all/me/f")), "/home/me");
        // By ids and by --root it is the same.
        let ids = args![
            "download",
            "--farm",
            format!("farm-{HEX}"),
            "--queue",
            format!("queue-{HEX}"),
            "--job",
            format!("job-{HEX}"),
            "--store",
            machine.store(),
            "--root",
            machine.path("ids")
        ];
        machine.ok(ids);
        assert_eq!(text(machine.path("ids/me/f")), "/home/me");
    });
}

#[test]
fn a_root_of_this_system_goes_to_its_own_place_only_if_somebody_says_yes() {
    Machine::with_directory(|machine| {
        let place = machine.path("place");
        job_with(machine, &[place.to_str().unwrap()]);
        let refused = machine.says(download(machine, &[])).with_code(2);
        refused
            .saying("the job itself says where its files go")
            .saying(place.to_str().unwrap());
        assert!(!place.exists());
        machine.ok(download(machine, &["--yes"]));
        assert!(place.join("f").exists());
        // What was said of it is not the job's own choice any more.
        let elsewhere = format!("{}={}", place.display(), machine.path("else").display());
        machine.ok(download(machine, &["--map-root", &elsewhere]));
        assert!(machine.path("else/f").exists());
    });
}

#[test]
fn roots_of_another_system_are_all_named_until_they_are_mapped() {
    Machine::with_directory(|machine| {
        job_with(machine, &["C:\\show\\a", "D:\\b"]);
        let refused = machine.says(download(machine, &["--yes"])).with_code(2);
        refused
            .saying("\"C:\\\\show\\\\a\", \"D:\\\\b\"")
            .saying("--map-root OLD=NEW");
        let one = format!("c:\\SHOW={}", machine.path("show").display());
        let refused = machine
            .says(download(machine, &["--map-root", &one]))
            .with_code(2);
        assert!(!refused.err.contains("show\\\\a"), "{refused:?}");
        let other = format!("D:\\b={}", machine.path("b").display());
        machine.ok(download(
            machine,
            &["--map-root", &one, "--map-root", &other],
        ));
        assert_eq!(text(machine.path("show/a/f")), "C:\\show\\a");
        assert_eq!(text(machine.path("b/f")), "D:\\b");
    });
}

#[test]
fn a_person_is_asked_for_the_place_of_a_foreign_root_and_before_the_jobs_own_paths_are_used() {
    Machine::with_directory(|machine| {
        let place = machine.path("place");
        job_with(machine, &["C:\\a", place.to_str().unwrap()]);
        let asked = machine.path("asked");
        let typed = |keys: &str, arguments: &[&str]| {
            let program = crate::programs::program("attachfs");
            let mut line = format!("'{}'", program.display());
            for argument in download(machine, arguments) {
                line += &format!(" '{}'", argument.to_str().unwrap());
            }
            let mut command = machine.command("script");
            command
                .args(["-qec", &line, "/dev/null"])
                .stdin(Stdio::piped());
            let keys_file = machine.file("keys", keys);
            command.stdin(fs::File::open(keys_file).unwrap());
            said(&mut command)
        };
        // Enter is No for the job's own paths.
        typed(&format!("{}\n\n", asked.display()), &[])
            .with_code(15)
            .printing("Nothing says where C:")
            .printing("[y/N]");
        assert!(!asked.exists() && !place.exists());
        typed(&format!("{}\ny\n", asked.display()), &[]).with_code(0);
        assert_eq!(text(asked.join("f")), "C:\\a");
        assert!(place.join("f").exists());
        // And Yes for a folder that was named.
        typed("\n", &["named"]).with_code(0).printing("[Y/n]");
        assert_eq!(text(machine.path("named/a/f")), "C:\\a");
        typed("n\n", &["not"]).with_code(15);
        assert!(!machine.path("not").exists());
    });
}

#[test]
fn two_roots_in_one_place_never_clash_silently() {
    Machine::with_directory(|machine| {
        let output = |root, run, files| Output {
            root,
            task: u32::from(root == "D:\\b"),
            run,
            files,
        };
        let both = &[("same", "same"), ("d/f", "one")];
        put(machine, &output("C:\\a", 1, both));
        put(
            machine,
            &output("D:\\b", 2, &[("same", "same"), ("d/g", "g")]),
        );
        let into = |root: &str, folder: &str| format!("{root}={}", machine.path(folder).display());
        let (one, other) = (into("C:\\a", "p"), into("D:\\b", "p"));
        let mapped = ["--map-root", &one, "--map-root", &other];
        machine.ok(download(machine, &mapped));
        assert_eq!(
            text(machine.path("p/d/f")) + &text(machine.path("p/d/g")),
            "oneg"
        );
        // Another file at one path.
        put(machine, &output("D:\\b", 3, &[("d/f", "other")]));
        let before = text(machine.path("p/d/f"));
        let refused = machine.says(download(machine, &mapped)).with_code(2);
        refused
            .saying("\"C:\\\\a\"")
            .saying("\"D:\\\\b\"")
            .saying(machine.path("p/d/f").to_str().unwrap());
        assert_eq!(text(machine.path("p/d/f")), before);
        // A link that leads to the same folder is the same folder.
        symlink("p", machine.path("link")).unwrap();
        let by_link = into("D:\\b", "link");
        let refused = download(machine, &["--map-root", &one, "--map-root", &by_link]);
        machine.says(refused).with_code(2).saying("p/d/f");
        // One in the other, where the other has the path.
        put(machine, &output("D:\\b", 4, &[("f", "other")]));
        let inside = into("D:\\b", "q/d");
        let around = into("C:\\a", "q");
        let refused = download(machine, &["--map-root", &around, "--map-root", &inside]);
        machine.says(refused).with_code(2).saying("q/d/f");
        assert!(!machine.path("q").exists());
        // A file where the other's folder is to be.
        let inside = into("D:\\b", "q/same/x");
        let refused = download(machine, &["--map-root", &around, "--map-root", &inside]);
        machine.says(refused).with_code(2).saying("q/same,");
    });
}

#[test]
fn rules_and_storage_profiles_place_roots_and_what_lies_below_them() {
    Machine::with_directory(|machine| {
        put(
            machine,
            &Output {
                root: "Z:\\show",
                task: 0,
                run: 1,
                files: &[("top", "t"), ("FX/Deep/a", "deep"), ("fx2/a", "fx2")],
            },
        );
        let at = |name: &str| machine.path(name).to_str().unwrap().to_owned();
        let rules = json!({ "version": "pathmapping-1.0", "path_mapping_rules": [
            { "source_path_format": "WINDOWS", "source_path": "z:\\SHOW", "destination_path": at("show") },
            { "source_path_format": "WINDOWS", "source_path": "Z:\\show\\fx", "destination_path": at("effects") },
        ]});
        let rules = machine.file("rules.json", rules.to_string());
        let by_rules = ["--path-mapping-rules", rules.to_str().unwrap()];
        let told = machine.json(download(machine, &by_rules));
        assert_eq!(told["processed_files"], 3);
        assert_eq!(
            text(machine.path("show/top")) + &text(machine.path("show/fx2/a")),
            "tfx2"
        );
        assert_eq!(text(machine.path("effects/Deep/a")), "deep");
        assert!(!machine.path("show/FX").exists());
        let profile = |name: &str, digit: &str, family: &str, path: &str| {
            let profile = json!({
                "storageProfileId": format!("sp-{}", digit.repeat(32)), "displayName": name,
                "osFamily": family,
                "fileSystemLocations": [{ "name": "shows", "path": path, "type": "LOCAL" }],
            });
            machine
                .file(name, profile.to_string())
                .to_str()
                .unwrap()
                .to_owned()
        };
        let theirs = profile("theirs.json", "1", "WINDOWS", "Z:\\");
        let ours = profile("ours.json", "2", "LINUX", &at("mnt"));
        let profiles = [
            "--storage-profile-json",
            &theirs,
            "--local-storage-profile-json",
            &ours,
        ];
        machine.ok(download(machine, &profiles));
        assert_eq!(text(machine.path("mnt/show/top")), "t");
        // With profiles a root that no location has is not taken to its own path.
        let place = machine.path("own");
        job_with(machine, &[place.to_str().unwrap()]);
        let mut with_yes = profiles.to_vec();
        with_yes.push("--yes");
        machine
            .says(download(machine, &with_yes))
            .with_code(2)
            .saying("/own");
        let both = ["x", "--path-mapping-rules", rules.to_str().unwrap()];
        machine
            .says(download(machine, &both))
            .with_code(2)
            .saying("a mapping is given, too");
    });
}

#[test]
fn names_that_cannot_be_here_are_listed_counted_and_have_an_exit_code_of_their_own() {
    Machine::with_directory(|machine| {
        put(
            machine,
            &Output {
                root: "C:\\a",
                task: 0,
                run: 1,
                files: &[("ok", "ok"), ("a\\b/c", "no"), ("d\\e", "no")],
            },
        );
        let told = machine.says(download(machine, &["to"])).with_code(16);
        told.printing("has a backslash")
            .printing("unmapped   2 paths in all");
        let names = fs::read_dir(machine.path("to")).unwrap();
        assert_eq!(names.count(), 1);
        let told = machine
            .says(download(machine, &["to", "--json"]))
            .with_code(16);
        assert_eq!(told.json()["unmapped"][1]["path"], "d\\\\e");
        // On Linux a backslash is a part of a name.
        put(
            machine,
            &Output {
                root: "/a",
                task: 0,
                run: 2,
                files: &[("a\\b", "yes")],
            },
        );
        machine.ok(download(machine, &["posix"]));
        assert_eq!(text(machine.path("posix/a\\b")), "yes");
    });
}

#[test]
fn a_rehearsal_says_what_goes_where_and_what_is_there_and_changes_nothing() {
    Machine::with_directory(|machine| {
        put(
            machine,
            &Output {
                root: "C:\\a",
                task: 0,
                run: 1,
                files: &[("x.exr", "12345"), ("y.exr", "123"), ("z.txt", "z")],
            },
        );
        let arguments = ["to", "--dry-run", "-i", "*.exr"];
        let told = machine.json(download(machine, &arguments));
        let place = &told["places"][0];
        assert_eq!(
            (&told["total_files"], &told["total_bytes"]),
            (&json!(2), &json!(8))
        );
        assert_eq!(place["asset_root"], "C:\\a");
        assert_eq!(place["folder"], machine.path("to").to_str().unwrap());
        assert_eq!(
            (&place["there"], &place["chosen_by"]),
            (&json!(0), &json!("user"))
        );
        assert!(!machine.path("to").exists());
        machine.ok(download(machine, &["to"]));
        machine.file("to/y.exr", "other");
        machine
            .ok(download(machine, &arguments))
            .printing("2 files, 8 B; 2 there already, 1 of another length or time");
        assert_eq!(text(machine.path("to/y.exr")), "other");
    });
}
