//! Numbers of things and of bytes, as sentences have them.

use attachfs::{Account, EarlyCounts};
use indicatif::{DecimalBytes, HumanCount};

/// `7 files`, `1 file`.
pub(crate) fn count(number: u64, what: &str) -> String {
    let after_consonant = |stem: &&str| !stem.ends_with(['a', 'e', 'i', 'o', 'u']);
    let plural = match (number, what.strip_suffix('y').filter(after_consonant)) {
        (1, _) => what.to_owned(),
        (_, Some(stem)) => format!("{stem}ies"),
        (_, None) => format!("{what}s"),
    };
    format!("{} {plural}", HumanCount(number))
}

pub(crate) fn bytes(number: u64) -> String {
    DecimalBytes(number).to_string()
}

/// `; 2 objects, 17 kB, were there already`; nothing if none was.
pub(super) fn there_already(objects: u64, of_bytes: Option<u64>) -> String {
    if objects == 0 {
        return String::new();
    }
    let were = if objects == 1 { "was" } else { "were" };
    let of_bytes = of_bytes.map_or_else(String::new, |number| format!(", {},", bytes(number)));
    format!(
        "; {}{of_bytes} {were} there already",
        count(objects, "object")
    )
}

/// What a commit sent, and what was there.
pub(super) fn uploaded(account: &Account) -> String {
    let early = match account.early_bytes {
        0 if account.early_objects == 0 => String::new(),
        early => format!(", {} of that sent while the job ran", bytes(early)),
    };
    format!(
        "uploaded   {}, {}{}{early}\n",
        count(account.uploaded_objects, "object"),
        bytes(account.uploaded_bytes),
        there_already(account.present_objects, Some(account.present_bytes)),
    )
}

/// What was sent before a commit.
pub(super) fn sent_early(early: &EarlyCounts) -> String {
    format!(
        "sent early {}, {}, not committed yet; {} waiting\n",
        count(early.files, "file"),
        bytes(early.bytes),
        count(early.waiting, "file")
    )
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn a_plural_ends_in_ies_only_after_a_consonant() {
        assert_eq!(count(2, "key"), "2 keys");
        assert_eq!(count(2, "day"), "2 days");
        assert_eq!(count(2, "directory"), "2 directories");
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(count(1, "directory"), "1 directory");
        assert_eq!(count(1, "key"), "1 key");
    }
}
