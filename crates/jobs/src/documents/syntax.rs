//! JSON and YAML as values.
//!
//! YAML can stand for far more than its length: a name may be given to a part and be used many times, also in itself. What that may
//! grow to is bounded, as are length, depth and the number of parts.

use serde_json::Value;

use super::fields::{DocumentError, Field};

/// The longest document that is read, in bytes: half a million paths.
const LONGEST: usize = 64 << 20;

/// How many values a YAML document has at most, those that are repeated counted each time.
const MOST_VALUES: usize = 2_000_000;

/// How often parts of a YAML document are repeated at most.
const MOST_REPEATED: usize = 1000;

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Syntax {
    /// JSON.
    Json,
    /// YAML, which JSON is for the most part.
    Yaml,
}

/// Reads a document and what is in it.
pub(crate) fn read<T>(
    document: &'static str,
    syntax: Syntax,
    bytes: &[u8],
    read: impl FnOnce(&Field<'_>) -> Result<T, DocumentError>,
) -> Result<T, DocumentError> {
    if bytes.len() > LONGEST {
        return Err(DocumentError::TooLong {
            document,
            len: bytes.len(),
            most: LONGEST,
        });
    }
    let value: Value = match syntax {
        Syntax::Json => serde_json::from_slice(bytes)
            .map_err(|source| DocumentError::Json { document, source })?,
        Syntax::Yaml => yaml(bytes).map_err(|source| DocumentError::Yaml {
            document,
            source: Box::new(source),
        })?,
    };
    read(&Field::whole(document, &value))
}

fn yaml(bytes: &[u8]) -> Result<Value, serde_saphyr::Error> {
    let mut limits = serde_saphyr::options::AliasLimits::default();
    limits.max_total_replayed_events = MOST_VALUES;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 2 * MOST_VALUES,
            max_nodes: MOST_VALUES,
            max_aliases: MOST_REPEATED,
            // One part may be repeated as often as many are.
            enforce_alias_anchor_ratio: false,
            max_total_scalar_bytes: LONGEST,
        },
        alias_limits: limits,
        // As Python's YAML, and as JSON is read.
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    serde_saphyr::from_slice_with_options(bytes, options)
}
