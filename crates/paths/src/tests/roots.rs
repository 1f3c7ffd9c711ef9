//! Paths of a job in groups.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::{cases, posix, strings, text, windows};
use crate::{
    AssetPaths, AssetRoots, Disk, FileSystemLocation, ForeignPath, GroupOptions, InputFaults,
    LocationType, OnDisk, OsFamily, Role, StorageProfile, group_assets,
};

/// What is on a machine: a link leads to the path in it.
#[derive(Debug, Default)]
struct Machine {
    files: Vec<ForeignPath>,
    dirs: Vec<ForeignPath>,
    links: BTreeMap<ForeignPath, ForeignPath>,
    asked: RefCell<Vec<ForeignPath>>,
}

impl Machine {
    fn resolved(&self, path: &ForeignPath) -> ForeignPath {
        for (link, target) in &self.links {
            if path.is_within(link) {
                let rest = path.relative_to(link).unwrap();
                return target.join(rest);
            }
        }
        path.clone()
    }

    fn what_is(&self, path: &ForeignPath) -> OnDisk {
        self.asked.borrow_mut().push(path.clone());
        let path = self.resolved(path);
        let is_dir = |all: &[ForeignPath]| {
            all.iter()
                .any(|other| other != &path && other.is_within(&path))
        };
        if self.files.contains(&path) {
            OnDisk::File
        } else if self.dirs.contains(&path) || is_dir(&self.files) || is_dir(&self.dirs) {
            OnDisk::Directory
        } else {
            OnDisk::Missing
        }
    }

    fn group(
        &self,
        working_dir: &ForeignPath,
        paths: &AssetPaths<&str>,
        options: &GroupOptions<'_>,
    ) -> Result<AssetRoots, InputFaults> {
        let disk = Disk {
            working_dir,
            what_is: &|path| self.what_is(path),
            resolved: &|path| self.resolved(path),
        };
        group_assets(paths, &disk, options)
    }
}

fn profile(family: OsFamily, locations: &[(&str, &str, LocationType)]) -> StorageProfile {
    let locations = locations.iter();
    StorageProfile {
        id: "sp".to_owned(),
        name: "sp".to_owned(),
        family,
        locations: locations
            .map(|&(name, path, kind)| FileSystemLocation {
                name: name.to_owned(),
                path: path.to_owned(),
                kind,
            })
            .collect(),
    }
}

fn paths<'a>(
    inputs: &[&'a str],
    outputs: &[&'a str],
    references: &[&'a str],
) -> AssetPaths<&'a str> {
    AssetPaths {
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
        references: references.to_vec(),
    }
}

fn texts(paths: &[ForeignPath]) -> Vec<&str> {
    paths.iter().map(text).collect()
}

/// The cases with a directory in the place of `$G`.
fn grouping_cases() -> Vec<Value> {
    let text = include_str!("../../../../tests/vectors/root-grouping.json");
    cases(&text.replace("$G", "/g"))
}

fn machine_of(case: &Value) -> Machine {
    let below = |list: &str| {
        let all = strings(&case[list]).into_iter();
        all.map(|path| posix("/g").join(path)).collect::<Vec<_>>()
    };
    let mut machine = Machine {
        files: below("files"),
        dirs: below("dirs"),
        ..Machine::default()
    };
    machine.files.push(posix("/etc/hostname"));
    for link in case["symlinks"].as_array().unwrap() {
        let [link, target] = strings(link)[..] else {
            panic!("{link}")
        };
        let link = posix("/g").join(link);
        let target = link.parent().join(target).normalized();
        machine.links.insert(link, target);
    }
    machine
}

#[test]
fn roots_are_those_of_the_library_of_aws() {
    let cases = grouping_cases();
    let (mut grouped, mut refused) = (0, 0);
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        let locations: Vec<_> = case["file_system_locations"]
            .as_array()
            .unwrap()
            .iter()
            .map(strings)
            .collect();
        let locations: Vec<_> = locations
            .iter()
            .map(|of| match of[2] {
                "LOCAL" => (of[0], of[1], LocationType::Local),
                "SHARED" => (of[0], of[1], LocationType::Shared),
                other => panic!("{other}"),
            })
            .collect();
        let profile = profile(OsFamily::Linux, &locations);
        let options = GroupOptions {
            profile: Some(&profile),
            require_inputs: case["require_paths_exist"].as_bool().unwrap(),
        };
        let lists = ["inputs", "outputs", "references"].map(|list| strings(&case[list]));
        let paths = paths(&lists[0], &lists[1], &lists[2]);
        let found = machine_of(case).group(&posix("/"), &paths, &options);
        if let Some(error) = case["error"].as_str() {
            let faults = found.unwrap_err();
            let expected: Vec<_> = error
                .lines()
                .filter_map(|line| line.strip_prefix('\t'))
                .collect();
            let all = [texts(&faults.missing), texts(&faults.directories)].concat();
            assert_eq!(all, expected, "{id}");
            refused += 1;
            continue;
        }
        let found = found.unwrap();
        let expected = case["groups"].as_array().unwrap();
        assert_eq!(found.roots.len(), expected.len(), "{id}");
        for (root, expected) in found.roots.iter().zip(expected) {
            assert_eq!(
                text(&root.root),
                expected["rootPath"].as_str().unwrap(),
                "{id}"
            );
            assert_eq!(
                root.location.as_deref(),
                expected["fileSystemLocationName"].as_str(),
                "{id}"
            );
            for (list, found) in [
                ("inputs", &root.inputs),
                ("outputs", &root.outputs),
                ("references", &root.references),
            ] {
                // Sorted before the directory had its place in them.
                let mut expected = strings(&expected[list]);
                expected.sort_unstable();
                assert_eq!(texts(found), expected, "{id}: {list}");
            }
        }
        let inputs: usize = found.roots.iter().map(|root| root.inputs.len()).sum();
        assert_eq!(
            Some(inputs as u64),
            case["total_input_files"].as_u64(),
            "{id}"
        );
        grouped += 1;
    }
    assert_eq!((cases.len(), grouped, refused), (20, 18, 2));
}

