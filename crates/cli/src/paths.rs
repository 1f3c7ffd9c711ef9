//! The paths on a command line, of any verb.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

/// Options that are no paths, or whose paths are found without asking a mount: the name of a session, which may be
/// its mount point, and the command of `run`.
const NOT_ASKED: [&str; 2] = ["session", "command"];
/// What values that may be directories or addresses are called in the help.
const STORES: [&str; 3] = ["STORE", "FROM", "TO"];

/// Every path on the command line that the verb will look at or into. Some are no paths (patterns, addresses): they lead
/// nowhere.
pub(crate) fn typed(command: &Command, matches: &ArgMatches) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for arg in command.get_arguments().filter(|arg| may_be_path(arg)) {
        let id = arg.get_id().as_str();
        let was_typed = matches!(matches.try_contains_id(id), Ok(true))
            && matches.value_source(id) != Some(ValueSource::DefaultValue);
        if !was_typed {
            continue;
        }
        let mut values: Vec<&OsStr> = matches.get_raw(id).into_iter().flatten().collect();
        if has_mount_point(command, id) {
            values.pop();
        }
        found.extend(values.into_iter().flat_map(parts));
    }
    if let Some((name, matches)) = matches.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        found.extend(typed(command, matches));
    }
    found
}

/// A path from this working directory, which the process may leave.
pub(crate) fn absolute(path: PathBuf) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).context("cannot find the working directory")
}

fn may_be_path(arg: &Arg) -> bool {
    let kind = arg.get_value_parser().type_id();
    let called = arg.get_value_names().unwrap_or_default();
    !NOT_ASKED.contains(&arg.get_id().as_str())
        && (kind == TypeId::of::<PathBuf>()
            || kind == TypeId::of::<OsString>()
            || called.iter().any(|name| STORES.contains(&name.as_str())))
}

/// Whether the last of these is a mount point. The verb finds what is at it without asking it, and asks itself what it is
/// to be in.
fn has_mount_point(command: &Command, id: &str) -> bool {
    id == "paths" && matches!(command.get_name(), "mount" | "browse" | "add")
}

/// A value as a path, and the path behind its last `=`: the folder of `MANIFEST=FOLDER`.
fn parts(value: &OsStr) -> impl Iterator<Item = PathBuf> {
    let behind = value.to_str().and_then(|value| value.rsplit_once('='));
    let folder = behind.map(|(_, folder)| PathBuf::from(folder));
    std::iter::once(PathBuf::from(value)).chain(folder)
}
