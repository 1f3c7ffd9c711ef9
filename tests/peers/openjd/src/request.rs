//! What a request asks for, field by field, and what may go wrong.

use std::any::Any;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openjd_snapshots::{SnapshotError, SymlinkPolicy};
use serde_json::Value;

/// The answer of an operation that failed.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The variant of the crate's error; `Request` and `Panic` are this program's own.
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn request(text: impl Into<String>) -> Self {
        Self {
            kind: "Request",
            text: text.into(),
        }
    }

    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Self {
            kind: "Panic",
            text: text.unwrap_or("without a text").to_owned(),
        }
    }
}

impl From<SnapshotError> for Fault {
    fn from(error: SnapshotError) -> Self {
        let kind = match error {
            SnapshotError::Io(_) => "Io",
            SnapshotError::Validation(_) => "Validation",
            SnapshotError::FileNotFound(_) => "FileNotFound",
            SnapshotError::Cancelled => "Cancelled",
            SnapshotError::Cache(_) => "Cache",
            SnapshotError::S3(_) => "S3",
            SnapshotError::Task(_) => "Task",
            _ => "Other",
        };
        Self {
            kind,
            text: error.to_string(),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        SnapshotError::from(error).into()
    }
}

/// Bytes as they travel.
pub(crate) fn from_bytes(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// One request. A field that is `null` is not there.
#[derive(Debug)]
pub(crate) struct Request(Value);

impl Request {
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Fault> {
        let value = serde_json::from_slice(line);
        Ok(Self(
            value.map_err(|error| Fault::request(error.to_string()))?,
        ))
    }

    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn typed<'a, T>(
        &'a self,
        field: &str,
        what: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(Fault::request(format!("{field} is not {what}"))),
        }
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<&str>, Fault> {
        self.typed(field, "a string", Value::as_str)
    }

    pub(crate) fn integer(&self, field: &str) -> Result<Option<i64>, Fault> {
        self.typed(field, "an integer", Value::as_i64)
    }

    pub(crate) fn size(&self, field: &str) -> Result<Option<u64>, Fault> {
        self.typed(field, "a size", Value::as_u64)
    }

    pub(crate) fn flag(&self, field: &str, otherwise: bool) -> Result<bool, Fault> {
        let flag = self.typed(field, "true or false", Value::as_bool)?;
        Ok(flag.unwrap_or(otherwise))
    }

    pub(crate) fn texts(&self, field: &str) -> Result<Option<Vec<&str>>, Fault> {
        self.typed(field, "a list of strings", |value| {
            value.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    /// Objects of a list; none if the list is not there.
    pub(crate) fn objects(&self, field: &str) -> Result<Vec<Self>, Fault> {
        let objects = self.typed(field, "a list of objects", |value| {
            let objects = value.as_array()?.iter();
            objects
                .map(|value| value.is_object().then(|| Self(value.clone())))
                .collect()
        })?;
        Ok(objects.unwrap_or_default())
    }

    pub(crate) fn bytes(&self, field: &str) -> Result<Option<Vec<u8>>, Fault> {
        self.typed(field, "base64", |value| {
            STANDARD.decode(value.as_str()?).ok()
        })
    }

    /// The texts of a list of manifests; none if the list is not there.
    pub(crate) fn manifests(&self, field: &str) -> Result<Vec<String>, Fault> {
        let texts = self.texts(field)?.unwrap_or_default().into_iter();
        texts
            .map(|text| {
                let bytes = STANDARD.decode(text);
                let bytes = bytes.map_err(|_| Fault::request(format!("{field} is not base64")))?;
                utf8(bytes)
            })
            .collect()
    }

    pub(crate) fn manifest(&self, field: &str) -> Result<Option<String>, Fault> {
        self.bytes(field)?.map(utf8).transpose()
    }

    pub(crate) fn policy(&self, field: &str) -> Result<Option<SymlinkPolicy>, Fault> {
        self.typed(field, "a symlink policy", |value| {
            [
                SymlinkPolicy::CollapseEscaping,
                SymlinkPolicy::CollapseAll,
                SymlinkPolicy::ExcludeEscaping,
                SymlinkPolicy::ExcludeAll,
                SymlinkPolicy::Preserve,
                SymlinkPolicy::TransitiveIncludeTargets,
            ]
            .into_iter()
            .find(|policy| Some(policy.to_string().as_str()) == value.as_str())
        })
    }
}

/// What has to be there.
pub(crate) fn needed<T>(field: &str, value: Result<Option<T>, Fault>) -> Result<T, Fault> {
    value?.ok_or_else(|| Fault::request(format!("{field} is missing")))
}

/// The crate reads text only.
fn utf8(bytes: Vec<u8>) -> Result<String, Fault> {
    String::from_utf8(bytes).map_err(|error| Fault {
        kind: "Utf8",
        text: error.to_string(),
    })
}
