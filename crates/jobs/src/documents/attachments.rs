//! The attachments of a job: for each root, which manifest has its inputs and which of its directories have outputs.
//!
//! ```json
//! {"manifests": [{"rootPath": "C:\\r", "fileSystemLocationName": "Loc", "rootPathFormat": "windows",
//!   "inputManifestPath": "farm-…/queue-…/Inputs/…/…_input", "inputManifestHash": "…",
//!   "outputRelativeDirectories": ["out"]}], "fileSystem": "COPIED"}
//! ```

use std::collections::HashMap;
use std::fmt;

use attachfs_manifest::ContentHash;
use attachfs_paths::{PathFormat, input_root_hash, output_root_hash};
use attachfs_store::ManifestKey;

use super::fields::{DocumentError, Field};
use super::syntax::{self, Syntax};
use crate::{InputKey, OutputKey, python};

/// How workers see the inputs of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FileSystemKind {
    /// They are copied before a session begins. So it is where a document says nothing.
    #[default]
    Copied,
    /// They are mounted.
    Virtual,
}

impl fmt::Display for FileSystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copied => "COPIED",
            Self::Virtual => "VIRTUAL",
        })
    }
}

/// What is attached below one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootAttachment {
    /// The root on the machine that submitted. Never empty.
    pub root: String,
    /// How the root and the output directories are written.
    pub format: PathFormat,
    /// The name of the file-system location that the root is in.
    pub location: Option<String>,
    /// The manifest of the inputs, if there are any: its key below `Manifests/`.
    pub inputs: Option<ManifestKey>,
    /// The hash of that manifest's bytes, if the submitter said it.
    pub inputs_hash: Option<ContentHash>,
    /// Directories with outputs, relative to the root, with the submitter's separators; `.` for the root itself.
    pub outputs: Vec<String>,
}

/// The attachments of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachments {
    /// One for each root, in the document's order, by which workers name their outputs.
    pub roots: Vec<RootAttachment>,
    /// How workers see the inputs.
    pub file_system: FileSystemKind,
}

impl Attachments {
    const DOCUMENT: &str = "the attachments document";

    /// Reads the document itself: what `CreateJob` takes, and what a job has as `attachments`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        syntax::read(Self::DOCUMENT, Syntax::Json, bytes, |document| {
            Self::read(document)
        })
    }

    pub(super) fn read(document: &Field<'_>) -> Result<Self, DocumentError> {
        let roots = document.get("manifests")?.list()?;
        let file_system = match document.get("fileSystem")?.if_there() {
            None => FileSystemKind::default(),
            Some(field) => match field.text()? {
                "COPIED" => FileSystemKind::Copied,
                "VIRTUAL" => FileSystemKind::Virtual,
                _ => return Err(field.wrong("COPIED or VIRTUAL")),
            },
        };
        Ok(Self {
            roots: roots.iter().map(read_root).collect::<Result<_, _>>()?,
            file_system,
        })
    }

    /// The document, byte for byte as Python writes `Attachments.to_dict()` with `json.dumps`: what is empty is left out.
    pub fn to_json(&self) -> String {
        let roots = python::list(self.roots.iter().map(write_root));
        let file_system = python::text(&self.file_system.to_string());
        python::object(&[("manifests", roots), ("fileSystem", file_system)])
    }
}