#[test]
fn what_is_left_out_is_named() {
    let machine = Machine {
        files: vec![posix("/sh/x"), posix("/a/y")],
        ..Machine::default()
    };
    let profile = profile(OsFamily::Linux, &[("S", "/sh", LocationType::Shared)]);
    let options = GroupOptions {
        profile: Some(&profile),
        require_inputs: false,
    };
    let paths = paths(
        &["/sh/x", "/a/y", "/sh/gone", "/a/gone"],
        &["/sh/out"],
        &["/sh/r"],
    );
    let found = machine.group(&posix("/"), &paths, &options).unwrap();
    assert_eq!(texts(&found.demoted), ["/a/gone", "/sh/gone"]);
    let skipped: Vec<_> = found
        .skipped
        .iter()
        .map(|of| (text(&of.path), of.role, &*of.location))
        .collect();
    assert_eq!(
        skipped,
        [
            ("/sh/gone", Role::Reference, "S"),
            ("/sh/out", Role::Output, "S"),
            ("/sh/r", Role::Reference, "S"),
            ("/sh/x", Role::Input, "S"),
        ]
    );
    let [root] = &found.roots[..] else {
        panic!("{found:?}")
    };
    assert_eq!(texts(&root.references), ["/a/gone"]);
}

#[test]
fn all_faults_are_told_at_once() {
    let machine = Machine {
        files: vec![posix("/a/x/y"), posix("/a/z")],
        ..Machine::default()
    };
    let options = GroupOptions {
        profile: None,
        require_inputs: true,
    };
    let paths = paths(&["/gone/2", "/a/x", "/a/z", "/gone/1", "/a"], &[], &[]);
    let faults = machine.group(&posix("/"), &paths, &options).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "these inputs cannot be used:\n  missing: /gone/1\n  missing: /gone/2\n  \
         a directory, not a file: /a\n  a directory, not a file: /a/x"
    );
    // Missing inputs alone are no fault unless they are required.
    let faults = machine
        .group(&posix("/"), &paths, &GroupOptions::default())
        .unwrap_err();
    assert_eq!((faults.missing.len(), faults.directories.len()), (0, 2));
}

#[test]
fn relative_paths_begin_at_the_working_directory() {
    let machine = Machine {
        files: vec![posix("/w/a")],
        ..Machine::default()
    };
    let paths = paths(&["a", "./a", "", "b/../a"], &["", "../out"], &[]);
    let found = machine
        .group(&posix("/w"), &paths, &GroupOptions::default())
        .unwrap();
    let [root] = &found.roots[..] else {
        panic!("{found:?}")
    };
    assert_eq!((text(&root.root), texts(&root.inputs)), ("/", vec!["/w/a"]));
    assert_eq!(root.relative_outputs().unwrap(), [b"out"]);
    // Each input once, and the root.
    assert_eq!(texts(&machine.asked.borrow()), ["/w/a", "/"]);
}

