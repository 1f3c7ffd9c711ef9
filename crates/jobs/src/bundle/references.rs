//! `asset_references`: what a bundle says itself of the files of its job.

use attachfs_paths::AssetPaths;

use crate::documents::{DocumentError, Field};

/// What a job needs, makes and speaks of. Texts of the machine that the bundle is on, in the order of their bytes, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleReferences {
    /// Files that workers need.
    pub input_files: Vec<String>,
    /// Directories of which workers need everything.
    pub input_directories: Vec<String>,
    /// Directories that workers upload from.
    pub outputs: Vec<String>,
    /// Paths that are spoken of.
    pub references: Vec<String>,
}

impl BundleReferences {
    /// For grouping. The files of the input directories have to be added to the inputs; a directory that is missing or
    /// empty is a reference.
    pub fn paths(&self) -> AssetPaths<String> {
        AssetPaths {
            inputs: self.input_files.clone(),
            outputs: self.outputs.clone(),
            references: self.references.clone(),
        }
    }

    fn all(&mut self) -> [&mut Vec<String>; 4] {
        [
            &mut self.input_files,
            &mut self.input_directories,
            &mut self.outputs,
            &mut self.references,
        ]
    }

    pub(super) fn sort(&mut self) {
        for paths in self.all() {
            paths.sort_unstable();
            paths.dedup();
        }
    }
}

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
