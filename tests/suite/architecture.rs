//! The borders between crates, held against `cargo metadata` and the source text.
//!
//! What is checked here is what the compiler does not: which way dependencies point, which one crate knows a heavy library, that
//! the pure crates stay pure, that fuser stays below `mount/`, and that what differs between platforms (`std::os`, errno, the
//! system's own libraries, `unsafe`) stays on the platform floor: `mount/`, and the platform files of `durable`. *Product* crates are those in `crates/` and
//! `mount/`; the suites, the example's renderer and `xtask` may use what they need.

mod circles;
mod locks;
mod sources;
mod workspace;

use std::collections::BTreeSet;

use sources::SourceFile;
use workspace::{Package, Workspace};

/// What a product crate may depend on, by its short name.
struct Border {
    name: &'static str,
    /// As the design lists it.
    listed: &'static [&'static str],
    /// Also used directly, to name types that a listed crate passes through. The design's list is read as closed under what lies
    /// below: `vfs` may name a manifest path because `tree`, which it is built on, is made of them. Such an edge never
    /// changes the direction, and a test holds each of these to that.
    below: &'static [&'static str],
}

const fn border(
    name: &'static str,
    listed: &'static [&'static str],
    below: &'static [&'static str],
) -> Border {
    Border {
        name,
        listed,
        below,
    }
}

const BORDERS: [Border; 16] = [
    border("manifest", &[], &[]),
    border("paths", &["manifest"], &[]),
    border("tree", &["manifest"], &[]),
    border("durable", &[], &[]),
    border("store", &["manifest", "durable"], &[]),
    border("store-s3", &["store"], &["manifest", "durable"]),
    border("fetch", &["store", "durable", "manifest"], &[]),
    border("scan", &["manifest", "durable"], &[]),
    border(
        "transfer",
        &["scan", "store", "fetch", "durable", "manifest"],
        &[],
    ),
    border("vfs", &["tree", "fetch", "durable"], &["manifest", "store"]),
    border("session", &["durable", "tree", "store"], &["manifest"]),
    border(
        "commit",
        &["vfs", "session", "transfer", "store", "durable"],
        &["tree", "fetch", "manifest", "scan"],
    ),
    border("jobs", &["manifest", "paths", "store"], &[]),
    border(
        "browse",
        &["vfs", "jobs", "fetch", "store"],
        &["tree", "manifest", "paths"],
    ),
    border("mount", &["vfs", "session"], &["durable", "tree"]),
    border("cli", &["attachfs"], &[]),
];

/// The crate of use cases, which ties all the others together; only programs stand above it.
const TOP: &str = "attachfs";

/// The crates without I/O, async, clock, environment or `unsafe`.
const PURE: [&str; 3] = ["manifest", "paths", "tree"];

/// Libraries that compute and do nothing else: all that a pure crate may use.
const PURE_LIBRARIES: [&str; 7] = [
    "icu_casemap",
    "imbl",
    "serde",
    "serde_json",
    "sha3",
    "thiserror",
    "xxhash-rust",
];

/// A heavy or platform library (`*` at the end: all that begin so) and the one product crate that knows it.
const OWNERS: [(&str, &str); 5] = [
    ("fuser", "mount"),
    ("winfsp*", "mount"),
    ("aws-*", "store-s3"),
    ("rusqlite", "scan"),
    ("clap*", "cli"),
];

/// Paths that no pure crate names.
const OUTSIDE_WORLD: [&str; 11] = [
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
];

/// The system's own libraries: `Errno`, flags, structures and calls come from them.
const PLATFORM_LIBRARIES: [&str; 5] = ["libc", "nix", "rustix", "winapi", "windows_sys"];

/// What other libraries have for one platform only.
const PLATFORM_PATHS: [&str; 7] = [
    "std::os",
    "tokio::net::unix",
    "tokio::net::windows",
    "tokio::net::UnixListener",
    "tokio::net::UnixStream",
    "tokio::signal::unix",
    "tokio::signal::windows",
];

/// Conditions of compilation that tell platforms apart.
const PLATFORM_CONDITIONS: [&str; 6] = [
    "unix",
    "windows",
    "target_env",
    "target_family",
    "target_os",
    "target_vendor",
];

/// Crates in which no file needs another one that needs it.
const WITHOUT_CIRCLES: [&str; 6] = ["attachfs", "browse", "cli", "jobs", "paths", "session"];

/// What the crate may depend on in this workspace, or nothing if the table does not know it.
fn allowed(name: &str) -> Option<BTreeSet<&'static str>> {
    if name == TOP {
        let all = BORDERS.iter().map(|border| border.name);
        return Some(all.filter(|&name| name != "cli").collect());
    }
    let border = BORDERS.iter().find(|border| border.name == name)?;
    Some(border.listed.iter().chain(border.below).copied().collect())
}

/// All that the design puts below a crate.
fn below(name: &'static str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        for border in BORDERS.iter().filter(|border| border.name == name) {
            open.extend(border.listed.iter().filter(|&&name| found.insert(name)));
        }
    }
    found
}

