//! The program itself under Wine: a folder goes into a store and comes back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::machine::{self, Prefix};
use crate::cargo::{program, shown, target};

/// What the folder holds: names of more than ASCII, an empty file, one of several objects.
fn files() -> BTreeMap<PathBuf, Vec<u8>> {
    let long = (0..300_000_u32).map(|at| (at % 251) as u8);
    [
        ("scene.blend", b"a scene".to_vec()),
        ("textures/wood \u{e4}\u{4e2d}.exr", long.collect()),
        ("textures/deep/er/empty", Vec::new()),
    ]
    .map(|(path, bytes)| (PathBuf::from(path), bytes))
    .into()
}

/// Takes the journey with the program at this path. What goes wrong is the error.
pub(super) fn take(prefix: &Prefix, built: &Path) -> Result<()> {
    let place = target().join("windows/journey");
    if place.exists() {
        fs::remove_dir_all(&place).context("cannot remove what the last run left")?;
    }
    let folder = place.join("folder");
    for (path, bytes) in files() {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(path, bytes)?;
    }
    let journey = Journey {
        prefix,
        built,
        place: &place,
    };
    let version = journey.says(0, "--version")?;
    ensure!(version.starts_with("attachfs"), "it says {version:?}");

    journey.says(
        0,
        "snapshot folder --store store --chunk-size 100000 --output scene.manifest",
    )?;
    let listed = journey.says(0, "ls --recursive scene.manifest")?;
    for path in files().keys() {
        let path = path.to_string_lossy();
        ensure!(listed.contains(&*path), "ls does not list {path}: {listed}");
    }
    journey.says(0, "inspect scene.manifest")?;
    let printed = journey.says(0, "cat --store store scene.manifest scene.blend")?;
    ensure!(printed == "a scene", "cat prints {printed:?}");
    let compared = journey.says(0, "manifest diff scene.manifest --root folder")?;
    ensure!(compared.contains("3 unchanged"), "diff says {compared}");

    let download = "download --store store scene.manifest --root back";
    journey.says(0, download)?;
    let back = read(&place.join("back"))?;
    ensure!(back == files(), "other files came back: {:?}", back.keys());
    // The same again finds all of it there.
    let again = journey.says(0, download)?;
    ensure!(again.contains("fetched    0 files"), "again: {again}");
    fs::write(place.join("back/scene.blend"), "changed")?;
    journey.says(
        0,
        &format!("{download} --conflict overwrite --include *.blend"),
    )?;
    let back = read(&place.join("back"))?;
    ensure!(back == files(), "the changed file stays");
    journey.says(0, "upload scene.manifest --root back --store second")?;
    journey.says(0, "store verify second --deep")?;
    journey.says(0, "cache verify")?;
    journey.says(0, "list")?;

    // What it cannot do yet it says, and makes nothing.
    let refused = journey.says(10, "mount --store store scene.manifest mnt")?;
    ensure!(refused.contains("no mounts yet"), "mount says {refused}");
    ensure!(!place.join("mnt").exists(), "there is a mount point");
    Ok(())
}

struct Journey<'a> {
    prefix: &'a Prefix,
    built: &'a Path,
    place: &'a Path,
}

impl Journey<'_> {
    /// What the program says with these arguments, one space between two: what it prints if it is to succeed, else what it
    /// complains of. It has to end with this code.
    fn says(&self, code: i32, arguments: &str) -> Result<String> {
        let mut command = program("wine", []);
        command.arg(self.built).args(arguments.split(' '));
        let command = self.prefix.run_with(&mut command).current_dir(self.place);
        let output = machine::unless_killed(|| {
            let output = command.output();
            let output = output.with_context(|| format!("cannot start {}", shown(command)))?;
            Ok((output.status, output))
        })?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (printed, complained) = (said(&output.stdout), said(&output.stderr));
        ensure!(
            output.status.code() == Some(code),
            "{} ended with {}: {printed}{complained}",
            shown(command),
            output.status
        );
        Ok(if code == 0 { printed } else { complained })
    }
}

/// All files of a folder.
fn read(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("no {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path)?;
                found.insert(path.strip_prefix(folder)?.to_owned(), bytes);
            }
        }
    }
    Ok(found)
}
