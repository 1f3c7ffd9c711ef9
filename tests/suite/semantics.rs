//! Holds `docs/semantics.md` and `docs/commands.md` to their word: every promise and row names a test, and every name is that of a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names of test functions in a text: snake case, four words or more, in backticks.
fn named_tests(text: &str) -> Vec<&str> {
    let is_test = |name: &&str| {
        name.matches('_').count() >= 3
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.split('`').skip(1).step_by(2).filter(is_test).collect()
}

/// The names of all tests in the sources below a directory.
fn tests(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                tests(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests_in(&fs::read_to_string(&path).unwrap(), found);
        }
    }
}

/// A test is a function with an attribute that says so, or one in a list that a macro makes tests of.
fn tests_in(source: &str, found: &mut BTreeSet<String>) {
    let mut is_marked = false;
    let mut in_list = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_marked = true;
        } else if let Some((_, rest)) = line.split_once("fn ") {
            let name = rest.split(['(', '<']).next().unwrap();
            if std::mem::take(&mut is_marked) {
                found.insert(name.to_owned());
            }
        } else if line.ends_with("![") {
            in_list = true;
        } else if line.starts_with(']') {
            in_list = false;
        }
        if let Some((_, list)) = line.split_once("![").filter(|_| line.ends_with("];")) {
            let names = list.trim_end_matches("];").split([',', ':']);
            found.extend(names.map(|name| name.trim().to_owned()));
        } else if in_list {
            let names = line.split(',').map(str::trim);
            found.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
}

#[test]
fn a_function_that_is_no_test_holds_no_promise() {
    let mut found = BTreeSet::new();
    tests_in(
        "fn of_a_fixture() {}\n#[test]\n#[ignore]\nfn with_an_attribute() {}\nfn behind_a_test() {}\n\
         on_both_stores![\n    in_a_list, also_in_it,\n];\nlet text = \"fn in_a_text\";\non_s3![in_a_short_list];\n",
        &mut found,
    );
    for name in [
        "with_an_attribute",
        "in_a_list",
        "also_in_it",
        "in_a_short_list",
    ] {
        assert!(found.contains(name), "{name}: {found:?}");
    }
    for name in ["of_a_fixture", "behind_a_test", "in_a_text"] {
        assert!(!found.contains(name), "{name}: {found:?}");
    }
}

/// The names of all tests that there are.
fn known_tests(root: &Path) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for dir in ["crates", "mount", "tests"] {
        tests(&root.join(dir), &mut known);
    }
    known
}

#[test]
fn every_verb_of_the_deadline_client_has_a_row_and_every_row_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/commands.md")).unwrap();
    let known = known_tests(&root);
    let mut missing = BTreeSet::from([
        "manifest snapshot",
        "manifest diff",
        "manifest upload",
        "manifest download",
        "attachment upload",
        "attachment download",
        "job download-output",
        "job download-input",
        "queue sync-output",
        "bundle submit",
    ]);
    for row in text.lines().filter(|line| line.starts_with("| `deadline ")) {
        let verb = row.strip_prefix("| `deadline ").unwrap_or_default();
        missing.retain(|known| !verb.starts_with(known));
        let tests = named_tests(row);
        assert!(!tests.is_empty(), "no test holds this row: {row}");
        for test in tests {
            assert!(known.contains(test), "there is no test {test}: {row}");
        }
    }
    assert!(missing.is_empty(), "there are no rows of {missing:?}");
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/semantics.md")).unwrap();
    let known = known_tests(&root);
    let mut promises = 0;
    for promise in text.split("\n- ").skip(1) {
        let promise = promise.split("\n\n").next().unwrap();
        let tests = named_tests(promise);
        assert!(
            !tests.is_empty() || promise.contains("](formats.md)"),
            "no test holds this: {promise}"
        );
        for test in tests {
            assert!(
                known.contains(test),
                "there is no test {test}, which holds this: {promise}"
            );
            promises += 1;
        }
    }
    assert!(promises > 30, "only {promises} tests are named");
}