/// Fails with one line per broken rule.
fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn product_sources(workspace: &Workspace) -> Vec<(&Package, SourceFile)> {
    let mut all = Vec::new();
    for package in workspace.product() {
        all.extend(sources::read(&package.folder).map(|file| (package, file)));
    }
    all
}

#[test]
fn crates_depend_only_on_crates_below_them() {
    let workspace = Workspace::read();
    let mut broken = Vec::new();
    for package in workspace.product() {
        let Some(allowed) = allowed(package.short_name()) else {
            broken.push(format!(
                "{} is not in the table of borders: say there what it may depend on",
                package.name
            ));
            continue;
        };
        for needed in package.shipped_dependencies() {
            if let Some(other) = workspace.package(&needed.name)
                && !allowed.contains(other.short_name())
            {
                broken.push(format!(
                    "{} depends on {}, which the table of borders does not allow",
                    package.name, other.name
                ));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn edges_added_to_the_design_name_only_what_lay_below_already() {
    for border in &BORDERS {
        let below = below(border.name);
        for added in border.below {
            assert!(
                below.contains(added),
                "{added} is not below {} in the design",
                border.name
            );
        }
    }
}

#[test]
fn no_crate_lies_below_itself() {
    for border in &BORDERS {
        assert!(!below(border.name).contains(border.name), "{}", border.name);
    }
}

#[test]
fn files_do_not_need_each_other() {
    let workspace = Workspace::read();
    let packages = workspace.product();
    let chosen = packages.filter(|package| WITHOUT_CIRCLES.contains(&package.short_name()));
    let mut broken = Vec::new();
    for package in chosen {
        let files: Vec<_> = sources::read(&package.folder).collect();
        let circles = circles::among(&files).into_iter();
        broken.extend(circles.map(|circle| format!("{}: {circle}", package.name)));
    }
    assert_none(&broken);
}

#[test]
fn every_heavy_library_is_known_to_one_crate_only() {
    let workspace = Workspace::read();
    let mut broken = Vec::new();
    for package in workspace.product() {
        for needed in &package.dependencies {
            for (library, owner) in OWNERS {
                let matches = match library.strip_suffix('*') {
                    Some(start) => needed.name.starts_with(start),
                    None => needed.name == library,
                };
                if matches && package.short_name() != owner {
                    broken.push(format!(
                        "{} depends on {}, which only attachfs-{owner} may know",
                        package.name, needed.name
                    ));
                }
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn fuser_aws_and_clap_each_have_their_owner() {
    let workspace = Workspace::read();
    for (library, owner) in [
        ("fuser", "attachfs-mount"),
        ("aws-sdk-s3", "attachfs-store-s3"),
        ("clap", "attachfs-cli"),
    ] {
        let owner = workspace.package(owner).expect("the crate is there");
        assert!(
            owner
                .dependencies
                .iter()
                .any(|needed| needed.name == library),
            "{} does not use {library}; where did it go?",
            owner.name
        );
    }
}

#[test]
fn pure_crates_depend_only_on_pure_crates_and_libraries_without_io() {
    let workspace = Workspace::read();
    let mut broken = Vec::new();
    for package in workspace.product().filter(|package| is_pure(package)) {
        for needed in package.shipped_dependencies() {
            let pure = match workspace.package(&needed.name) {
                Some(other) => is_pure(other),
                None => PURE_LIBRARIES.contains(&needed.name.as_str()),
            };
            if !pure {
                broken.push(format!(
                    "{} is pure and depends on {}, which is not known to be",
                    package.name, needed.name
                ));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn pure_crates_name_nothing_of_the_outside_world() {
    let workspace = Workspace::read();
    let mut broken = Vec::new();
    for (_, file) in product_sources(&workspace)
        .iter()
        .filter(|(package, _)| is_pure(package))
    {
        for found in file.shipped.paths() {
            if let Some(world) = OUTSIDE_WORLD.iter().find(|world| found.reaches(world)) {
                broken.push(format!(
                    "{}: {world} in a pure crate",
                    file.place(found.line)
                ));
            }
        }
        for line in file.shipped.lines_with("async") {
            broken.push(format!("{}: async in a pure crate", file.place(line)));
        }
    }
    assert_none(&broken);
}

#[test]
fn unsafe_is_written_on_the_platform_floor_only() {
    let workspace = Workspace::read();
    let mut broken = Vec::new();
    for package in &workspace.packages {
        for file in sources::read(&package.folder) {
            if !is_on_the_floor(package, &file) {
                let lines = file.whole.lines_with("unsafe").into_iter();
                broken.extend(lines.map(|line| format!("{}: unsafe", file.place(line))));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn only_the_platform_floor_names_platforms() {
    let workspace = Workspace::read();
    let mut broken = Vec::new();
    for (package, file) in product_sources(&workspace) {
        if is_on_the_floor(package, &file) {
            continue;
        }
        for found in file.shipped.paths() {
            let Some(named) = platform_name(&found) else {
                continue;
            };
            broken.push(format!(
                "{}: {named} outside mount/ and the platform files of durable",
                file.place(found.line)
            ));
        }
        // Durable says in one place which of its platform files is built.
        if package.short_name() == "durable" {
            continue;
        }
        for (word, line) in file.shipped.conditions() {
            if PLATFORM_CONDITIONS.contains(&word.as_str()) {
                broken.push(format!(
                    "{}: the condition {word} outside mount/ and durable",
                    file.place(line)
                ));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn the_document_says_of_each_lock_what_it_protects() {
    let workspace = Workspace::read();
    let mut locks = BTreeSet::new();
    for (package, file) in product_sources(&workspace) {
        let found = locks::of(&file).into_iter();
        locks.extend(found.map(|lock| format!("{} {lock}", package.short_name())));
    }
    let text = include_str!("../../docs/architecture.md");
    let (_, section) = text.split_once("\n## Locks\n").expect("there is a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let first_cells = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let described: BTreeSet<String> = first_cells
        .map(|(name, _)| name.to_owned())
        .filter(|name| name != "lock")
        .collect();
    let missing = locks.difference(&described);
    let gone = described.difference(&locks);
    let mut broken: Vec<_> = missing
        .map(|lock| format!("not described: {lock}"))
        .collect();
    broken.extend(gone.map(|lock| format!("described, and not there: {lock}")));
    assert_none(&broken);
}

#[test]
fn only_the_platform_floor_depends_on_the_systems_libraries() {
    let workspace = Workspace::read();
    let mut broken = Vec::new();
    for package in workspace.product() {
        let name = package.short_name();
        if ["durable", "mount"].contains(&name) {
            continue;
        }
        for needed in package.shipped_dependencies() {
            let library = needed.name.replace('-', "_");
            if PLATFORM_LIBRARIES.contains(&library.as_str()) || library.starts_with("windows") {
                broken.push(format!("{} depends on {}", package.name, needed.name));
            }
            if let Some(platform) = &needed.target {
                broken.push(format!(
                    "{} depends on {} for {platform} only",
                    package.name, needed.name
                ));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn no_release_has_the_feature_testing() {
    let workspace = Workspace::read();
    let mut broken = Vec::new();
    for package in workspace.product() {
        for needed in package.shipped_dependencies() {
            if needed.features.iter().any(|feature| feature == "testing") {
                broken.push(format!(
                    "{} depends on {} with the feature testing outside of its tests",
                    package.name, needed.name
                ));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn no_product_module_has_more_than_500_lines() {
    let workspace = Workspace::read();
    let mut broken = Vec::new();
    for (_, file) in product_sources(&workspace) {
        let lines = file.shipped.last_line();
        if lines > 500 {
            broken.push(format!("{}: cut it along its subjects", file.place(lines)));
        }
    }
    assert_none(&broken);
}

#[test]
fn no_product_source_is_empty() {
    let workspace = Workspace::read();
    let mut broken = Vec::new();
    for (_, file) in product_sources(&workspace) {
        if file.whole.is_empty() {
            broken.push(format!("{}: there is no code in it", file.path.display()));
        }
    }
    assert_none(&broken);
}

/// What a path names that differs between platforms.
fn platform_name(found: &sources::NamedPath) -> Option<&'static str> {
    let first = found.segments.first()?;
    let mut libraries = PLATFORM_LIBRARIES.into_iter();
    if let Some(library) = libraries.find(|library| first == library) {
        return Some(library);
    }
    let is_std = ["std", "core"].contains(&first.as_str());
    if let Some(path) = PLATFORM_PATHS.into_iter().find(|path| found.reaches(path)) {
        Some(path)
    } else if is_std && found.segments.len() == 1 {
        // The crate itself, under another name perhaps.
        Some("all of std")
    } else if found.segments.iter().any(|segment| segment == "Errno") {
        Some("errno")
    } else {
        None
    }
}

/// Whether a file is where platforms may be told apart.
fn is_on_the_floor(package: &Package, file: &SourceFile) -> bool {
    let begins = |platform| file.module.starts_with(platform);
    match package.short_name() {
        "mount" => true,
        "durable" => ["unix", "unix.rs", "windows", "windows.rs"]
            .into_iter()
            .any(begins),
        _ => false,
    }
}

#[test]
fn fuser_is_named_below_mount_only() {
    assert_none(&named_outside_mount("fuser", |found| {
        found.reaches("fuser")
    }));
}

fn named_outside_mount(what: &str, is_it: impl Fn(&sources::NamedPath) -> bool) -> Vec<String> {
    let workspace = Workspace::read();
    let mut broken = Vec::new();
    for (package, file) in product_sources(&workspace) {
        if package.short_name() == "mount" {
            continue;
        }
        for found in file.shipped.paths().iter().filter(|found| is_it(found)) {
            broken.push(format!("{}: {what} outside mount/", file.place(found.line)));
        }
    }
    broken
}

fn is_pure(package: &Package) -> bool {
    PURE.contains(&package.short_name())
}
