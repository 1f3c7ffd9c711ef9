//! `asset_references`: what a bundle says itself of the files of its job.

use super::BundleReferences;
use crate::documents::{DocumentError, Field};

/// Reads the document. An empty one says nothing.
pub(super) fn read(document: &Field<'_>) -> Result<BundleReferences, DocumentError> {
    let mut references = BundleReferences::default();
    if document.is_empty() {
        return Ok(references);
    }
    let of = document.get("assetReferences")?;
    let texts = |field: Option<Field<'_>>| field.map_or(Ok(Vec::new()), |field| field.texts());
    if let Some(inputs) = of.get("inputs")?.if_there() {
        references.input_files = texts(inputs.get("filenames")?.if_there())?;
        references.input_directories = texts(inputs.get("directories")?.if_there())?;
    }
    if let Some(outputs) = of.get("outputs")?.if_there() {
        references.outputs = texts(outputs.get("directories")?.if_there())?;
    }
    references.references = texts(of.get("referencedPaths")?.if_there())?;
    references.sort();
    Ok(references)
}
