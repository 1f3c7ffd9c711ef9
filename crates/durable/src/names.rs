//! Converts names and paths between the bytes in manifests and the system's form.
//!
//! On Unix a name is bytes. On Windows it is UTF-16 text with rules of its own, so turning bytes into a name is a step
//! that can fail, and one that says why: a name that was silently changed would be another file's.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use crate::held::Kind;
use crate::platform;

/// A name that Windows cannot have. Characters that cannot be printed are shown escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Windows names are text.
    #[error("the name \"{0}\" is not UTF-8, as a name on Windows has to be")]
    NotText(String, #[source] std::str::Utf8Error),
    /// A separator, a wildcard, or one of the other characters with a meaning.
    #[error("the name \"{0}\" has the character {1:?}, which no name on Windows can have")]
    Character(String, char),
    /// Windows would drop it, so that two names became one.
    #[error("the name \"{0}\" ends in a dot or a space, which Windows drops")]
    Ending(String),
    /// Whatever its extension is, it names a device.
    #[error("the name \"{0}\" is that of a device on Windows")]
    Device(String),
    /// A component of a path has at most 255 UTF-16 units.
    #[error("the name \"{0}\" is longer than the 255 UTF-16 units that Windows allows")]
    Length(String),
    /// An empty name, `.` or `..`.
    #[error("\"{0}\" is no name of a file")]
    NoName(String),
}

impl From<NameError> for io::Error {
    fn from(error: NameError) -> Self {
        Self::new(io::ErrorKind::InvalidFilename, error)
    }
}

/// The longest component of a path on Windows, in UTF-16 units.
pub(crate) const LONGEST_WINDOWS_NAME: usize = 255;

/// The text of a name that can be a file's on Windows, by the rules of the Win32 documentation "Naming Files, Paths,
/// and Namespaces".
pub fn windows_name(name: &[u8]) -> Result<&str, NameError> {
    let shown = || name.escape_ascii().to_string();
    let text = std::str::from_utf8(name).map_err(|error| NameError::NotText(shown(), error))?;
    if matches!(text, "" | "." | "..") {
        return Err(NameError::NoName(shown()));
    }
    let has_meaning = |c: char| {
        matches!(
            c,
            '\0'..='\x1f' | '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*'
        )
    };
    if let Some(character) = text.chars().find(|&c| has_meaning(c)) {
        return Err(NameError::Character(shown(), character));
    }
    if text.ends_with(['.', ' ']) {
        return Err(NameError::Ending(shown()));
    }
    if is_device(text) {
        return Err(NameError::Device(shown()));
    }
    if text.encode_utf16().count() > LONGEST_WINDOWS_NAME {
        return Err(NameError::Length(shown()));
    }
    Ok(text)
}

fn is_device(text: &str) -> bool {
    let stem = text.split('.').next().unwrap_or(text).trim_end_matches(' ');
    let is = |device: &str| stem.eq_ignore_ascii_case(device);
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
        .into_iter()
        .any(is)
    {
        return true;
    }
    let Some((port, number)) = stem.char_indices().nth(3).map(|(at, _)| stem.split_at(at)) else {
        return false;
    };
    // The superscripts are digits to Windows.
    let is_number = matches!(
        number,
        "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "\u{b9}" | "\u{b2}" | "\u{b3}"
    );
    is_number
        && ["COM", "LPT"]
            .into_iter()
            .any(|device| port.eq_ignore_ascii_case(device))
}

/// The bytes of a path, which need not be text. On Windows UTF-8, but for lone surrogates, which are encoded in the
/// same manner.
pub fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// The bytes of a path with `/` between its names, as patterns and manifests have them. On Windows without the `\\?\`
/// that the system puts before a path that it has found.
pub fn slashed_bytes(path: &Path) -> Cow<'_, [u8]> {
    if std::path::MAIN_SEPARATOR == '/' {
        return path_bytes(path).into();
    }
    let bytes = path_bytes(path);
    let bytes = bytes.strip_prefix(br"\\?\").unwrap_or(bytes);
    let slashed = bytes
        .iter()
        .map(|&byte| if byte == b'\\' { b'/' } else { byte });
    slashed.collect::<Vec<u8>>().into()
}

