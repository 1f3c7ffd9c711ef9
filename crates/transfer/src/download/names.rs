//! Names that a download makes up: of a file that is not whole yet, and of a copy.
//!
//! ```text
//!     .attachfs-<key, 32 hex digits><random, 16><check, 8>.part
//! ```
//!
//! The key says what the file is going to be, so that a later run finds what an interrupted one fetched;
//! the random digits make the name one that nobody can guess; the check digits tell such names from any
//! that somebody else made up.

use attachfs_manifest::ContentHash;

const BEFORE: &[u8] = b".attachfs-";
const AFTER: &[u8] = b".part";
const KEY: usize = 32;
const RANDOM: usize = 16;
const CHECK: usize = 8;

/// What stands before the number of a copy.
const COPY: &str = " (";
/// Of UTF-8, in bytes.
const LONGEST_CHAR: usize = 4;

fn check_digits(key_and_random: &[u8]) -> [u8; CHECK] {
    let hex = ContentHash::of(&[BEFORE, key_and_random].concat()).to_hex();
    let mut digits = [0; CHECK];
    digits.copy_from_slice(&hex[..CHECK]);
    digits
}

/// The name of a file that is not whole yet.
pub(super) fn part_name(key: ContentHash, random: u64) -> Vec<u8> {
    let inner = [&key.to_hex()[..], format!("{random:016x}").as_bytes()].concat();
    [BEFORE, &inner, &check_digits(&inner), AFTER].concat()
}

/// The key in such a name; `None` for any other name.
pub(super) fn key_of_part(name: &[u8]) -> Option<ContentHash> {
    let digits = name.strip_prefix(BEFORE)?.strip_suffix(AFTER)?;
    let (inner, check) = digits.split_at_checked(KEY + RANDOM)?;
    if check != check_digits(inner) {
        return None;
    }
    std::str::from_utf8(&inner[..KEY]).ok()?.parse().ok()
}

/// The name of copy `number` of a file: `stem (number).suffix`. What the suffix is, Python's
/// `PurePath.suffix` says (`deadline-job-attachments` 0.1.5, `_get_new_copy_file_path`): from the last
/// dot on, unless that is the first or the last character.
///
/// A name that would be longer than `longest` bytes has a shorter stem; one that is nearly all suffix is
/// shortened at its end.
pub(super) fn copy_name(name: &[u8], number: u64, longest: usize) -> Vec<u8> {
    let mark = format!("{COPY}{number})");
    let dot = name.iter().rposition(|&byte| byte == b'.');
    let dot = dot.filter(|&dot| {
        let shortest = dot.min(LONGEST_CHAR) + mark.len() + name.len() - dot;
        dot > 0 && dot + 1 < name.len() && shortest <= longest
    });
    let (stem, suffix) = name.split_at(dot.unwrap_or(name.len()));
    let room = longest.saturating_sub(mark.len() + suffix.len());
    [shortened(stem, room), mark.as_bytes(), suffix].concat()
}

/// The first bytes of a name, at most so many, without part of a character at their end.
fn shortened(name: &[u8], most: usize) -> &[u8] {
    if name.len() <= most {
        return name;
    }
    let continues = |end: &usize| name[*end] & 0b1100_0000 == 0b1000_0000;
    let end = (0..=most)
        .rev()
        .take(LONGEST_CHAR)
        .find(|end| !continues(end));
    &name[..end.unwrap_or(most)]
}

/// Whether [`copy_name`] could make this name of another. It may say so of more.
pub(super) fn may_be_copy_name(name: &[u8]) -> bool {
    name.windows(COPY.len()).any(|part| part == COPY.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_named_as_the_python_client_names_it() {
        for (name, copy) in [
            ("a.exr", "a (1).exr"),
            ("a.tar.gz", "a.tar (1).gz"),
            ("a", "a (1)"),
            ("a.", "a. (1)"),
            (".bashrc", ".bashrc (1)"),
            ("..a", ". (1).a"),
            (".a.b", ".a (1).b"),
        ] {
            assert_eq!(
                copy_name(name.as_bytes(), 1, 255),
                copy.as_bytes(),
                "{name}"
            );
            assert!(may_be_copy_name(copy.as_bytes()) && !may_be_copy_name(name.as_bytes()));
        }
        assert_eq!(copy_name(b"a.b", 12, 255), b"a (12).b");
    }

    #[test]
    fn a_copy_of_a_long_name_has_a_shorter_stem_of_whole_characters() {
        for (name, copy) in [
            ("abcdefgh.e", "abcd (1).e"),
            ("abcdefghij", "abcdef (1)"),
            ("abcä\u{f6}fgh.e", "abc (1).e"),
            ("a.bcdefghi", "a.bcde (1)"),
        ] {
            let made = copy_name(name.as_bytes(), 1, 10);
            assert_eq!(str::from_utf8(&made), Ok(copy), "{name}");
        }
        assert_eq!(copy_name(b"\x80\x80\x80\x80\x80\x80\x80", 1, 10).len(), 10);
    }

    #[test]
    fn only_a_name_that_was_made_here_is_known_again() {
        let key = ContentHash::of(b"what it will be");
        let name = part_name(key, 7);
        assert_eq!(key_of_part(&name), Some(key));
        let mut other = name.clone();
        other[BEFORE.len()] ^= 1;
        for name in [&other[..], &name[1..], b".attachfs-.part", b".attachfs-x"] {
            assert_eq!(key_of_part(name), None);
        }
    }
}
