//! Names and paths as a manifest may hold them.
//!
//! Names are *bytes*: a Linux file name need not be UTF-8, and a manifest written on Linux carries
//! such bytes as lone surrogates (`\udc80` to `\udcff`, Python's surrogateescape), which [`wire`]
//! translates. Turning a [`Name`] into a file name of some platform is a second step, which can
//! fail there.
//!
//! [`wire`]: crate::wire

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest component in bytes (`NAME_MAX` of Linux file systems).
const LONGEST_NAME: usize = 255;
/// The longest path in bytes (`PATH_MAX` of Linux, less its NUL).
const LONGEST_PATH: usize = 4095;

/// Why a text is not a name or a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No text at all.
    #[error("the path is empty")]
    Empty,
    /// Starts with `/`.
    #[error("the path is absolute")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("the path has an empty component")]
    EmptyComponent,
    /// A component is `.`.
    #[error("the path has a component \".\"")]
    Dot,
    /// A component is `..`.
    #[error("the path has a component \"..\"")]
    DotDot,
    /// A NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
    /// A name holds a slash.
    #[error("the name has a slash")]
    Slash,
    /// A component is longer than 255 bytes.
    #[error("a component of the path has {0} bytes, at most 255 are possible")]
    ComponentTooLong(usize),
    /// The path is longer than 4095 bytes.
    #[error("the path has {0} bytes, at most 4095 are possible")]
    TooLong(usize),
}

fn check_component(bytes: &[u8]) -> Result<(), PathError> {
    match bytes {
        b"" => Err(PathError::EmptyComponent),
        b"." => Err(PathError::Dot),
        b".." => Err(PathError::DotDot),
        _ if bytes.contains(&0) => Err(PathError::Nul),
        _ if bytes.len() > LONGEST_NAME => Err(PathError::ComponentTooLong(bytes.len())),
        _ => Ok(()),
    }
}

pub(crate) fn check_name(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.is_empty() {
        return Err(PathError::Empty);
    }
    if bytes.contains(&b'/') {
        return Err(PathError::Slash);
    }
    check_component(bytes)
}

pub(crate) fn check_path(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.is_empty() {
        return Err(PathError::Empty);
    }
    if bytes[0] == b'/' {
        return Err(PathError::Absolute);
    }
    check_length(bytes)?;
    bytes.split(|&b| b == b'/').try_for_each(check_component)
}

/// Checks that a path is not too long.
pub(crate) fn check_length(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.len() > LONGEST_PATH {
        return Err(PathError::TooLong(bytes.len()));
    }
    Ok(())
}

/// [`check_path`] for a path that follows a checked one: what both begin with, up to its last slash,
/// was checked there.
pub(crate) fn check_path_after(before: &[u8], bytes: &[u8]) -> Result<(), PathError> {
    let common = &bytes[..common_prefix(before, bytes)];
    match common.iter().rposition(|&b| b == b'/') {
        Some(slash) if bytes.len() <= LONGEST_PATH => bytes[slash + 1..]
            .split(|&b| b == b'/')
            .try_for_each(check_component),
        _ => check_path(bytes),
    }
}