/// The path with these bytes, as [`path_bytes`] gave them. On Windows, what is no text in bytes from elsewhere is
/// replaced (U+FFFD): such a path is for people to read. To open something, take a [`HeldDir`](crate::HeldDir),
/// which takes names as bytes and refuses those that cannot be.
pub fn path_of_bytes(bytes: impl Into<Vec<u8>>) -> PathBuf {
    platform::path_of_bytes(bytes.into())
}

/// The names in a directory, read completely or not at all.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    /// Where each name ends, and the kind that the directory lists.
    ends: Vec<(usize, Option<Kind>)>,
}

impl Names {
    /// Adds a name unless it is `.` or `..`.
    pub(crate) fn add(&mut self, name: &[u8], kind: Option<Kind>) {
        if !matches!(name, b"." | b"..") {
            self.bytes.extend_from_slice(name);
            self.ends.push((self.bytes.len(), kind));
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Each name with the kind that the directory lists: `None` on file systems that list none.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<Kind>)> {
        let mut start = 0;
        self.ends.iter().map(move |&(end, kind)| {
            let name = &self.bytes[std::mem::replace(&mut start, end)..end];
            (name, kind)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_between_the_names_of_a_path() {
        let path: PathBuf = ["a", "b", "c"].iter().collect();
        assert_eq!(*slashed_bytes(&path), *b"a/b/c");
        let dir = tempfile::tempdir().unwrap();
        let found = dir.path().canonicalize().unwrap();
        let slashed = slashed_bytes(&found).into_owned();
        assert_eq!(path_of_bytes(slashed).canonicalize().unwrap(), found);
    }

    #[test]
    fn names_that_windows_cannot_have_are_refused_with_the_rule() {
        let shown = |name: &str| name.to_owned();
        for (name, error) in [
            ("", NameError::NoName(shown(""))),
            ("..", NameError::NoName(shown(".."))),
            ("a:b", NameError::Character(shown("a:b"), ':')),
            ("a\\b", NameError::Character(shown("a\\\\b"), '\\')),
            ("a\n", NameError::Character(shown("a\\n"), '\n')),
            ("a.", NameError::Ending(shown("a."))),
            ("a ", NameError::Ending(shown("a "))),
            ("nul", NameError::Device(shown("nul"))),
            ("CON.tar.gz", NameError::Device(shown("CON.tar.gz"))),
            ("Aux .txt", NameError::Device(shown("Aux .txt"))),
            ("com1", NameError::Device(shown("com1"))),
            ("LPT\u{b9}.x", NameError::Device(shown("LPT\\xc2\\xb9.x"))),
        ] {
            assert_eq!(windows_name(name.as_bytes()), Err(error), "{name:?}");
        }
        let not_text = windows_name(b"a\xff").unwrap_err();
        assert!(
            matches!(&not_text, NameError::NotText(name, _) if *name == shown("a\\xff")),
            "{not_text}"
        );
        // 128 characters of two units each.
        let long = "\u{1f600}".repeat(128);
        let error = windows_name(long.as_bytes()).unwrap_err();
        assert!(matches!(error, NameError::Length(_)), "{error}");
    }

    #[test]
    fn names_that_only_look_like_devices_are_names() {
        let longest = "\u{e4}".repeat(255);
        for name in [
            "console",
            "com",
            "com10",
            "lpt",
            "nulls.txt",
            ".con",
            "a.nul",
            "COM\u{e4}",
            &longest,
        ] {
            assert_eq!(windows_name(name.as_bytes()), Ok(name));
        }
    }

    #[test]
    fn the_names_of_a_directory_come_back_with_their_kinds() {
        let mut names = Names::default();
        for (name, kind) in [(&b".."[..], None), (b"a", Some(Kind::Dir)), (b"bc", None)] {
            names.add(name, kind);
        }
        let all: Vec<_> = names.iter().collect();
        assert_eq!(all, [(&b"a"[..], Some(Kind::Dir)), (b"bc", None)]);
        assert_eq!((names.len(), names.is_empty()), (2, false));
    }

    #[test]
    fn a_path_and_its_bytes_are_turned_into_each_other() {
        let path = Path::new("a").join("b c");
        assert_eq!(path_of_bytes(path_bytes(&path)), path);
    }
}
