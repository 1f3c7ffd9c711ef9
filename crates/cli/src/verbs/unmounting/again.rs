//! A command line that goes on with what a command left.

use std::path::Path;

use clap::ValueEnum as _;

use crate::args::committing::OutgoingLinks;
use crate::args::unmounting::Umount;
use crate::args::{Chosen, LinkChoice};

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
            commit: committing_again(&args.chosen, args.links),
        }
    }
}

/// The options that say what is committed, as a shell reads them.
fn committing_again(chosen: &Chosen, links: LinkChoice) -> String {
    let mut text = String::new();
    for (option, patterns) in [("include", &chosen.include), ("exclude", &chosen.exclude)] {
        for pattern in patterns {
            text += &format!(" --{option} {}", shell_word(Path::new(pattern)));
        }
    }
    let symlinks = links.symlinks.to_possible_value();
    if let Some(value) = symlinks
        && links.symlinks != OutgoingLinks::Stop
    {
        text += &format!(" --symlinks {}", value.get_name());
    }
    text
}

/// A path as a shell reads it.
pub(super) fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_as_a_shell_wants_it() {
        assert_eq!(shell_word(Path::new("/mnt/a-b.c")), "/mnt/a-b.c");
        assert_eq!(shell_word(Path::new("/mnt/it's $x")), r"'/mnt/it'\''s $x'");
    }
}