/// One component of a path: not empty, not `.` or `..`, no `/`, no NUL, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Box<[u8]>")]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks a name.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        check_name(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Box<[u8]>> for Name {
    type Error = PathError;

    fn try_from(bytes: Box<[u8]>) -> Result<Self, PathError> {
        check_name(&bytes)?;
        Ok(Self(bytes))
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapedBytes(&self.0).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A path below a manifest's root: components separated by `/`, each a valid [`Name`], at least
/// one of them, at most 4095 bytes in all.
///
/// Paths order by their UTF-16 code units, as the formats sort them.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Box<[u8]>")]
pub struct ManifestPath(Box<[u8]>);

impl ManifestPath {
    /// Checks a path.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        check_path(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The directory that `bytes` names, where `bytes` is what [`parent_of`] gave for some path.
    pub(crate) fn from_ancestor(bytes: &[u8]) -> Self {
        debug_assert_eq!(check_path(bytes), Ok(()));
        Self(bytes.into())
    }

    /// The path of `name` at the root.
    pub fn from_name(name: &Name) -> Self {
        Self(name.0.clone())
    }

    /// This path with `name` below it.
    pub fn join(&self, name: &Name) -> Result<Self, PathError> {
        self.append(&name.0)
    }

    /// This path moved below `prefix`.
    pub fn below(&self, prefix: &Self) -> Result<Self, PathError> {
        prefix.append(&self.0)
    }

    /// This path followed by `rest`, the checked bytes of a name or a path.
    fn append(&self, rest: &[u8]) -> Result<Self, PathError> {
        let len = self.0.len() + 1 + rest.len();
        if len > LONGEST_PATH {
            return Err(PathError::TooLong(len));
        }
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(rest);
        Ok(Self(bytes.into()))
    }

    /// The bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/')
    }

    /// The directory that holds this path; `None` at the root.
    pub fn parent(&self) -> Option<Self> {
        parent_of(&self.0).map(Self::from_ancestor)
    }

    /// The last component.
    pub fn name(&self) -> Name {
        let start = self
            .0
            .iter()
            .rposition(|&b| b == b'/')
            .map_or(0, |slash| slash + 1);
        Name(self.0[start..].into())
    }

    /// Every directory above this path, the nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }

    /// Whether this path lies below `directory` (a path is not below itself).
    pub fn is_below(&self, directory: &Self) -> bool {
        is_below(&self.0, &directory.0)
    }

    /// The same path, borrowed.
    pub fn borrowed(&self) -> PathRef<'_> {
        PathRef(&self.0)
    }
}

/// A [`ManifestPath`] that is borrowed from a manifest, where the paths of all entries lie together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathRef<'a>(&'a [u8]);

impl<'a> PathRef<'a> {
    /// The path that `bytes` spell, where they were checked before.
    pub(crate) fn from_checked(bytes: &'a [u8]) -> Self {
        debug_assert_eq!(check_path(bytes), Ok(()));
        Self(bytes)
    }

    /// The bytes of the path.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The components, from the root down.
    pub fn components(self) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.0.split(|&b| b == b'/')
    }

    /// The directory that holds this path; `None` at the root.
    pub fn parent(self) -> Option<Self> {
        parent_of(self.0).map(Self)
    }

    /// The bytes of the last component.
    pub fn name(self) -> &'a [u8] {
        parent_of(self.0).map_or(self.0, |parent| &self.0[parent.len() + 1..])
    }

    /// Every directory above this path, the nearest first.
    pub fn ancestors(self) -> impl Iterator<Item = Self> {
        ancestors_of(self.0).map(Self)
    }

    /// Whether this path lies below `directory` (a path is not below itself).
    pub fn is_below(self, directory: PathRef<'_>) -> bool {
        is_below(self.0, directory.0)
    }

    /// What follows `directory` in this path, if it lies below it.
    pub fn within(self, directory: PathRef<'_>) -> Option<Self> {
        let rest = || Self(&self.0[directory.0.len() + 1..]);
        self.is_below(directory).then(rest)
    }

    /// The same path, to keep.
    pub fn to_owned(self) -> ManifestPath {
        ManifestPath(self.0.into())
    }
}

impl Ord for PathRef<'_> {
    /// UTF-16 code unit order of the whole path, separators included.
    fn cmp(&self, other: &Self) -> Ordering {
        utf16_order(self.0, other.0)
    }
}

impl PartialOrd for PathRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq<ManifestPath> for PathRef<'_> {
    fn eq(&self, other: &ManifestPath) -> bool {
        *self.0 == *other.0
    }
}

impl AsRef<[u8]> for PathRef<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl<'a> From<&'a ManifestPath> for PathRef<'a> {
    fn from(path: &'a ManifestPath) -> Self {
        path.borrowed()
    }
}

impl fmt::Display for PathRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapedBytes(self.0).fmt(f)
    }
}

impl fmt::Debug for PathRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Whether a component is what Windows calls a drive, a letter and a colon: the root of the paths of an
/// absolute manifest that was made there.
pub fn is_drive(component: &[u8]) -> bool {
    matches!(component, [letter, b':'] if letter.is_ascii_alphabetic())
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.len() > directory.len() && path.starts_with(directory) && path[directory.len()] == b'/'
}

/// Whether a path lies below a directory or is it. The empty path is the root.
pub(crate) fn is_within(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || path == directory || is_below(path, directory)
}

