//! Documents of rules.

use proptest::prelude::*;

use super::foreign::any_format;
use crate::{MappingRule, PathFormat, parse_rules, rules_document, rules_list};

#[test]
fn documents_and_bare_lists_are_read() {
    let rule = MappingRule {
        source_format: PathFormat::Windows,
        source: r"C:\a".to_owned(),
        destination: "/b".to_owned(),
    };
    let written = |format: &str| {
        format!(
            r#"[{{"source_path_format":"{format}","source_path":"C:\\a","destination_path":"/b"}}]"#
        )
    };
    for list in [written("windows"), written("WINDOWS")] {
        for text in [
            list.clone(),
            format!(r#"{{"version":"pathmapping-1.0","path_mapping_rules":{list}}}"#),
            format!(r#"{{"path_mapping_rules":{list}}}"#),
        ] {
            assert_eq!(
                parse_rules(text.as_bytes()).unwrap(),
                std::slice::from_ref(&rule),
                "{text}"
            );
        }
    }
    let rules = [rule];
    assert_eq!(rules_list(&rules), {
        r#"[{"destination_path":"/b","source_path":"C:\\a","source_path_format":"windows"}]"#
    });
    assert_eq!(rules_document(&rules), {
        r#"{"path_mapping_rules":[{"destination_path":"/b","source_path":"C:\\a","source_path_format":"WINDOWS"}],"version":"pathmapping-1.0"}"#
    });
}

#[test]
fn an_error_names_the_rule_and_its_field() {
    let good = r#"{"source_path_format":"posix","source_path":"/a","destination_path":"/b"}"#;
    let bad = |rule: &str| format!("[{good},{rule}]");
    for (text, message) in [
        (bad("7"), "path mapping rule 1 is no object"),
        (
            bad("{}"),
            "path mapping rule 1: source_path_format is missing",
        ),
        (
            bad(r#"{"source_path_format":"mac"}"#),
            "path mapping rule 1: source_path_format is \"mac\", POSIX or WINDOWS is expected",
        ),
        (
            bad(r#"{"source_path_format":"posix","source_path":5}"#),
            "path mapping rule 1: source_path is no text",
        ),
        (
            bad(r#"{"source_path_format":"posix","source_path":""}"#),
            "path mapping rule 1: source_path is empty",
        ),
        (
            bad(r#"{"source_path_format":"posix","source_path":"/a"}"#),
            "path mapping rule 1: destination_path is missing",
        ),
        (
            bad(&good.replace('}', r#","destination_format":"posix"}"#)),
            "path mapping rule 1: destination_format is not known",
        ),
        (
            r#"{"version":"pathmapping-2.0","path_mapping_rules":[]}"#.to_owned(),
            "the version of the path mapping rules is \"pathmapping-2.0\": \"pathmapping-1.0\" is expected",
        ),
        (
            r#"{"version":"pathmapping-1.0"}"#.to_owned(),
            "there are no path mapping rules: a list or an object with path_mapping_rules is expected",
        ),
        (
            "5".to_owned(),
            "there are no path mapping rules: a list or an object with path_mapping_rules is expected",
        ),
        ("[".to_owned(), "the path mapping rules are no JSON"),
    ] {
        let error = parse_rules(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message, "{text}");
    }
}

fn any_rule() -> impl Strategy<Value = MappingRule> {
    (any_format(), ".{1,12}", ".{1,12}").prop_map(|(source_format, source, destination)| {
        MappingRule {
            source_format,
            source,
            destination,
        }
    })
}

proptest! {
    #[test]
    fn rules_read_as_they_are_written(rules in prop::collection::vec(any_rule(), 0..5)) {
        for text in [rules_document(&rules), rules_list(&rules)] {
            prop_assert_eq!(&parse_rules(text.as_bytes()).unwrap(), &rules);
        }
    }

    #[test]
    fn any_bytes_are_rules_or_an_error(text: Vec<u8>) {
        let _ = parse_rules(&text);
    }
}
