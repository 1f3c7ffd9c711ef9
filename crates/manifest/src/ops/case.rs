//! Names that Windows or a disk that ignores case cannot hold.
//!
//! Manifests are made on Linux, where names are bytes and their case counts, and read elsewhere.
//! Each name is reported once, at its own entry: a bad directory name is not repeated for
//! everything in the directory.
//!
//! Sources: Microsoft, "Naming Files, Paths, and Namespaces" (reserved names and characters, trailing
//! dots and spaces) and "Maximum Path Length Limitation".

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use crate::path::{PathRef, folded, parent_of, utf16_units};
use crate::{ManifestPath, Snapshot};

/// How many UTF-16 units a path may have on Windows with the NUL that ends it (`MAX_PATH`).
const MAX_PATH: usize = 260;

/// What the report takes into account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaseOptions {
    /// How many UTF-16 units will stand before the paths: 8 for `C:\work\`.
    pub prefix_units: usize,
}

/// A name that Windows or a disk that ignores case cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadName {
    /// The entry whose name it is.
    pub path: ManifestPath,
    /// Why.
    pub problem: NameProblem,
}

/// Why such a name cannot be held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// Another name in the directory differs only in case (Unicode's simple case folding).
    #[error("differs from \"{other}\" only in case")]
    Case {
        /// The other one, which comes first.
        other: ManifestPath,
    },
    /// The name of a device, with or without an extension.
    #[error("is the name of a device on Windows")]
    Reserved,
    /// Windows takes such names for the name without it.
    #[error("ends in a dot or a space, which Windows drops")]
    TrailingDotOrSpace,
    /// One of `< > : " | ? * \`, or a control character.
    #[error("has the character {0:?}, which Windows does not allow")]
    Character(char),
    /// Longer than `MAX_PATH` with the prefix and the NUL at the end.
    #[error("is a path of {units} UTF-16 units on Windows, at most 260 are possible")]
    TooLong {
        /// With the prefix and the NUL.
        units: usize,
    },
    /// Bytes that are not UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
}

/// Whether Windows takes a name for a device: it looks at what stands before the first dot, without
/// the spaces at its end.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.trim_end_matches(' ');
    let is = |device: &str| stem.eq_ignore_ascii_case(device);
    if ["CON", "PRN", "AUX", "NUL"].into_iter().any(is) {
        return true;
    }
    let mut chars = stem.chars();
    let (Some(number), port) = (chars.next_back(), chars.as_str()) else {
        return false;
    };
    matches!(number, '1'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}')
        && ["COM", "LPT"]
            .into_iter()
            .any(|device| port.eq_ignore_ascii_case(device))
}

fn is_illegal(c: char) -> bool {
    // Windows allows DEL and the C1 controls.
    c < ' ' || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\')
}

/// Names in one directory that differ only in case, each with the first of its spellings.
fn clashes(snapshot: &Snapshot) -> Vec<BadName> {
    let table = snapshot.table();
    let random = RandomState::new();
    let mut hashes: Vec<(u64, usize)> = (0..table.len())
        .map(|index| {
            let path = table.path(index);
            let mut hasher = random.build_hasher();
            hasher.write(parent_of(path.as_bytes()).unwrap_or_default());
            hasher.write_u8(b'/');
            if path.name().is_ascii() {
                for byte in path.name() {
                    hasher.write_u8(byte.to_ascii_lowercase());
                }
                hasher.write_u8(0);
            } else {
                for c in folded(path.name()) {
                    hasher.write_u32(c);
                }
            }
            (hasher.finish(), index)
        })
        .collect();
    hashes.sort_unstable();
    let mut bad_names = Vec::new();
    let same = |a: PathRef<'_>, b: PathRef<'_>| {
        parent_of(a.as_bytes()) == parent_of(b.as_bytes()) && folded(a.name()).eq(folded(b.name()))
    };
    for group in hashes.chunk_by(|a, b| a.0 == b.0) {
        for (at, &(_, index)) in group.iter().enumerate().skip(1) {
            let path = table.path(index);
            let before = group[..at].iter().map(|&(_, index)| table.path(index));
            if let Some(other) = before.into_iter().find(|&other| same(other, path)) {
                bad_names.push(BadName {
                    path: path.to_owned(),
                    problem: NameProblem::Case {
                        other: other.to_owned(),
                    },
                });
            }
        }
    }
    bad_names
}