#[test]
fn a_location_holds_what_links_lead_into_it() {
    let machine = Machine {
        files: vec![posix("/data/p/x"), posix("/data/q/y")],
        links: [
            (posix("/proj"), posix("/data/p")),
            (posix("/mine"), posix("/data/q")),
        ]
        .into(),
        ..Machine::default()
    };
    let locations = [
        ("S", "/proj", LocationType::Shared),
        ("L", "/mine", LocationType::Local),
    ];
    let profile = profile(OsFamily::Linux, &locations);
    let options = GroupOptions {
        profile: Some(&profile),
        require_inputs: true,
    };
    let paths = paths(&["/proj/x", "/data/p/x", "/data/q/y"], &["/mine/out"], &[]);
    let found = machine.group(&posix("/"), &paths, &options).unwrap();
    assert_eq!(found.skipped.len(), 2);
    let [root] = &found.roots[..] else {
        panic!("{found:?}")
    };
    // The paths are as they were given: together they are below the top alone.
    assert_eq!(
        (text(&root.root), root.location.as_deref()),
        ("/", Some("L"))
    );
}

#[test]
fn a_link_in_the_path_of_a_location_is_followed_before_what_leads_up() {
    let machine = Machine {
        links: [(posix("/link"), posix("/data/p"))].into(),
        ..Machine::default()
    };
    let profile = profile(OsFamily::Linux, &[("S", "/link/..", LocationType::Shared)]);
    let options = GroupOptions {
        profile: Some(&profile),
        require_inputs: false,
    };
    let paths = paths(&[], &["/data/out", "/other"], &[]);
    let found = machine.group(&posix("/"), &paths, &options).unwrap();
    assert_eq!((found.skipped.len(), found.roots.len()), (1, 1));
}

#[test]
fn the_longest_location_has_a_path() {
    let machine = Machine {
        files: ["/l/x", "/l/m/x", "/l/m/n/x", "/lm/x"].map(posix).to_vec(),
        ..Machine::default()
    };
    let locations = ["/l", "/l/m/n", "/l/m"].map(|path| (path, path, LocationType::Local));
    let profile = profile(OsFamily::Linux, &locations);
    let options = GroupOptions {
        profile: Some(&profile),
        require_inputs: true,
    };
    let paths = paths(&["/l/x", "/l/m/x", "/l/m/n/x", "/lm/x"], &[], &[]);
    let found = machine.group(&posix("/"), &paths, &options).unwrap();
    let roots: Vec<_> = found
        .roots
        .iter()
        .map(|of| (text(&of.root), of.location.as_deref()))
        .collect();
    assert_eq!(
        roots,
        [
            ("/l", Some("/l")),
            ("/l/m", Some("/l/m")),
            ("/l/m/n", Some("/l/m/n")),
            ("/lm", None)
        ]
    );
}

#[test]
fn a_path_that_two_locations_have_belongs_to_the_last_one() {
    let locations = ["One", "Two"].map(|name| (name, "/l", LocationType::Local));
    let profile = profile(OsFamily::Linux, &locations);
    let options = GroupOptions {
        profile: Some(&profile),
        require_inputs: false,
    };
    let paths = paths(&[], &["/l/out"], &[]);
    let found = Machine::default()
        .group(&posix("/"), &paths, &options)
        .unwrap();
    assert_eq!(found.roots[0].location.as_deref(), Some("Two"));
}

