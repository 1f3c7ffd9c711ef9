//! The parameters of a bundle: of those that are paths, what flows where.

use std::collections::BTreeMap;

use attachfs_paths::{ForeignPath, PathFormat};
use serde_json::Value;

use super::error::BundleError;
use super::references::BundleReferences;
use crate::documents::{DocumentError, Field};

/// Whether a job reads or writes what a path leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DataFlow {
    /// It speaks of it.
    #[default]
    None,
    /// It reads it.
    In,
    /// It writes it.
    Out,
    /// Both.
    InOut,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ObjectType {
    /// A directory and everything in it.
    #[default]
    Directory,
    /// A file.
    File,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleValue {
    /// None is given.
    Missing,
    /// A path, absolute unless it is empty or a URI.
    Path(String),
    /// Several paths, as of a path.
    Paths(Vec<String>),
    /// Anything else, as JSON writes it; a text as it is.
    Other(String),
}

/// A parameter of a template, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleParameter {
    /// Its name.
    pub name: String,
    /// Its type: `PATH`, `INT`, `LIST[STRING]` and so on.
    pub kind: String,
    /// Whether the job reads or writes it, if it is a path.
    pub flow: DataFlow,
    /// What it leads to, if it is a path.
    pub object: ObjectType,
    /// Its value.
    pub value: BundleValue,
}

/// Values that were given with a submission.
#[derive(Debug, Clone, Copy)]
pub struct GivenParameters<'a> {
    /// By the names of parameters. Several paths are a list in JSON. Names that the template does not have are left aside:
    /// they may be of the queue.
    pub values: &'a BTreeMap<String, String>,
    /// Where relative paths among them begin.
    pub working_dir: &'a ForeignPath,
}

const PATH: &str = "PATH";
const PATHS: &str = "LIST[PATH]";

/// A parameter as the template has it.
struct Definition {
    name: String,
    kind: String,
    flow: DataFlow,
    object: ObjectType,
    default: Option<BundleValue>,
    value: Option<BundleValue>,
}

/// What is used of a template.
pub(super) struct Template {
    pub(super) name: Option<String>,
    pub(super) allows_uris: bool,
    definitions: Vec<Definition>,
}

pub(super) fn read_template(template: &Field<'_>) -> Result<Template, DocumentError> {
    // This extension of the language also leaves the case of types aside.
    let extensions = template.get("extensions")?.if_there();
    let extensions = extensions.map_or(Ok(Vec::new()), |field| field.texts())?;
    let has_expressions = extensions.iter().any(|name| name == "EXPR");
    let mut definitions: Vec<Definition> = Vec::new();
    if let Some(parameters) = template.get("parameterDefinitions")?.if_there() {
        for field in parameters.list()? {
            let definition = read_definition(&field, has_expressions)?;
            // Of two with one name the last counts.
            definitions.retain(|of| of.name != definition.name);
            definitions.push(definition);
        }
    }
    let name = template.get("name")?.if_there();
    Ok(Template {
        name: name
            .map(|name| name.text().map(str::to_owned))
            .transpose()?,
        allows_uris: has_expressions,
        definitions,
    })
}

fn read_definition(field: &Field<'_>, any_case: bool) -> Result<Definition, DocumentError> {
    let mut kind = field.get("type")?.text()?.to_owned();
    if any_case {
        kind.make_ascii_uppercase();
    }
    let flow = field.get("dataFlow")?;
    let object = field.get("objectType")?;
    let flow = match flow
        .clone()
        .if_there()
        .map(|flow| flow.text())
        .transpose()?
    {
        None => DataFlow::default(),
        Some("NONE") => DataFlow::None,
        Some("IN") => DataFlow::In,
        Some("OUT") => DataFlow::Out,
        Some("INOUT") => DataFlow::InOut,
        Some(_) => return Err(flow.wrong("NONE, IN, OUT or INOUT")),
    };
    let object = match object
        .clone()
        .if_there()
        .map(|object| object.text())
        .transpose()?
    {
        None => ObjectType::default(),
        Some("FILE") => ObjectType::File,
        Some("DIRECTORY") => ObjectType::Directory,
        Some(_) => return Err(object.wrong("FILE or DIRECTORY")),
    };
    let default = field.get("default")?.if_there();
    Ok(Definition {
        name: field.get("name")?.text()?.to_owned(),
        default: default
            .map(|default| value_of(&kind, &default))
            .transpose()?,
        kind,
        flow,
        object,
        value: None,
    })
}

fn value_of(kind: &str, field: &Field<'_>) -> Result<BundleValue, DocumentError> {
    match kind {
        PATH => Ok(BundleValue::Path(field.text()?.to_owned())),
        PATHS => match field.value("a list of paths")? {
            Value::String(json) => paths_in(json)
                .map(BundleValue::Paths)
                .ok_or_else(|| field.wrong("a list of paths")),
            _ => Ok(BundleValue::Paths(field.texts()?)),
        },
        _ => Ok(BundleValue::Other(match field.value("a value")? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })),
    }
}

/// A list of paths in JSON.
fn paths_in(json: &str) -> Option<Vec<String>> {
    serde_json::from_str(json).ok()
}

/// What the names of parameters begin with that are the service's own: how a job is run.
const OF_THE_SERVICE: &str = "deadline:";

