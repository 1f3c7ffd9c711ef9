//! The lists of patterns of `deadline manifest snapshot --include-exclude-config`.
//!
//! ```text
//! {"include":["**/*.exr"],"exclude":["**/cache/**"]}
//! ```
//!
//! Both fields may be missing, and others are ignored. Source: `deadline-job-attachments` 0.1.5,
//! `_glob.py`, `_process_glob_inputs`, which also takes a string for a list and then reads each of its
//! characters as a pattern; here that is an error.

use super::Rules;
use super::reader::{JsonError, Reader};
use crate::GlobConfig;

/// Why a text holds no lists of patterns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobConfigError {
    /// Not text at all.
    #[error("the patterns are not UTF-8 text")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// Text that is not a JSON object.
    #[error("the patterns are not a JSON object")]
    Json(#[from] JsonError),
    /// A field that is not what it must be.
    #[error("field \"{field}\" must be a list of patterns")]
    Field {
        /// Its name.
        field: &'static str,
        /// Where it is something else.
        #[source]
        source: JsonError,
    },
}

/// Reads lists of patterns. No text at all means the default: `**/*`, and nothing excluded.
pub fn decode_globs(text: &[u8]) -> Result<GlobConfig, GlobConfigError> {
    let mut config = GlobConfig::default();
    if text.is_empty() {
        return Ok(config);
    }
    let mut reader = Reader::new(std::str::from_utf8(text)?, Rules::Strict);
    let mut object = reader.open_object()?;
    while let Some(key) = reader.next_key(&mut object)? {
        let failed = |field| move |source| GlobConfigError::Field { field, source };
        match &*key {
            b"include" => config.include = list(&mut reader).map_err(failed("include"))?,
            // As good as an empty list to the reference, which tests it for truth.
            b"exclude" if reader.null() => config.exclude = Vec::new(),
            b"exclude" => config.exclude = list(&mut reader).map_err(failed("exclude"))?,
            _ => reader.skip()?,
        }
    }
    reader.end()?;
    Ok(config)
}

fn list(reader: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, JsonError> {
    let mut patterns = Vec::new();
    let mut array = reader.open_array()?;
    while reader.next_item(&mut array)? {
        patterns.push(reader.string()?.into_owned());
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(include: &[&[u8]], exclude: &[&[u8]]) -> GlobConfig {
        let owned = |list: &[&[u8]]| list.iter().map(|pattern| pattern.to_vec()).collect();
        GlobConfig {
            include: owned(include),
            exclude: owned(exclude),
        }
    }

    #[test]
    fn lists_are_read_and_missing_ones_are_the_default() {
        for (text, expected) in [
            ("", config(&[b"**/*"], &[])),
            ("{}", config(&[b"**/*"], &[])),
            (r#"{"include":["a","b*"]}"#, config(&[b"a", b"b*"], &[])),
            (
                r#"{"exclude":["\udcff"],"x":{}}"#,
                config(&[b"**/*"], &[b"\xff"]),
            ),
            (r#" {"include":[],"exclude":null} "#, config(&[], &[])),
            (r#"{"include":["a"],"include":["b"]}"#, config(&[b"b"], &[])),
        ] {
            assert_eq!(decode_globs(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_field() {
        for (text, field) in [
            (r#"{"include":"*.exr"}"#, "\"include\""),
            (r#"{"include":null}"#, "\"include\""),
            (r#"{"exclude":[1]}"#, "\"exclude\""),
            (r#"{"exclude":{}}"#, "\"exclude\""),
        ] {
            let error = decode_globs(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(field), "{text}: {error}");
        }
        for text in ["[]", "*.exr", "{} x", "{\"include\":[\"a\"]"] {
            let error = decode_globs(text.as_bytes()).unwrap_err();
            assert!(matches!(error, GlobConfigError::Json(_)), "{text}: {error}");
        }
        assert!(matches!(
            decode_globs(b"\xff"),
            Err(GlobConfigError::NotUtf8(_))
        ));
    }
}
