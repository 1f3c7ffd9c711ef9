//! Patterns that choose the files of a download.
//!
//! The dialect is the one of `deadline job download-output --include` (`deadline-job-attachments` 0.1.5,
//! `download.py`, `_matches_any_filter`; `deadline` 0.60.10, `_normalize_filters`). It differs from that of
//! snapshots: a pattern is compared with the whole path, the root's path included, and `*` matches slashes
//! too.
//!
//! ```text
//! *.exr             relative: the same as */*.exr, at any depth
//! renders/          everything below any directory of this name
//! /proj/renders/*   absolute: begins with a slash, a star or a drive
//! ```

use super::fnmatch::{Token, first_character, matches_tokens, tokens};

/// A choice of files by whole paths.
#[derive(Debug, Clone, Default)]
pub struct DownloadFilter {
    include: Vec<Vec<Token>>,
    exclude: Vec<Vec<Token>>,
}

impl DownloadFilter {
    /// Chooses what one of `include` matches, or everything if there is none, and none of `exclude`.
    pub fn new<P: AsRef<[u8]>>(include: &[P], exclude: &[P]) -> Self {
        let patterns = |given: &[P]| given.iter().filter_map(|p| pattern(p.as_ref())).collect();
        Self {
            include: patterns(include),
            exclude: patterns(exclude),
        }
    }

    /// Whether this chooses every path.
    pub fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether `path` is chosen. It begins with the path of its root.
    pub fn matches(&self, path: &[u8]) -> bool {
        let any =
            |patterns: &[Vec<Token>]| patterns.iter().any(|pattern| matches_tokens(pattern, path));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// A pattern in the form that is compared with whole paths; `None` if it is empty.
fn pattern(given: &[u8]) -> Option<Vec<Token>> {
    let mut text: Vec<u8> = given
        .iter()
        .map(|&byte| if byte == b'\\' { b'/' } else { byte })
        .collect();
    if text.starts_with(b"./") {
        text.drain(..2);
    }
    text.dedup_by(|next, before| *next == b'/' && *before == b'/');
    let first = text.first()?;
    let second = text.get(first_character(&text).1);
    if !matches!(first, b'/' | b'*') && second != Some(&b':') {
        text.splice(..0, *b"*/");
    }
    if text.ends_with(b"/") {
        text.push(b'*');
    }
    Some(tokens(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python 3.11 says: the patterns, the path, and whether they choose it.
    const CASES: [(&[&str], &str, bool); 22] = [
        (&["*.exr"], "/r/a/b.exr", true),
        (&["*.exr"], "/r/.hidden/.b.exr", true),
        (&["a.exr"], "/r/a.exr", true),
        (&["a.exr"], "/r/ba.exr", false),
        (&["renders/*.exr"], "/r/renders/x/y.exr", true),
        (&["renders/*.exr"], "/r/xrenders/y.exr", false),
        (&["renders/"], "/r/renders/x/y", true),
        (&["renders/"], "/r/renders", false),
        (&["/r/renders/"], "/r/renders/x", true),
        (&["/renders/"], "/r/renders/x", false),
        (&["*renders/"], "/r/my-renders/x", true),
        (&["./renders//*"], "/r/renders/x", true),
        (&["renders\\*"], "/r/renders/x", true),
        (&["C:/r/*"], "C:/r/x", true),
        (&["C:/r/*"], "/C:/r/x", false),
        (&["ä:x"], "/r/ä:x", false),
        (&["f[0-9].png"], "/r/f7.png", true),
        (&["f[!0-9].png"], "/r/f7.png", false),
        (&["A.exr"], "/r/a.exr", false),
        (&["", "./"], "/r/a", true),
        (&["b", "a"], "/r/a", true),
        (&["x?y"], "/r/x/y", true),
    ];

    #[test]
    fn patterns_of_a_download_choose_as_the_python_client_does() {
        for (patterns, path, expected) in CASES {
            let filter = DownloadFilter::new(patterns, &[]);
            assert_eq!(
                filter.matches(path.as_bytes()),
                expected,
                "{patterns:?} {path}"
            );
        }
    }

    #[test]
    fn what_is_excluded_is_taken_from_what_is_included() {
        let filter = DownloadFilter::new(&["*.exr"], &["tmp/"]);
        assert!(filter.matches(b"/r/a.exr"));
        assert!(!filter.matches(b"/r/tmp/a.exr"));
        assert!(!filter.matches(b"/r/a.png"));
        assert!(DownloadFilter::default().matches(b"/r/a"));
    }
}
