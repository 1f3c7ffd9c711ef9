//! Version 2025-12: directories, files and links of a snapshot or a diff.
//!
//! ```text
//! {"dirs":[{"name":"d"},{"name":"$0/e"},{"delete":true,"name":"old"}],
//!  "fileChunkSizeBytes":268435456,
//!  "files":[{"hash":"<32 hex>","mtime":<us>,"name":"$1/run.sh","runnable":true,"size":10},
//!           {"chunkhashes":["<32 hex>","<32 hex>"],"mtime":5,"name":"big","size":268435457},
//!           {"delete":true,"name":"gone"},
//!           {"name":"l","symlink":{"name":"$0/t"}}],
//!  "hashAlg":"xxh128","parentManifestHash":"<32 hex>",
//!  "specificationVersion":"relative-manifest-diff-beta-2025-12","totalSize":268435467}
//! ```
//!
//! `$N/name` is a name in the directory with index N in `dirs`. `dirs` lists every directory that
//! anything refers to: parents of files and of directories, and also those above the target of a
//! link, whether they exist or not. Source: `openjd-snapshots` 0.3.2.
//!
//! In an absolute manifest a name at the root is `/name`; of a Windows machine it is `C:`. In the draft
//! (`manifestVersion` `2025-12-04-beta`, source: the public repositories `rusty-attachments` of January
//! 2026) `dirs` lists only what the writer was given, so a name may spell its whole path; files are cut
//! at 256 MiB; it is a diff if it has `parentManifestHash`; the target of a link is the link's own text, from the
//! link's directory. What those repositories wrote later says `specificationVersion` as 2025-12 does, but
//! spells its entries otherwise: `path`, `deleted`, `symlink: {"target": text}`, each as in the draft.

mod decode;
mod encode;
mod entry;
mod paths;

pub(super) use decode::{Decoded, decode, read_in_order};
pub(super) use encode::{encode_diff, encode_snapshot};

use super::{DecodeError, Format, Rules};
use crate::wire::reader::Reader;

/// What the draft says in `manifestVersion`.
pub(super) const DRAFT: &str = "2025-12-04-beta";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Snapshot,
    Diff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Relative,
    Absolute,
    Draft,
}

/// Which of the manifests of 2025-12 a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    kind: Kind,
    style: Style,
}

impl Dialect {
    /// Those that say what they are in `specificationVersion`.
    const NAMED: [Self; 4] = [
        Self::new(Kind::Snapshot, Style::Relative),
        Self::new(Kind::Diff, Style::Relative),
        Self::new(Kind::Snapshot, Style::Absolute),
        Self::new(Kind::Diff, Style::Absolute),
    ];

    const fn new(kind: Kind, style: Style) -> Self {
        Self { kind, style }
    }

    pub(super) const fn version(self) -> &'static str {
        match (self.style, self.kind) {
            (Style::Relative, Kind::Snapshot) => "relative-manifest-snapshot-beta-2025-12",
            (Style::Relative, Kind::Diff) => "relative-manifest-diff-beta-2025-12",
            (Style::Absolute, Kind::Snapshot) => "absolute-manifest-snapshot-beta-2025-12",
            (Style::Absolute, Kind::Diff) => "absolute-manifest-diff-beta-2025-12",
            (Style::Draft, _) => DRAFT,
        }
    }

    pub(super) const fn format(self) -> Format {
        match self.style {
            Style::Relative => Format::V2025_12,
            Style::Absolute => Format::V2025_12Absolute,
            Style::Draft => Format::Draft2025_12_04,
        }
    }

    /// The dialect whose `specificationVersion` this is.
    pub(super) fn of(version: &[u8]) -> Option<Self> {
        let mut all = Self::NAMED.into_iter();
        all.find(|dialect| dialect.version().as_bytes() == version)
    }

    /// The draft: a diff if the text has a parent.
    pub(super) fn draft(text: &str) -> Result<Self, DecodeError> {
        let mut kind = Kind::Snapshot;
        let mut reader = Reader::new(text, Rules::Lenient);
        let mut manifest = reader.open_object()?;
        while let Some(key) = reader.next_key(&mut manifest)? {
            if *key == *b"parentManifestHash" && !reader.is_null() {
                kind = Kind::Diff;
            }
            reader.skip()?;
        }
        Ok(Self::new(kind, Style::Draft))
    }
}

/// The most probable dialect of a text: writers put the version near its end. The decoder has to
/// check it against the version that it reads.
pub(super) fn guess(text: &str) -> Option<Dialect> {
    const KEY: &[u8] = br#""specificationVersion":""#;
    const END: usize = 256;
    let end = &text.as_bytes()[text.len().saturating_sub(END)..];
    let key = end.windows(KEY.len()).rposition(|bytes| bytes == KEY)?;
    let value = &end[key + KEY.len()..];
    Dialect::of(&value[..value.iter().position(|&byte| byte == b'"')?])
}
