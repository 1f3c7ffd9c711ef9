//! Fields of JSON documents that people and other programs write.

use serde_json::{Map, Value};

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// It is something else than a text.
    #[error("is no text")]
    NotText,
    /// It is something else than a list.
    #[error("is no list")]
    NotAList,
    /// It is something else than an object.
    #[error("is no object")]
    NotAnObject,
    /// There is no text in it.
    #[error("is empty")]
    Empty,
    /// The text is not one of those that there are.
    #[error("is {found:?}, {expected} is expected")]
    Unexpected {
        /// The text.
        found: String,
        /// Those that there are.
        expected: &'static str,
    },
    /// Nobody knows what it means.
    #[error("is not known")]
    Unknown,
}

/// The text of a field, which has to be there and not to be empty.
pub(crate) fn text<'a>(
    object: &'a Map<String, Value>,
    field: &str,
) -> Result<&'a str, FieldProblem> {
    match object.get(field) {
        None => Err(FieldProblem::Missing),
        Some(Value::String(text)) if text.is_empty() => Err(FieldProblem::Empty),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(FieldProblem::NotText),
    }
}

/// The text of a field that is one of a few.
pub(crate) fn one_of<T>(
    object: &Map<String, Value>,
    field: &str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, FieldProblem> {
    let text = text(object, field)?;
    parse(text).ok_or_else(|| FieldProblem::Unexpected {
        found: text.to_owned(),
        expected,
    })
}
