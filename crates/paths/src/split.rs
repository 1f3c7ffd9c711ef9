//! Where the anchor of a path ends and its components begin.
//!
//! ```text
//!              drive              root   components
//!     /a/b     -                  /      a, b
//!     //a/b    -                  //     a, b         two slashes, no more and no fewer, are a root of their own to POSIX
//!     C:\a     C:                 \      a
//!     C:a      C:                 -      a            relative to where somebody is on that drive
//!     \a       -                  \      a
//!     \\s\h\a  \\s\h              \      a            a share
//!     \\?\C:\a \\?\C:             \      a
//! ```
//! As `PurePosixPath` and `PureWindowsPath` of Python 3.11 do it; later ones read some of what no system can open
//! differently (`\\s` without a share is a drive to them).

use std::borrow::Cow;

use crate::PathFormat;

/// A path that was taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split<'a> {
    /// `C:` or `\\server\share`; empty if there is none.
    pub(crate) drive: Cow<'a, [u8]>,
    /// `/`, `//` or `\`; empty for a path that is relative.
    pub(crate) root: &'static [u8],
    /// What is left: components and separators.
    pub(crate) rest: &'a [u8],
}

impl<'a> Split<'a> {
    pub(crate) fn of(format: PathFormat, text: &'a [u8]) -> Self {
        match format {
            PathFormat::Posix => posix(text),
            PathFormat::Windows => windows(text),
        }
    }

    /// Drive and root in one.
    pub(crate) fn anchor(&self) -> Cow<'_, [u8]> {
        if self.root.is_empty() {
            Cow::Borrowed(&self.drive)
        } else if self.drive.is_empty() {
            Cow::Borrowed(self.root)
        } else {
            Cow::Owned([&self.drive, self.root].concat())
        }
    }
}

/// The components of what a [`Split`] leaves.
pub(crate) fn components(format: PathFormat, rest: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    rest.split(move |&byte| format.separates(byte))
        .filter(|component| !matches!(*component, b"" | b"."))
}

fn posix(text: &[u8]) -> Split<'_> {
    let slashes = text.iter().take_while(|&&byte| byte == b'/').count();
    Split {
        drive: Cow::Borrowed(b""),
        root: match slashes {
            0 => b"",
            2 => b"//",
            _ => b"/",
        },
        rest: &text[slashes..],
    }
}

fn windows(text: &[u8]) -> Split<'_> {
    let separates = |at: usize| {
        let byte = text.get(at);
        byte.is_some_and(|&byte| PathFormat::Windows.separates(byte))
    };
    // What begins with `\\?\` goes past the rules of Windows for names; what is behind it is read as any path.
    let is_extended = separates(0) && separates(1) && text.get(2) == Some(&b'?') && separates(3);
    // The beginning that belongs to the drive whatever follows, and where the path behind it begins.
    let (prefix, start) = match is_extended {
        false => (0, 0),
        // `\\?\UNC\server\share`: the C stands where the first of the two separators would be.
        true if text[4..].starts_with(b"UNC") && separates(7) => (7, 6),
        true => (4, 4),
    };
    let is_double = start == 6 || separates(start);
    if is_double
        && separates(start + 1)
        && !separates(start + 2)
        && let Some(end) = end_of_share(text, start)
    {
        // Behind a prefix there is one separator, not two.
        let from = if prefix == 0 { 0 } else { start + 1 };
        return Split {
            drive: with_backslashes(&text[..prefix], &text[from..end]),
            root: b"\\",
            rest: text.get(end + 1..).unwrap_or_default(),
        };
    }
    let mut end = start.max(prefix);
    if start != 6
        && text.get(end).is_some_and(u8::is_ascii_alphabetic)
        && text.get(end + 1) == Some(&b':')
    {
        end += 2;
    }
    Split {
        drive: with_backslashes(b"", &text[..end]),
        root: if separates(end) { b"\\" } else { b"" },
        rest: &text[end..],
    }
}

/// Where `\\server\share` ends that begins at `start`; `None` if it is none.
fn end_of_share(text: &[u8], start: usize) -> Option<usize> {
    let next = |from: usize| {
        let found = text.get(from..)?.iter();
        let at = found
            .clone()
            .position(|&byte| PathFormat::Windows.separates(byte))?;
        Some(from + at)
    };
    let server = next(start + 2)?;
    match next(server + 1) {
        Some(share) if share == server + 1 => None,
        Some(share) => Some(share),
        None => Some(text.len()),
    }
}

fn with_backslashes<'a>(one: &'a [u8], other: &'a [u8]) -> Cow<'a, [u8]> {
    if one.is_empty() && !other.contains(&b'/') {
        return Cow::Borrowed(other);
    }
    let bytes = one.iter().chain(other);
    let written = bytes.map(|&byte| if byte == b'/' { b'\\' } else { byte });
    Cow::Owned(written.collect())
}