/// The directory of a path, as a slice of it; `None` at the root.
pub(crate) fn parent_of(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|&b| b == b'/')?;
    Some(&path[..slash])
}

/// Every directory above a path, the nearest first, as slices of it.
pub(crate) fn ancestors_of(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(parent_of(path), |directory| parent_of(directory))
}

/// The UTF-16 code units of bytes that are mostly UTF-8; a byte that is not becomes U+DC00 + byte.
pub(crate) fn utf16_units(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let invalid = chunk.invalid().iter().map(|&b| 0xdc00 + u16::from(b));
        chunk.valid().encode_utf16().chain(invalid)
    })
}

fn code_points(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let invalid = chunk.invalid().iter().map(|&b| 0xdc00 + u32::from(b));
        chunk.valid().chars().map(u32::from).chain(invalid)
    })
}

/// How many bytes two texts begin with alike. Neighbours in a manifest have most in common, so
/// this goes in steps of several.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 16;
    let (steps_a, steps_b) = (a.as_chunks::<STEP>().0, b.as_chunks::<STEP>().0);
    let steps = steps_a.iter().zip(steps_b).take_while(|(a, b)| a == b);
    let start = STEP * steps.count();
    let rest = a[start..].iter().zip(&b[start..]);
    start + rest.take_while(|(a, b)| a == b).count()
}

/// The order of two texts if their first difference decides it: it does where it lies between
/// ASCII bytes or at the end of one text before an ASCII byte. (Other bytes may complete a
/// sequence that begins before them.)
fn order_by_first_difference(a: &[u8], b: &[u8]) -> Option<Ordering> {
    let common = common_prefix(a, b);
    match (a.get(common), b.get(common)) {
        (None, None) => Some(Ordering::Equal),
        (a, b) if a.is_none_or(u8::is_ascii) && b.is_none_or(u8::is_ascii) => Some(a.cmp(&b)),
        _ => None,
    }
}

/// The order of the `files` and `paths` of the formats: by UTF-16 code units, whole path,
/// separators included (`key=lambda p: p.encode("utf-16_be", "surrogatepass")`).
pub(crate) fn utf16_order(a: &[u8], b: &[u8]) -> Ordering {
    order_by_first_difference(a, b).unwrap_or_else(|| utf16_units(a).cmp(utf16_units(b)))
}

/// The order of the `dirs` of 2025-12: by code points (`sorted(paths)`).
pub(crate) fn code_point_order(a: &[u8], b: &[u8]) -> Ordering {
    order_by_first_difference(a, b).unwrap_or_else(|| code_points(a).cmp(code_points(b)))
}

impl Ord for ManifestPath {
    /// UTF-16 code unit order of the whole path, separators included.
    fn cmp(&self, other: &Self) -> Ordering {
        utf16_order(&self.0, &other.0)
    }
}

impl PartialOrd for ManifestPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<Box<[u8]>> for ManifestPath {
    type Error = PathError;

    fn try_from(bytes: Box<[u8]>) -> Result<Self, PathError> {
        check_path(&bytes)?;
        Ok(Self(bytes))
    }
}

impl AsRef<[u8]> for ManifestPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ManifestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapedBytes(&self.0).fmt(f)
    }
}

impl fmt::Debug for ManifestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Shows text from outside safely in a log or on a terminal: control characters, characters that
/// change the direction of text, and bytes that are not UTF-8 come out escaped.
#[derive(Debug, Clone, Copy)]
pub struct EscapedBytes<'a>(pub &'a [u8]);

