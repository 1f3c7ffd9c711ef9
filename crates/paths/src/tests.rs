//! What AWS's library said of the same (`tests/vectors`, see its README), what the laws are, and what it has no vectors for.

mod foreign;
mod known;
mod mapping;
mod names;
mod profiles;
mod roots;
mod rules;

use serde_json::Value;

use crate::{ForeignPath, PathFormat};

/// The cases of a file of vectors.
fn cases(file: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(file).unwrap();
    vectors["cases"].as_array().unwrap().clone()
}

fn posix(text: &str) -> ForeignPath {
    ForeignPath::parse(PathFormat::Posix, text)
}

fn windows(text: &str) -> ForeignPath {
    ForeignPath::parse(PathFormat::Windows, text)
}

/// A path as it is written.
fn text(path: &ForeignPath) -> &str {
    path.to_str().unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    let list = value.as_array().unwrap().iter();
    list.map(|text| text.as_str().unwrap()).collect()
}
