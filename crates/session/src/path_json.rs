//! Paths in JSON, for `#[serde(with = "path_json")]`: the text where a path is UTF-8, and otherwise its
//! bytes, `{"hex":"2f746d702fff"}`. JSON text cannot hold them, and a path that lost bytes is another
//! one.

use std::path::{Path, PathBuf};

use attachfs_durable::{path_bytes, path_of_bytes};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Json<'a> {
    Text(std::borrow::Cow<'a, str>),
    Bytes { hex: String },
}

/// Writes a path.
pub fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    let json = match path.to_str() {
        Some(text) => Json::Text(text.into()),
        None => {
            let digits = path_bytes(path).iter().map(|byte| format!("{byte:02x}"));
            let hex = digits.collect();
            Json::Bytes { hex }
        }
    };
    json.serialize(to)
}

/// Reads a path.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    match Json::deserialize(from)? {
        Json::Text(text) => Ok(PathBuf::from(text.into_owned())),
        Json::Bytes { hex } => {
            let bytes = bytes_of(&hex).ok_or("a path's bytes are pairs of hexadecimal digits");
            Ok(path_of_bytes(bytes.map_err(D::Error::custom)?))
        }
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| Some(char::from(*byte).to_digit(16)? as u8);
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

/// The same for a path that need not be there.
pub mod option {
    use super::{Deserialize, Deserializer, Path, PathBuf, Serialize, Serializer};

    #[derive(Serialize)]
    struct Borrowed<'a>(#[serde(with = "super")] &'a Path);

    #[derive(Deserialize)]
    struct Owned(#[serde(with = "super")] PathBuf);

    /// Writes a path.
    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        path.as_deref().map(Borrowed).serialize(to)
    }

    /// Reads a path.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        let path = Option::<Owned>::deserialize(from)?;
        Ok(path.map(|Owned(path)| path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Paths {
        #[serde(with = "crate::path_json")]
        path: PathBuf,
        #[serde(default, with = "crate::path_json::option")]
        other: Option<PathBuf>,
    }

    #[test]
    fn a_path_is_text_or_its_bytes_and_comes_back() {
        for (bytes, json) in [
            (
                &b"/mnt/a b"[..],
                r#"{"path":"/mnt/a b","other":"/mnt/a b"}"#,
            ),
            (
                // A surrogate that stands alone, which a path of Windows can have, too.
                b"/m\xed\xa0\x80",
                r#"{"path":{"hex":"2f6deda080"},"other":{"hex":"2f6deda080"}}"#,
            ),
        ] {
            let path = path_of_bytes(bytes.to_vec());
            let other = Some(path.clone());
            let paths = Paths { path, other };
            assert_eq!(serde_json::to_string(&paths).unwrap(), json);
            assert_eq!(serde_json::from_str::<Paths>(json).unwrap(), paths);
        }
        let none = serde_json::from_str::<Paths>(r#"{"path":"/a"}"#).unwrap();
        assert_eq!(none.other, None);
        for wrong in [r#"{"path":{"hex":"2"}}"#, r#"{"path":{"hex":"2x"}}"#, "{}"] {
            serde_json::from_str::<Paths>(wrong).unwrap_err();
        }
    }
}