impl fmt::Display for EscapedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
                if c.is_control() || reorders || c == '\\' {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    f.write_char(c)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &[u8]) -> ManifestPath {
        ManifestPath::new(text).unwrap()
    }

    #[test]
    fn a_path_that_could_leave_its_root_or_name_nothing_is_refused() {
        let long = vec![b'a'; 256];
        let deep = b"a/".repeat(2048);
        for (text, error) in [
            (b"".as_slice(), PathError::Empty),
            (b"/a", PathError::Absolute),
            (b"/", PathError::Absolute),
            (b"a//b", PathError::EmptyComponent),
            (b"a/", PathError::EmptyComponent),
            (b".", PathError::Dot),
            (b"a/./b", PathError::Dot),
            (b"..", PathError::DotDot),
            (b"a/..", PathError::DotDot),
            (b"a\0b", PathError::Nul),
            (&long, PathError::ComponentTooLong(256)),
            (&deep, PathError::TooLong(4096)),
        ] {
            assert_eq!(
                ManifestPath::new(text),
                Err(error),
                "{}",
                EscapedBytes(text)
            );
        }
        for text in [
            b"...".as_slice(),
            b"..\\x",
            b"a b",
            b"\xff",
            b"$0/x",
            b"c:/x",
        ] {
            assert_eq!(path(text).as_bytes(), text);
        }
    }

    #[test]
    fn a_name_is_one_component() {
        assert_eq!(Name::new(b"a/b"), Err(PathError::Slash));
        assert_eq!(Name::new(b".."), Err(PathError::DotDot));
        assert_eq!(Name::new(b""), Err(PathError::Empty));
        assert_eq!(Name::new(b"a").unwrap().as_bytes(), b"a");
    }

    #[test]
    fn joining_and_taking_apart_are_opposites() {
        let deep = path(b"a/b/c");
        assert_eq!(deep.parent().unwrap().join(&deep.name()), Ok(deep.clone()));
        assert_eq!(path(b"b/c").below(&path(b"a")), Ok(deep.clone()));
        assert_eq!(
            deep.ancestors().collect::<Vec<_>>(),
            [path(b"a/b"), path(b"a")]
        );
        assert_eq!(path(b"a").parent(), None);
    }

    #[test]
    fn joining_stops_at_the_longest_path() {
        let directory = path(&b"a/".repeat(2047)[..4093]);
        assert!(directory.join(&Name::new(b"b").unwrap()).is_ok());
        let error = directory.join(&Name::new(b"bb").unwrap());
        assert_eq!(error, Err(PathError::TooLong(4096)));
    }

    #[test]
    fn a_path_is_not_below_itself_or_below_a_name_it_begins_with() {
        assert!(path(b"a/b").is_below(&path(b"a")));
        assert!(!path(b"a").is_below(&path(b"a")));
        assert!(!path(b"ab").is_below(&path(b"a")));
    }

    #[test]
    fn files_sort_by_utf16_units_and_dirs_by_code_points() {
        let astral = "\u{1f600}".as_bytes();
        let private = "\u{e000}".as_bytes();
        assert_eq!(utf16_order(astral, private), Ordering::Less);
        assert_eq!(code_point_order(astral, private), Ordering::Greater);
        for order in [utf16_order, code_point_order] {
            assert_eq!(order(b"a-b", b"a/b"), Ordering::Less);
            assert_eq!(order(b"a", b"a/b"), Ordering::Less);
            // Not UTF-8: U+DCFF, before U+E000 though its byte is larger.
            assert_eq!(order(b"\xff", private), Ordering::Less);
            // The first byte of "e acute" alone is U+DCC3, the whole letter U+00E9.
            assert_eq!(order(b"\xc3", b"\xc3\xa9"), Ordering::Greater);
        }
    }

    #[test]
    fn a_difference_is_found_wherever_it_is() {
        for same in 0..50 {
            let (mut a, mut b) = (vec![b'x'; 50], vec![b'x'; 50]);
            assert_eq!(utf16_order(&a[..same], &b), Ordering::Less);
            (a[same], b[same]) = (b'b', b'a');
            assert_eq!(utf16_order(&a, &b), Ordering::Greater);
        }
    }

    #[test]
    fn text_from_outside_is_shown_without_control_characters() {
        let shown = EscapedBytes("a\u{1b}[31m\u{202e}\\\u{e9}".as_bytes()).to_string();
        assert_eq!(shown, "a\\u{1b}[31m\\u{202e}\\\\\u{e9}");
        assert_eq!(EscapedBytes(b"\xff\n").to_string(), "\\xff\\n");
    }

    #[test]
    fn a_stored_path_is_checked_when_it_is_read_back() {
        let stored = postcard::to_allocvec(&path(b"a/b")).unwrap();
        assert_eq!(
            postcard::from_bytes::<ManifestPath>(&stored),
            Ok(path(b"a/b"))
        );
        let bad = postcard::to_allocvec(b"../b".as_slice()).unwrap();
        assert!(postcard::from_bytes::<ManifestPath>(&bad).is_err());
        assert!(postcard::from_bytes::<Name>(&stored).is_err());
    }
}
