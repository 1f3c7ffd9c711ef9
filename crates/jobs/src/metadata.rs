//! The metadata of an output manifest: the root that its paths are below, and the file-system location of that root.

use attachfs_store::{Metadata, MetadataError};

use crate::python;

const ROOT: &str = "asset-root";
const ROOT_AS_JSON: &str = "asset-root-json";
const LOCATION: &str = "file-system-location-name";

/// Whose output a manifest is. The root is a label: it never says where files are placed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutputMetadata {
    /// The root as the job has it, of whatever system.
    pub asset_root: String,
    /// The name of the file-system location that the root is in.
    pub location: Option<String>,
}

/// Why there is no such metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputMetadataError {
    /// It cannot be held.
    #[error("the root or the location cannot be written")]
    Metadata(#[from] MetadataError),
    /// Nothing says what the root is.
    #[error("nothing says which root the manifest belongs to: it has no metadata {ROOT}")]
    Missing,
    /// The root is not as it should be written.
    #[error("the metadata {ROOT_AS_JSON} is no JSON text: {0:?}")]
    Json(String),
}

impl OutputMetadata {
    /// As it is stored. A root that a header cannot carry is written as JSON with escapes, under both names:
    /// so does the Python library, whose older versions read the first one only.
    pub fn encode(&self) -> Result<Metadata, OutputMetadataError> {
        let mut metadata = Metadata::new();
        if metadata.set(ROOT, &self.asset_root).is_err() {
            let json = python::text(&self.asset_root);
            metadata.set(ROOT_AS_JSON, &json)?;
            metadata.set(ROOT, &json)?;
        }
        if let Some(location) = &self.location {
            metadata.set(LOCATION, location)?;
        }
        Ok(metadata)
    }

    /// What is stored. The root as JSON counts, if it is there.
    pub fn decode(metadata: &Metadata) -> Result<Self, OutputMetadataError> {
        let asset_root = match (metadata.get(ROOT_AS_JSON), metadata.get(ROOT)) {
            (Some(json), _) => serde_json::from_str(json)
                .map_err(|_| OutputMetadataError::Json(json.to_owned()))?,
            (None, Some(root)) => root.to_owned(),
            (None, None) => return Err(OutputMetadataError::Missing),
        };
        Ok(Self {
            asset_root,
            location: metadata.get(LOCATION).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(asset_root: &str, location: Option<&str>) -> OutputMetadata {
        OutputMetadata {
            asset_root: asset_root.to_owned(),
            location: location.map(str::to_owned),
        }
    }

    #[test]
    fn a_root_in_ascii_is_written_as_it_is() {
        let written = of("C:\\Users\\me", Some("Loc 1")).encode().unwrap();
        assert_eq!(
            written.to_string(),
            "asset-root: C:\\Users\\me, file-system-location-name: Loc 1"
        );
        assert_eq!(
            OutputMetadata::decode(&written),
            Ok(of("C:\\Users\\me", Some("Loc 1")))
        );
    }

    #[test]
    fn any_root_reads_as_it_is_written() {
        for root in [
            "/home/us\u{e9}r/\u{65e5}\u{672c}",
            "/tmp/\u{1f600}",
            "/a\nb\t\"\\",
            " /a ",
            "",
        ] {
            let written = of(root, None).encode().unwrap();
            assert_eq!(
                OutputMetadata::decode(&written),
                Ok(of(root, None)),
                "{root:?}"
            );
        }
        let written = of("/home/us\u{e9}r", None).encode().unwrap();
        assert_eq!(written.get("asset-root"), Some(r#""/home/us\u00e9r""#));
        assert_eq!(written.get("asset-root-json"), written.get("asset-root"));
    }

    #[test]
    fn what_says_no_root_is_no_metadata_of_an_output() {
        assert_eq!(
            OutputMetadata::decode(&Metadata::new()),
            Err(OutputMetadataError::Missing)
        );
        let mut wrong = Metadata::new();
        wrong.set("asset-root-json", "/not/json").unwrap();
        OutputMetadata::decode(&wrong).unwrap_err();
        of("/a", Some("\u{e9}")).encode().unwrap_err();
    }
}
