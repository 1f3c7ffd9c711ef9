//! Names of files that have not got their own yet.
//!
//! ```text
//!     .attachfs-<key, 32 hex digits><random, 16><check, 8>.part
//! ```
//!
//! The key says what the file is going to be, so that a later run finds what an interrupted one fetched;
//! the random digits make the name one that nobody can guess; the check digits tell such names from any
//! that somebody else made up.

use std::io;

use attachfs_durable::random_bytes;
use attachfs_manifest::ContentHash;

const BEFORE: &[u8] = b".attachfs-";
const AFTER: &[u8] = b".part";
const KEY: usize = 32;
const RANDOM: usize = 16;
const CHECK: usize = 8;

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

/// Such a name that nobody can guess.
pub(super) fn new_part_name(key: ContentHash) -> io::Result<Vec<u8>> {
    Ok(part_name(key, u64::from_le_bytes(random_bytes()?)))
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

#[cfg(test)]
mod tests {
    use super::*;

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
