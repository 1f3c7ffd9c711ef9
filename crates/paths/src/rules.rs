//! Mapping rules and the documents that list them.
//!
//! ```text
//!     {"version":"pathmapping-1.0","path_mapping_rules":[RULE, ...]}     Open Job Description; formats in upper case
//!     [RULE, ...]                                                        Deadline Cloud's client; formats in lower case
//!     RULE = {"source_path_format":"posix","source_path":"/a","destination_path":"/b"}
//! ```
//! Both are read with formats in either case, and a document also without its version, as AWS's client reads it.

use attachfs_manifest::ContentHash;
use serde_json::{Map, Value, json};

use crate::PathFormat;
use crate::fields::{self, FieldProblem};

const VERSION: &str = "pathmapping-1.0";
const RULES: &str = "path_mapping_rules";
const FORMAT: &str = "source_path_format";
const SOURCE: &str = "source_path";
const DESTINATION: &str = "destination_path";

/// What is at one place on the system that wrote a path is at another place here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MappingRule {
    /// The format of `source`.
    pub source_format: PathFormat,
    /// A directory, as it is written on its system.
    pub source: String,
    /// The directory that has its place, in the format of the system that maps.
    pub destination: String,
}

impl MappingRule {
    /// What stands for the rule's source in the names of manifests: AWS's client takes a rule for a local manifest if these
    /// 32 digits occur in the manifest's file name.
    pub fn source_hash(&self) -> ContentHash {
        ContentHash::of(self.source.as_bytes())
    }
}

/// Why a text is no list of rules. Rules are counted from 0.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Not JSON.
    #[error("the path mapping rules are no JSON")]
    Json(#[source] serde_json::Error),
    /// JSON, and something else.
    #[error("there are no path mapping rules: a list or an object with {RULES} is expected")]
    Form,
    /// A document of a version that is not known.
    #[error("the version of the path mapping rules is {0}: {VERSION:?} is expected")]
    Version(String),
    /// Something that is no rule.
    #[error("path mapping rule {index} is no object")]
    NotAnObject {
        /// Its place in the list.
        index: usize,
    },
    /// A rule with a field that is not as it should be.
    #[error("path mapping rule {index}: {field} {problem}")]
    Field {
        /// The rule's place in the list.
        index: usize,
        /// The name of the field.
        field: String,
        /// What is wrong.
        problem: FieldProblem,
    },
}

/// The rules of a document or a bare list, in their order.
pub fn parse_rules(text: &[u8]) -> Result<Vec<MappingRule>, RulesError> {
    let rules = match serde_json::from_slice(text).map_err(RulesError::Json)? {
        Value::Array(rules) => rules,
        Value::Object(mut document) => {
            if let Some(version) = document.get("version")
                && version != VERSION
            {
                return Err(RulesError::Version(version.to_string()));
            }
            match document.remove(RULES) {
                Some(Value::Array(rules)) => rules,
                _ => return Err(RulesError::Form),
            }
        }
        _ => return Err(RulesError::Form),
    };
    let rules = rules.iter().enumerate();
    rules
        .map(|(index, rule)| {
            let Value::Object(rule) = rule else {
                return Err(RulesError::NotAnObject { index });
            };
            parse_rule(rule).map_err(|(field, problem)| RulesError::Field {
                index,
                field: field.to_owned(),
                problem,
            })
        })
        .collect()
}

fn parse_rule(rule: &Map<String, Value>) -> Result<MappingRule, (&str, FieldProblem)> {
    let at = |field| move |problem| (field, problem);
    let expected = "POSIX or WINDOWS";
    let format = fields::one_of(rule, FORMAT, expected, |text| text.parse().ok());
    let parsed = MappingRule {
        source_format: format.map_err(at(FORMAT))?,
        source: fields::text(rule, SOURCE).map_err(at(SOURCE))?.to_owned(),
        destination: fields::text(rule, DESTINATION)
            .map_err(at(DESTINATION))?
            .to_owned(),
    };
    let mut names = rule.keys();
    match names.find(|name| ![FORMAT, SOURCE, DESTINATION].contains(&name.as_str())) {
        Some(name) => Err((name, FieldProblem::Unknown)),
        None => Ok(parsed),
    }
}

/// The rules as a document of Open Job Description, which [`parse_rules`] reads.
pub fn rules_document(rules: &[MappingRule]) -> String {
    let rules = values(rules, PathFormat::as_upper_str);
    json!({ "version": VERSION, RULES: rules }).to_string()
}

/// The rules as a bare list, as Deadline Cloud's client writes them; [`parse_rules`] reads it.
pub fn rules_list(rules: &[MappingRule]) -> String {
    values(rules, PathFormat::as_str).to_string()
}

fn values(rules: &[MappingRule], format: impl Fn(PathFormat) -> &'static str) -> Value {
    let of = |rule: &MappingRule| {
        json!({
            FORMAT: format(rule.source_format), SOURCE: rule.source, DESTINATION: rule.destination,
        })
    };
    rules.iter().map(of).collect()
}
