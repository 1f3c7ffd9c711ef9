//! The call that makes a job of what was submitted.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use attachfs_jobs::{BundleParameter, BundleValue};
use attachfs_paths::StorageProfile;
use serde_json::{Map, Value, json};

use super::gathering::GatheredAssets;
use super::sending::SubmitPlace;

/// The `aws deadline create-job` call that uses an attachments document, as a line for a shell. Without a bundle its template is
/// `template.json`. Values of parameters are those of the submission.
pub fn create_job_call(
    assets: &GatheredAssets,
    place: &SubmitPlace,
    attachments: &Path,
    profile: Option<&StorageProfile>,
) -> String {
    let template = assets.bundle_files.iter();
    let template = template
        .map(PathBuf::as_path)
        .find(|path| path.file_stem().is_some_and(|stem| stem == "template"));
    let template = template.unwrap_or(Path::new("template.json"));
    let kind = match template.extension() {
        Some(end) if end == "yaml" => "YAML",
        _ => "JSON",
    };
    let mut call = format!(
        "aws deadline create-job --farm-id {} --queue-id {} --template-type {kind}",
        place.farm, place.queue
    );
    let mut option = |name: &str, value: &str| {
        // A String takes all that is written to it.
        let _ = write!(call, " --{name} {}", quoted(value));
    };
    for (name, usual, argument) in OF_THE_JOB {
        let given = assets.parameters.iter().find(|of| of.name == name);
        let given = given.and_then(|of| match &of.value {
            BundleValue::Other(text) | BundleValue::Path(text) => Some(&**text),
            BundleValue::Missing | BundleValue::Paths(_) => None,
        });
        if let Some(value) = given.or(usual) {
            option(argument, value);
        }
    }
    if let Some(profile) = profile {
        option("storage-profile-id", &profile.id);
    }
    let parameters: Map<String, Value> = assets.parameters.iter().filter_map(parameter).collect();
    if !parameters.is_empty() {
        option("parameters", &Value::from(parameters).to_string());
    }
    if !assets.roots.is_empty() {
        option("attachments", &format!("file://{}", attachments.display()));
    }
    let template = std::path::absolute(template).unwrap_or_else(|_| template.to_owned());
    option("template", &format!("file://{}", template.display()));
    call
}

/// Parameters of a bundle that say how the job is run, what they are without a value, and the options of the call. As AWS's client has
/// them (`DEFAULT_SUPPORTED_APP_PARAMETER_NAMES` in `client/job_bundle/submission.py`).
const OF_THE_JOB: [(&str, Option<&str>, &str); 5] = [
    ("deadline:priority", Some("50"), "priority"),
    (
        "deadline:targetTaskRunStatus",
        None,
        "target-task-run-status",
    ),
    (
        "deadline:maxFailedTasksCount",
        None,
        "max-failed-tasks-count",
    ),
    ("deadline:maxRetriesPerTask", None, "max-retries-per-task"),
    ("deadline:maxWorkerCount", None, "max-worker-count"),
];

/// A parameter as CreateJob takes it; those of other applications (`app:name`) and those without a value are left out.
fn parameter(of: &BundleParameter) -> Option<(String, Value)> {
    if of.name.contains(':') {
        return None;
    }
    let value = match &of.value {
        BundleValue::Missing => return None,
        BundleValue::Path(text) | BundleValue::Other(text) => text.clone(),
        BundleValue::Paths(paths) => json!(paths).to_string(),
    };
    let (member, is_json) = match of.kind.as_str() {
        "INT" => ("int", false),
        "FLOAT" => ("float", false),
        "PATH" => ("path", false),
        "RANGE_EXPR" => ("rangeExpr", false),
        "BOOL" => ("bool", true),
        "LIST[STRING]" => ("stringList", true),
        "LIST[PATH]" => ("pathList", true),
        "LIST[INT]" => ("intList", true),
        "LIST[FLOAT]" => ("floatList", true),
        "LIST[BOOL]" => ("boolList", true),
        "LIST[LIST[INT]]" => ("intListList", true),
        _ => ("string", false),
    };
    // What is no JSON after all is refused by the service, with its own words.
    let json = is_json.then(|| serde_json::from_str(&value).ok()).flatten();
    let value = json.unwrap_or(Value::String(value));
    Some((of.name.clone(), json!({ member: value })))
}

/// A word that a POSIX shell takes as it is.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_so_that_a_shell_takes_them_as_they_are() {
        assert_eq!(quoted("file:///a/b.json"), "file:///a/b.json");
        assert_eq!(quoted("/a b"), "'/a b'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
