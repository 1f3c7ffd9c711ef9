//! The two ways to write a path.

use std::fmt;
use std::path::MAIN_SEPARATOR;
use std::str::FromStr;

/// How the system that wrote a path separates its components, and what it begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathFormat {
    /// Linux, macOS: components behind `/`, case counts.
    Posix,
    /// Windows: components behind `\` or `/`, drives, shares; case does not count.
    Windows,
}

/// Why a text is not a [`PathFormat`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a path format: posix or windows is expected")]
pub struct ParseFormatError(String);

impl PathFormat {
    /// The format of the system that this program runs on.
    pub const HOST: Self = if MAIN_SEPARATOR == '\\' {
        Self::Windows
    } else {
        Self::Posix
    };

    /// `posix` or `windows`, as the attachments of a job say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Posix => "posix",
            Self::Windows => "windows",
        }
    }

    /// `POSIX` or `WINDOWS`, as the documents of Open Job Description say it.
    pub const fn as_upper_str(self) -> &'static str {
        match self {
            Self::Posix => "POSIX",
            Self::Windows => "WINDOWS",
        }
    }

    /// The format of a root whose system nothing else tells: that of Windows if the root begins with a drive or a
    /// backslash.
    pub fn of_root(root: &str) -> Self {
        match root.as_bytes() {
            [b'\\', ..] => Self::Windows,
            [letter, b':', ..] if letter.is_ascii_alphabetic() => Self::Windows,
            _ => Self::Posix,
        }
    }

    /// What stands between two components of a path that is written in this format.
    pub const fn separator(self) -> u8 {
        match self {
            Self::Posix => b'/',
            Self::Windows => b'\\',
        }
    }

    /// What separates the paths of a list in one text, as in `PATH`.
    pub const fn list_separator(self) -> char {
        match self {
            Self::Posix => ':',
            Self::Windows => ';',
        }
    }

    /// Whether a byte separates components.
    pub(crate) const fn separates(self, byte: u8) -> bool {
        match self {
            Self::Posix => byte == b'/',
            Self::Windows => matches!(byte, b'/' | b'\\'),
        }
    }
}

/// As [`PathFormat::as_str`].
impl fmt::Display for PathFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In whatever case: the attachments of jobs have lower, the documents of Open Job Description upper case.
impl FromStr for PathFormat {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, ParseFormatError> {
        let mut all = [Self::Posix, Self::Windows].into_iter();
        all.find(|format| format.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| ParseFormatError(text.to_owned()))
    }
}