/// Reads the values that a bundle gives. Those of the service become parameters, too; others that the template does not have are
/// left aside: they are a queue's or an application's.
pub(super) fn read_values(
    document: &Field<'_>,
    template: &mut Template,
) -> Result<(), DocumentError> {
    if document.is_empty() {
        return Ok(());
    }
    let Some(values) = document.get("parameterValues")?.if_there() else {
        return Ok(());
    };
    for field in values.list()? {
        let name = field.get("name")?.text()?;
        let known = template.definitions.iter_mut().find(|of| of.name == name);
        if let Some(definition) = known {
            definition.value = Some(value_of(&definition.kind, &field.get("value")?)?);
        } else if name.starts_with(OF_THE_SERVICE) {
            let kind = "STRING".to_owned();
            template.definitions.push(Definition {
                name: name.to_owned(),
                value: Some(value_of(&kind, &field.get("value")?)?),
                kind,
                flow: DataFlow::None,
                object: ObjectType::File,
                default: None,
            });
        }
    }
    Ok(())
}

/// Whether a value is `scheme://...`, with a scheme of two characters at least: `C://a` is a path.
fn is_uri(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        let mut chars = scheme.chars();
        let begins = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
        let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-');
        begins && scheme.len() > 1 && chars.all(rest)
    })
}

/// A path below a folder, normalized by text; one that is absolute, empty or a URI as it is.
fn below(folder: &ForeignPath, path: &str, allows_uris: bool) -> String {
    let is_absolute = ForeignPath::parse(folder.format(), path).is_absolute();
    if path.is_empty() || is_absolute || (allows_uris && is_uri(path)) {
        return path.to_owned();
    }
    text(&folder.join(path).normalized())
}

fn text(path: &ForeignPath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

/// The default of a path, which has to lie in the bundle.
fn default_in(
    folder: &ForeignPath,
    name: &str,
    path: &str,
    allows_uris: bool,
) -> Result<String, BundleError> {
    if path.is_empty() || (allows_uris && is_uri(path)) {
        return Ok(path.to_owned());
    }
    let relative = ForeignPath::parse(folder.format(), path);
    let joined = folder.join(path).normalized();
    // On Windows `\a` and `C:a` are not absolute, and lead out.
    if !relative.anchor().is_empty() || !joined.is_within(&folder.normalized()) {
        return Err(BundleError::Default {
            name: name.to_owned(),
            path: path.to_owned(),
        });
    }
    Ok(text(&joined))
}

/// The parameters with the values that the bundle gives them.
pub(super) fn in_bundle(
    folder: &ForeignPath,
    template: &mut Template,
) -> Result<Vec<BundleParameter>, BundleError> {
    let uris = template.allows_uris;
    let mut parameters = Vec::new();
    for definition in template.definitions.drain(..) {
        let Definition {
            name,
            kind,
            flow,
            object,
            default,
            value,
        } = definition;
        let value = match (value, default) {
            (Some(BundleValue::Path(path)), _) => BundleValue::Path(below(folder, &path, uris)),
            (Some(BundleValue::Paths(paths)), _) => {
                let paths = paths.iter().map(|path| below(folder, path, uris));
                BundleValue::Paths(paths.collect())
            }
            (None, Some(BundleValue::Path(path))) => {
                BundleValue::Path(default_in(folder, &name, &path, uris)?)
            }
            (None, Some(BundleValue::Paths(paths))) => {
                let paths = paths
                    .iter()
                    .map(|path| default_in(folder, &name, path, uris));
                BundleValue::Paths(paths.collect::<Result<_, _>>()?)
            }
            (value, default) => value.or(default).unwrap_or(BundleValue::Missing),
        };
        parameters.push(BundleParameter {
            name,
            kind,
            flow,
            object,
            value,
        });
    }
    Ok(parameters)
}

/// Takes the value that was given, if one was.
pub(super) fn give(
    parameter: &mut BundleParameter,
    given: &GivenParameters<'_>,
    allows_uris: bool,
) -> Result<(), BundleError> {
    let Some(value) = given.values.get(&parameter.name) else {
        return Ok(());
    };
    let below = |path: &str| below(given.working_dir, path, allows_uris);
    parameter.value = match parameter.kind.as_str() {
        PATH => BundleValue::Path(below(value)),
        PATHS => {
            let paths = paths_in(value).ok_or_else(|| BundleError::Value {
                name: parameter.name.clone(),
                value: value.clone(),
            })?;
            BundleValue::Paths(paths.iter().map(|path| below(path)).collect())
        }
        _ => BundleValue::Other(value.clone()),
    };
    Ok(())
}

/// Adds what a parameter says to what a job needs, makes and speaks of. A file that is written stands for its directory, because
/// only directories are uploaded.
pub(super) fn add(
    parameter: &BundleParameter,
    format: PathFormat,
    allows_uris: bool,
    assets: &mut BundleReferences,
) -> Result<(), BundleError> {
    let paths = match &parameter.value {
        BundleValue::Missing => return Err(BundleError::NoValue(parameter.name.clone())),
        BundleValue::Other(_) => return Ok(()),
        BundleValue::Path(path) => std::slice::from_ref(path),
        BundleValue::Paths(paths) => paths,
    };
    let are_files = |path: &&String| !(path.is_empty() || (allows_uris && is_uri(path)));
    for path in paths.iter().filter(are_files) {
        if parameter.flow == DataFlow::None {
            assets.references.push(path.clone());
        }
        if matches!(parameter.flow, DataFlow::In | DataFlow::InOut) {
            match parameter.object {
                ObjectType::File => assets.input_files.push(path.clone()),
                ObjectType::Directory => assets.input_directories.push(path.clone()),
            }
        }
        if matches!(parameter.flow, DataFlow::Out | DataFlow::InOut) {
            assets.outputs.push(match parameter.object {
                ObjectType::File => text(&ForeignPath::parse(format, path).parent()),
                ObjectType::Directory => path.clone(),
            });
        }
    }
    Ok(())
}
