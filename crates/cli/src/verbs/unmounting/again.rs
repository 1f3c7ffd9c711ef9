//! A command line that goes on with what a command left.

use std::path::Path;

use clap::ValueEnum as _;

use crate::args::committing::OutgoingLinks;
use crate::args::unmounting::Umount;
use crate::args::{Chosen, LinkChoice, ManifestTo};

/// The options of this command, to be typed again by who goes on with it.
pub(super) struct Again {
    /// Those of the unmount.
    pub(super) umount: String,
    /// Those that say what is committed.
    pub(super) commit: String,
}

impl Again {
    pub(super) fn of(args: &Umount) -> Self {
        let mut umount = String::new();
        for (option, is_given) in [
            (" --commit", args.commit),
            (" --force", args.force),
            (" --lazy", args.lazy),
        ] {
            umount += if is_given { option } else { "" };
        }
        if args.timeout > 0 {
            umount += &format!(" --timeout {}", args.timeout);
        }
        Self {
            umount,
            commit: commit_again(&args.chosen, args.links, &args.manifest_to),
        }
    }
}

/// The options of a commit, as a shell reads them.
pub(in super::super) fn commit_again(
    chosen: &Chosen,
    links: LinkChoice,
    to: &ManifestTo,
) -> String {
    committing_again(chosen, links) + &handing_again(to)
}

/// The options that say what is committed.
fn committing_again(chosen: &Chosen, links: LinkChoice) -> String {
    let mut text = String::new();
    for (option, patterns) in [("include", &chosen.include), ("exclude", &chosen.exclude)] {
        for pattern in patterns {
            text += &said(option, Path::new(pattern));
        }
    }
    let symlinks = links.symlinks.to_possible_value();
    if let Some(value) = symlinks
        && links.symlinks != OutgoingLinks::Stop
    {
        text += &said("symlinks", Path::new(value.get_name()));
    }
    text
}

/// The options that say where the manifest goes.
fn handing_again(to: &ManifestTo) -> String {
    let output = to.output.as_deref().map(|path| said("output", path));
    let publish = to.publish.as_ref().map(ToString::to_string);
    let publish = publish.map(|key| said("publish", Path::new(&key)));
    let format = to
        .files_only()
        .then(|| said("format", Path::new("2023-03-03")));
    output.unwrap_or_default() + &publish.unwrap_or_default() + &format.unwrap_or_default()
}

/// An option with its value. One that begins as an option does is told from it by the sign.
fn said(option: &str, value: &Path) -> String {
    let word = shell_word(value);
    let is_bare = value == Path::new("-");
    let sign = if value.as_os_str().as_encoded_bytes().starts_with(b"-") && !is_bare {
        '='
    } else {
        ' '
    };
    format!(" --{option}{sign}{word}")
}

/// A path as a shell reads it.
pub(super) fn shell_word(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    match path.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        Some(text) if !text.contains(char::is_control) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => format!(
            "$'{}'",
            bytes.iter().copied().map(escaped).collect::<String>()
        ),
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c)
}

/// A byte between `$'` and `'`.
fn escaped(byte: u8) -> String {
    match byte {
        b'\'' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Verb};

    #[test]
    fn a_path_is_quoted_as_a_shell_wants_it() {
        for (path, word) in [
            ("/mnt/a-b.c", "/mnt/a-b.c"),
            ("/mnt/it's $x", r"'/mnt/it'\''s $x'"),
            ("", "''"),
            ("*.tmp", "'*.tmp'"),
            ("a\nb\u{1b}", r"$'a\x0ab\x1b'"),
        ] {
            assert_eq!(shell_word(Path::new(path)), word);
        }
    }

    #[test]
    fn the_options_of_an_unmount_are_said_again_each_once() {
        let line = [
            "attachfs",
            "umount",
            "--exclude",
            "*.tmp",
            "--exclude=-x",
            "--include",
            "a b",
            "--symlinks",
            "collapse",
            "--timeout",
            "3",
            "--force",
            "--commit",
            "-o",
            "out file",
            "--publish",
            "mine/out",
            "--format=2023-03-03",
            "/m",
        ];
        let Verb::Umount(args) = Args::try_parse_from(line).unwrap().verb else {
            panic!("not an unmount");
        };
        let again = Again::of(&args);
        assert_eq!(again.umount, " --commit --force --timeout 3");
        assert_eq!(
            again.commit,
            " --include 'a b' --exclude '*.tmp' --exclude=-x --symlinks collapse --output 'out file' --publish mine/out --format 2023-03-03"
        );
    }
}
