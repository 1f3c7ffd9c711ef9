//! Where a path is, for the question whether somebody has allowed it.
//!
//! This is another reading than a [`ForeignPath`]'s: `..` is left out with what is before it, a server has all its shares,
//! `\\?\C:\a` is `C:\a`, and `//a` is `/a`. So does `client/_path_utils.py` of AWS's client, which calls it containment.
//! What cannot be understood lies in no other place.
//!
//! [`ForeignPath`]: crate::ForeignPath

use std::borrow::Cow;

use attachfs_manifest::FoldedName;

use crate::PathFormat;
use crate::split::Split;

/// A place on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// What the parts are below: `/`, `C:\`, `\\` for shares; empty if the path is relative.
    space: Vec<u8>,
    parts: Vec<Vec<u8>>,
    format: PathFormat,
}

/// What a place is compared and sorted by: its space and its parts, without case where that does not count.
pub(crate) type PlaceKey = Vec<Vec<u8>>;

const SHARES: &[u8] = br"\\";
const EXTENDED: &[u8] = br"\\?\";
const DEVICE: &[u8] = br"\\.\";

impl Place {
    pub(crate) fn of(format: PathFormat, text: &[u8]) -> Self {
        match format {
            PathFormat::Posix => {
                let split = Split::of(format, text);
                let space = if split.root.is_empty() {
                    b""
                } else {
                    &b"/"[..]
                };
                Self::new(format, space.to_vec(), split.rest, 0)
            }
            PathFormat::Windows => Self::on_windows(text),
        }
    }

    fn on_windows(text: &[u8]) -> Self {
        let format = PathFormat::Windows;
        let text: Vec<u8> = text
            .iter()
            .map(|&b| if b == b'/' { b'\\' } else { b })
            .collect();
        let text = without_extended_prefix(&text);
        let is_device = text.starts_with(EXTENDED) || text.starts_with(DEVICE);
        if let Some(rest) = text.strip_prefix(SHARES).filter(|_| !is_device) {
            return Self::new(format, SHARES.to_vec(), rest, 2);
        }
        if is_device {
            // A space of its own, up to the first separator.
            let end = text[EXTENDED.len()..].iter().position(|&b| b == b'\\');
            let end = end.map_or(text.len(), |end| EXTENDED.len() + end);
            let space = [&text[..end], b"\\"].concat();
            return Self::new(format, space, &text[end..], 0);
        }
        let split = Split::of(format, &text);
        Self::new(format, split.anchor().into_owned(), split.rest, 0)
    }

    /// The first `fixed` parts are a server and its share: names whatever they are, and `..` does not lead out of them.
    fn new(format: PathFormat, space: Vec<u8>, rest: &[u8], fixed: usize) -> Self {
        let has_root = space.last().is_some_and(|&byte| format.separates(byte));
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let all = rest.split(|&byte| format.separates(byte));
        for part in all.filter(|part| !part.is_empty()) {
            let is_name = parts.len() < fixed || !matches!(part, b"." | b"..");
            if is_name {
                parts.push(part.to_vec());
            } else if part == b"." {
                // It is where one is already.
            } else if parts.len() > fixed && parts.last().is_some_and(|last| last != b"..") {
                parts.pop();
            } else if !has_root {
                parts.push(part.to_vec());
            }
        }
        Self {
            space,
            parts,
            format,
        }
    }

    /// Whether it is fixed without a working directory, and is any place at all: in `\\` and `\\.` no server is named.
    pub(crate) fn is_fixed(&self) -> bool {
        let server = self.parts.first().map_or(&b""[..], Vec::as_slice);
        match self.format {
            PathFormat::Posix => !self.space.is_empty(),
            PathFormat::Windows if self.space == SHARES => !matches!(server, b"" | b"?" | b"."),
            // `C:` and `\` depend on where somebody is.
            PathFormat::Windows => self.space.len() > 1 && self.space.ends_with(b"\\"),
        }
    }

    /// The directory that holds it; of what has none above it, the place itself. A share is not held by its server here.
    pub(crate) fn parent(mut self) -> Self {
        let fixed = if self.space == SHARES { 2 } else { 0 };
        if self.parts.len() > fixed {
            self.parts.pop();
        }
        self
    }

    /// What other places are compared with.
    pub(crate) fn key(&self) -> PlaceKey {
        let space = Some(&self.space).filter(|space| !space.is_empty());
        let all = space.into_iter().chain(&self.parts);
        all.map(|part| match self.format {
            PathFormat::Posix => part.clone(),
            PathFormat::Windows => FoldedName::of(part).into_bytes().into(),
        })
        .collect()
    }

    /// The place as a path.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = self.space.clone();
        text.extend(self.parts.join(&self.format.separator()));
        text
    }
}

/// Whether what has one key lies in what has the other, or is the same.
pub(crate) fn is_within(key: &PlaceKey, directory: &PlaceKey) -> bool {
    // What is left of `..` may lead out again.
    key.strip_prefix(&directory[..])
        .is_some_and(|rest| !rest.iter().any(|part| part == b".."))
}

/// `\\?\C:\a` is `C:\a`, and `\\?\UNC\server\share` is `\\server\share`; all else with that beginning is no other path.
fn without_extended_prefix(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(rest) = text.strip_prefix(EXTENDED) else {
        return Cow::Borrowed(text);
    };
    let head = rest.split(|&byte| byte == b'\\').next().unwrap_or_default();
    if head.eq_ignore_ascii_case(b"UNC") {
        let server = rest[head.len()..].iter().position(|&byte| byte != b'\\');
        let server = server.map_or(rest.len(), |at| head.len() + at);
        Cow::Owned([SHARES, &rest[server..]].concat())
    } else if attachfs_manifest::is_drive(head) {
        Cow::Borrowed(rest)
    } else {
        Cow::Borrowed(text)
    }
}