fn read_root(field: &Field<'_>) -> Result<RootAttachment, DocumentError> {
    let root = field.get("rootPath")?;
    let location = field.get("fileSystemLocationName")?.if_there();
    let inputs = field.get("inputManifestPath")?.if_there();
    let inputs_hash = field.get("inputManifestHash")?.if_there();
    let outputs = field.get("outputRelativeDirectories")?.if_there();
    let format = field.get("rootPathFormat")?;
    // In one case only: that is what the service takes.
    let format = match format.text()? {
        "posix" => PathFormat::Posix,
        "windows" => PathFormat::Windows,
        _ => return Err(format.wrong("posix or windows")),
    };
    if root.text()?.is_empty() {
        return Err(root.wrong("a path"));
    }
    let not_empty = |field: &Field<'_>| field.text().map_or(true, |text| !text.is_empty());
    Ok(RootAttachment {
        root: root.text()?.to_owned(),
        format,
        location: location
            .filter(not_empty)
            .map(|location| location.text().map(str::to_owned))
            .transpose()?,
        inputs: inputs
            .filter(not_empty)
            .map(|key| key.parse("the key of a manifest"))
            .transpose()?,
        inputs_hash: inputs_hash
            .filter(not_empty)
            .map(|hash| hash.parse("32 lower-case hexadecimal digits"))
            .transpose()?,
        outputs: outputs.map_or(Ok(Vec::new()), |outputs| outputs.texts())?,
    })
}

fn write_root(of: &RootAttachment) -> String {
    let mut fields = vec![("rootPath", python::text(&of.root))];
    if let Some(location) = of.location.as_ref().filter(|name| !name.is_empty()) {
        fields.push(("fileSystemLocationName", python::text(location)));
    }
    fields.push(("rootPathFormat", python::text(of.format.as_str())));
    if let Some(key) = &of.inputs {
        fields.push(("inputManifestPath", python::text(key.as_str())));
    }
    if let Some(hash) = of.inputs_hash {
        fields.push(("inputManifestHash", python::text(&hash.to_string())));
    }
    if !of.outputs.is_empty() {
        let outputs = of.outputs.iter().map(|output| python::text(output));
        fields.push(("outputRelativeDirectories", python::list(outputs)));
    }
    python::object(&fields)
}

/// A key that belongs to no root of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the manifest {key} belongs to no root of the job; the job has the roots {}",
    roots.join(", ")
)]
pub struct UnknownRoot {
    /// The key.
    pub key: String,
    /// The job's roots, quoted.
    pub roots: Vec<String>,
}

/// The roots of a job by what stands for them in keys: so the key of a manifest tells its root, and nothing is read.
#[derive(Debug, Clone)]
pub struct JobRoots<'a> {
    roots: &'a [RootAttachment],
    outputs: HashMap<ContentHash, usize>,
    inputs: HashMap<ContentHash, usize>,
}

impl<'a> JobRoots<'a> {
    /// Of roots that have one name in keys, the first counts, as it does for AWS's client.
    pub fn of(attachments: &'a Attachments) -> Self {
        let mut roots = Self {
            roots: &attachments.roots,
            outputs: HashMap::new(),
            inputs: HashMap::new(),
        };
        for (index, of) in attachments.roots.iter().enumerate() {
            let output = output_root_hash(of.location.as_deref(), &of.root);
            roots.outputs.entry(output).or_insert(index);
            let input = input_root_hash(of.format, &of.root);
            roots.inputs.entry(input).or_insert(index);
        }
        roots
    }

    /// The place in the attachments of the root that an output is below.
    pub fn of_output(&self, key: &OutputKey) -> Result<usize, UnknownRoot> {
        let found = self.outputs.get(&key.root).copied();
        found.ok_or_else(|| {
            let key = key.manifest_key();
            self.unknown(key.map_or_else(|error| error.to_string(), String::from))
        })
    }

    /// The place in the attachments of the root that inputs are below.
    pub fn of_input(&self, key: &InputKey) -> Result<usize, UnknownRoot> {
        let found = self.inputs.get(&key.root).copied();
        found.ok_or_else(|| {
            let key = key.manifest_key();
            self.unknown(key.map_or_else(|error| error.to_string(), String::from))
        })
    }

    fn unknown(&self, key: String) -> UnknownRoot {
        let roots = self.roots.iter().map(|of| format!("{:?}", of.root));
        UnknownRoot {
            key,
            roots: roots.collect(),
        }
    }
}
