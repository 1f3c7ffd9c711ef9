//! Fields of documents that other programs and people wrote. What is wrong with one says where it is and what was found.

use std::fmt::Write as _;
use std::str::FromStr;

use serde_json::{Map, Value};

/// The longest piece of what was found that an error shows, in characters.
const SHOWN: usize = 80;

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON.
    #[error("{document} is no JSON")]
    Json {
        /// Which document.
        document: &'static str,
        /// What is wrong, and where.
        #[source]
        source: serde_json::Error,
    },
    /// It is no YAML, or larger or deeper than a document of its kind is.
    #[error("{document} is no YAML that can be read")]
    Yaml {
        /// Which document.
        document: &'static str,
        /// What is wrong, and where.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is too long to be one.
    #[error("{document} has {len} bytes: the longest that is read has {most}")]
    TooLong {
        /// Which document.
        document: &'static str,
        /// How long it is.
        len: usize,
        /// How long it may be.
        most: usize,
    },
    /// A field is missing, or is not what it should be.
    #[error("{document} cannot be used: {field} {found}, {expected} is expected")]
    Field {
        /// Which document.
        document: &'static str,
        /// The field and where it is, `attachments.manifests[0].rootPath` for example; counted from 0.
        field: String,
        /// What it is, in words.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },
}

/// A value in a document, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    document: &'static str,
    value: Option<&'a Value>,
    place: String,
}

impl<'a> Field<'a> {
    /// The whole document.
    pub(crate) fn whole(document: &'static str, value: &'a Value) -> Self {
        Self {
            document,
            value: Some(value),
            place: String::new(),
        }
    }

    /// A field of an object. It need not be there.
    pub(crate) fn get(&self, name: &str) -> Result<Self, DocumentError> {
        let dot = if self.place.is_empty() { "" } else { "." };
        Ok(Self {
            document: self.document,
            // The service leaves out what is not set, other programs write null.
            value: self.object()?.get(name).filter(|value| !value.is_null()),
            place: format!("{}{dot}{name}", self.place),
        })
    }

    /// The field, if it is there.
    pub(crate) fn if_there(self) -> Option<Self> {
        self.value.is_some().then_some(self)
    }

    /// Whether there is nothing in it: null, or an object without fields. So Python takes documents that are empty.
    pub(crate) fn is_empty(&self) -> bool {
        match self.value {
            None | Some(Value::Null) => true,
            Some(value) => value.as_object().is_some_and(Map::is_empty),
        }
    }

    /// What is in it.
    pub(crate) fn value(&self, expected: &'static str) -> Result<&'a Value, DocumentError> {
        self.value.ok_or_else(|| self.wrong(expected))
    }

    pub(crate) fn object(&self) -> Result<&'a Map<String, Value>, DocumentError> {
        let object = self.value.and_then(Value::as_object);
        object.ok_or_else(|| self.wrong("an object"))
    }

    /// The fields of an object, with their names.
    pub(crate) fn fields(&self) -> Result<Vec<(&'a String, Self)>, DocumentError> {
        let names = self.object()?.keys();
        names.map(|name| Ok((name, self.get(name)?))).collect()
    }

    pub(crate) fn list(&self) -> Result<Vec<Self>, DocumentError> {
        let list = self.value.and_then(Value::as_array);
        let list = list.ok_or_else(|| self.wrong("a list"))?.iter().enumerate();
        let items = list.map(|(index, value)| Self {
            document: self.document,
            value: Some(value),
            place: format!("{}[{index}]", self.place),
        });
        Ok(items.collect())
    }

    pub(crate) fn text(&self) -> Result<&'a str, DocumentError> {
        let text = self.value.and_then(Value::as_str);
        text.ok_or_else(|| self.wrong("a text"))
    }

    pub(crate) fn texts(&self) -> Result<Vec<String>, DocumentError> {
        let texts = self.list()?.into_iter();
        texts.map(|text| text.text().map(str::to_owned)).collect()
    }

    /// A text that stands for something.
    pub(crate) fn parse<T: FromStr>(&self, expected: &'static str) -> Result<T, DocumentError> {
        // The cause would repeat the text, however long it is, and what is expected.
        self.text()?.parse().map_err(|_| self.wrong(expected))
    }

    /// The error that it is something else.
    pub(crate) fn wrong(&self, expected: &'static str) -> DocumentError {
        let field = match &*self.place {
            "" => "the document",
            place => place,
        };
        DocumentError::Field {
            document: self.document,
            field: field.to_owned(),
            found: found(self.value),
            expected,
        }
    }
}

fn found(value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "is missing".to_owned();
    };
    let (kind, shown) = match value {
        Value::Null => return "is null".to_owned(),
        Value::Bool(value) => return format!("is {value}"),
        Value::Number(number) => ("the number ", number.to_string()),
        Value::String(text) => ("", shortened(text)),
        Value::Array(list) => return format!("is a list of {}", list.len()),
        Value::Object(object) => return format!("is an object of {} fields", object.len()),
    };
    format!("is {kind}{shown}")
}

/// The beginning of a text, quoted and escaped.
fn shortened(text: &str) -> String {
    let mut shown = String::new();
    let beginning: String = text.chars().take(SHOWN).collect();
    let rest = if beginning.len() < text.len() {
        "…"
    } else {
        ""
    };
    let _ = write!(shown, "{beginning:?}{rest}");
    shown
}