#[test]
fn on_windows_each_drive_and_share_is_a_group_whatever_its_case() {
    let machine = Machine {
        files: vec![
            windows(r"C:\Show\a.ma"),
            windows(r"c:\show\tex\b.tx"),
            windows(r"\\srv\lib\c.tx"),
            windows(r"X:\Proj\d"),
        ],
        ..Machine::default()
    };
    let locations = [
        ("X", "x:/", LocationType::Local),
        ("S", r"\\SRV\shared", LocationType::Shared),
    ];
    let profile = profile(OsFamily::Windows, &locations);
    let options = GroupOptions {
        profile: Some(&profile),
        require_inputs: true,
    };
    let paths = paths(
        &[
            r"C:\Show\a.ma",
            "c:/show/tex/b.tx",
            r"\\srv\lib\c.tx",
            r"X:\Proj\d",
        ],
        &["out", r"\\srv\Shared\out", r"X:\Proj\e"],
        &[],
    );
    let found = machine
        .group(&windows(r"C:\Show"), &paths, &options)
        .unwrap();
    let roots: Vec<_> = found
        .roots
        .iter()
        .map(|of| (text(&of.root), of.location.as_deref()))
        .collect();
    assert_eq!(
        roots,
        [
            (r"C:\Show", None),
            (r"X:\Proj", Some("X")),
            (r"\\srv\lib\", None)
        ]
    );
    assert_eq!(
        texts(&found.roots[0].inputs),
        [r"C:\Show\a.ma", r"c:\show\tex\b.tx"]
    );
    assert_eq!(found.roots[0].relative_outputs().unwrap(), [b"out"]);
    assert_eq!(found.skipped.len(), 1);
}

#[test]
fn a_location_that_is_a_drive_has_what_is_on_it() {
    let machine = Machine::default();
    let profile = profile(OsFamily::Windows, &[("Z", "Z:", LocationType::Shared)]);
    let options = GroupOptions {
        profile: Some(&profile),
        require_inputs: false,
    };
    let paths = paths(&[], &[r"z:\out", r"\\?\Z:\out", r"Y:\out"], &[]);
    let found = machine.group(&windows(r"C:\"), &paths, &options).unwrap();
    assert_eq!((found.skipped.len(), found.roots.len()), (2, 1));
}

fn any_paths() -> impl Strategy<Value = Vec<String>> {
    let name = select(&["a", "b", "c d", "..", ".", "A"][..]);
    let path = prop::collection::vec(name, 0..5).prop_map(|names| names.join("/"));
    let path = (select(&["", "/", "//", "C:/", "\\\\s\\h\\"][..]), path);
    prop::collection::vec(
        path.prop_map(|(anchor, path)| anchor.to_owned() + &path),
        0..6,
    )
}

/// Whether a file is where the property below looks; anything will do.
fn is_there(path: &ForeignPath) -> bool {
    path.as_bytes().len().is_multiple_of(2)
}

proptest! {
    #[test]
    fn every_path_is_in_one_group_or_left_out(
        inputs in any_paths(),
        outputs in any_paths(),
        references in any_paths(),
        locations in prop::collection::vec((any_paths(), any::<bool>()), 0..3),
        on_windows: bool,
    ) {
        let (family, working_dir) = if on_windows {
            (OsFamily::Windows, windows(r"W:\w"))
        } else {
            (OsFamily::Linux, posix("/w"))
        };
        let locations: Vec<_> = locations
            .iter()
            .flat_map(|(paths, is_shared)| {
                let kind = if *is_shared { LocationType::Shared } else { LocationType::Local };
                let paths = paths.iter().filter(|path| !path.is_empty());
                paths.map(move |path| (path.as_str(), path.as_str(), kind))
            })
            .collect();
        let profile = profile(family, &locations);
        let disk = Disk {
            working_dir: &working_dir,
            what_is: &|path| if is_there(path) { OnDisk::File } else { OnDisk::Missing },
            resolved: &ForeignPath::clone,
        };
        let options = GroupOptions { profile: Some(&profile), require_inputs: false };
        let found = group_assets(&AssetPaths { inputs: inputs.clone(), outputs: outputs.clone(), references: references.clone() }, &disk, &options).unwrap();

        let lists = [(Role::Input, inputs), (Role::Output, outputs), (Role::Reference, references)];
        let given = lists.into_iter().flat_map(|(role, list)| list.into_iter().map(move |text| (role, text)));
        let expected: BTreeSet<_> = given
            .filter(|(_, text)| !text.is_empty())
            .map(|(role, text)| {
                let path = working_dir.join(text).normalized();
                let path = match path.as_bytes().strip_prefix(b"//") {
                    Some(rest) if !on_windows => posix("/").join(rest),
                    _ => path,
                };
                match role {
                    Role::Input if !is_there(&path) => (Role::Reference, path),
                    role => (role, path),
                }
            })
            .collect();
        let mut seen: Vec<_> = found.skipped.into_iter().map(|of| (of.role, of.path)).collect();
        for root in found.roots {
            let top = root.root;
            let all = [(Role::Input, root.inputs), (Role::Output, root.outputs), (Role::Reference, root.references)];
            for (role, paths) in all {
                prop_assert!(paths.iter().all(|path| path.is_within(&top)), "{:?} {:?}", top, paths);
                seen.extend(paths.into_iter().map(|path| (role, path)));
            }
        }
        seen.sort();
        prop_assert_eq!(seen, expected.into_iter().collect::<Vec<_>>());
    }
}