/// What is wrong with an entry, whatever the others are.
fn problems(path: PathRef<'_>, options: CaseOptions) -> impl Iterator<Item = NameProblem> {
    let text = std::str::from_utf8(path.name());
    let of_name = match text {
        Err(_) => [Some(NameProblem::NotUtf8), None, None],
        Ok(name) => [
            is_reserved(name).then_some(NameProblem::Reserved),
            name.ends_with(['.', ' '])
                .then_some(NameProblem::TrailingDotOrSpace),
            name.chars()
                .find(|&c| is_illegal(c))
                .map(NameProblem::Character),
        ],
    };
    let before = options.prefix_units.saturating_add(1);
    // No text has more UTF-16 units than bytes.
    let may_be_long = before.saturating_add(path.as_bytes().len()) > MAX_PATH;
    let units = || before.saturating_add(utf16_units(path.as_bytes()).count());
    let too_long = may_be_long
        .then(units)
        .filter(|&units| units > MAX_PATH)
        .map(|units| NameProblem::TooLong { units });
    of_name.into_iter().chain([too_long]).flatten()
}

/// Every name of a snapshot that Windows, or a disk that ignores case, cannot hold, in the order of
/// the paths. Of several forbidden characters the first is reported.
pub fn case_report(snapshot: &Snapshot, options: CaseOptions) -> Vec<BadName> {
    let mut bad_names = clashes(snapshot);
    for (path, _) in snapshot.entries() {
        bad_names.extend(problems(path, options).map(|problem| BadName {
            path: path.to_owned(),
            problem,
        }));
    }
    bad_names.sort_by(|a, b| a.path.cmp(&b.path));
    bad_names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChunkSize;
    use crate::testing::{dir, file, path, snapshot};

    fn report(paths: &[&[u8]]) -> Vec<String> {
        let entries = paths
            .iter()
            .map(|bytes| (ManifestPath::new(bytes).unwrap(), file(1)));
        let tree = Snapshot::new(ChunkSize::DEFAULT, None, entries).unwrap();
        let bad_names = case_report(&tree, CaseOptions::default());
        let shown = bad_names
            .iter()
            .map(|BadName { path, problem }| format!("{path} {problem}"));
        shown.collect()
    }

    #[test]
    fn names_that_differ_only_in_case_are_found_in_their_directory() {
        let found = report(&[
            b"d/Readme",
            b"d/README",
            b"d/readme",
            b"e/readme",
            "d/\u{c9}t\u{e9}".as_bytes(),
            "d/\u{e9}T\u{c9}".as_bytes(),
        ]);
        assert_eq!(
            found,
            [
                "d/Readme differs from \"d/README\" only in case",
                "d/readme differs from \"d/README\" only in case",
                "d/\u{e9}T\u{c9} differs from \"d/\u{c9}t\u{e9}\" only in case",
            ]
        );
    }

    #[test]
    fn a_clash_of_directories_is_one_finding() {
        let found = report(&[b"D/a", b"D/b", b"d/a", b"d/b"]);
        assert_eq!(found, ["d differs from \"D\" only in case"]);
    }

    #[test]
    fn names_of_devices_are_found_with_and_without_extension() {
        for name in [
            "CON",
            "nul.txt",
            "Aux.a.b",
            "com1",
            "LPT9.x",
            "COM\u{b2}",
            "prn ",
            "NUL .x",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in [
            "CONSOLE", "xcon", "com", "COM10", "com0", "a.con", ".con", "", "null",
        ] {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn names_that_windows_cannot_hold_are_found_where_they_stand() {
        let found = report(&[
            b"a:b/c",
            b"dot.",
            b"space ",
            b"t\tb",
            b"q?*",
            b"back\\slash",
            b"ok \x7f",
            b"\xff",
        ]);
        assert_eq!(
            found,
            [
                "a:b has the character ':', which Windows does not allow",
                "back\\\\slash has the character '\\\\', which Windows does not allow",
                "dot. ends in a dot or a space, which Windows drops",
                "q?* has the character '?', which Windows does not allow",
                "space  ends in a dot or a space, which Windows drops",
                "t\\tb has the character '\\t', which Windows does not allow",
                "\\xff is not UTF-8",
            ]
        );
    }

    #[test]
    fn a_path_is_too_long_with_what_stands_before_it_and_its_nul() {
        let name = "\u{e9}".repeat(120);
        let long = format!("{name}/{}", "a".repeat(130));
        let tree = snapshot([(long.as_str(), dir())]);
        let found = |prefix_units| case_report(&tree, CaseOptions { prefix_units });
        assert_eq!(found(8), []);
        assert_eq!(
            found(9),
            [BadName {
                path: path(&long),
                problem: NameProblem::TooLong { units: 261 },
            }]
        );
    }
}
