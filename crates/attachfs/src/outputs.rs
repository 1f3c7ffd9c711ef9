//! The output directories that a mount declares.

use attachfs_manifest::EscapedBytes;
use attachfs_tree::{BaseTree, Ino, Kind};

use crate::error::{Doing as _, Error};
use crate::manifests::parse_path;

/// Fails unless all output directories are paths in a mount, as they are typed. An empty text is refused: it often comes
/// from a variable that was not set.
pub fn check_output_dirs(dirs: &[String]) -> Result<(), Error> {
    for dir in dirs {
        let refused = |why: &str| {
            let sentence = format!("\"{dir}\" cannot be an output directory: {why}");
            Error::usage(sentence).advise("give it as it is below the root of the mount, `frames` for example; `.` is all of it")
        };
        if dir.is_empty() {
            return Err(refused("it is no name"));
        }
        if dir.starts_with('/') {
            return Err(refused("it is not relative to the root of the mount"));
        }
        if dir.split('/').any(|name| name == "..") {
            return Err(refused("it may lead out of the mount"));
        }
        parse_path(dir).doing(|| format!("\"{dir}\" cannot be an output directory"))?;
    }
    Ok(())
}

/// Fails if one of the output directories is something else in the base, or below something else. One that is not there may come.
pub(crate) fn check_in_base(dirs: &[String], base: &BaseTree) -> Result<(), Error> {
    for dir in dirs {
        let Some(path) = parse_path(dir)? else {
            continue;
        };
        let mut at = Ino::ROOT;
        let mut end = 0;
        for name in path.components() {
            let Some(found) = base.child(at, name) else {
                break;
            };
            end += name.len();
            let place = EscapedBytes(&path.as_bytes()[..end]);
            end += 1;
            let what = match base.plain_kind(found) {
                Some(Kind::File) => "a file",
                Some(Kind::Symlink) => "a symbolic link",
                _ => {
                    at = found;
                    continue;
                }
            };
            let sentence = format!("\"{dir}\" cannot be an output directory: {place} is {what}");
            return Err(Error::usage(sentence)
                .advise("nothing could be committed from there; name a directory"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_can_never_be_an_output_directory_is_refused() {
        let check = |dir: &str| check_output_dirs(&[dir.to_owned()]);
        for dir in [".", "./", "frames", "frames/", "./a/b", "a..b"] {
            check(dir).unwrap();
        }
        for (dir, why) in [
            ("", "it is no name"),
            ("/", "not relative"),
            ("/mnt/frames", "not relative"),
            ("..", "lead out"),
            ("a/../..", "lead out"),
            ("a//b", "cannot be an output directory"),
        ] {
            let error = check(dir).unwrap_err();
            assert_eq!(error.class(), crate::FailureClass::Usage, "{dir}");
            assert!(error.to_string().contains(why), "{dir}: {error}");
        }
    }
}
