//! Holds `docs/semantics.md` to its word: every promise names a test, and every named test exists.

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

/// The names of all functions in the sources below a directory.
fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                functions(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for line in text.lines() {
                if let Some((_, rest)) = line.split_once("fn ")
                    && let Some((name, _)) = rest.split_once('(')
                {
                    found.insert(name.to_owned());
                }
            }
        }
    }
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/semantics.md")).unwrap();
    let mut known = BTreeSet::new();
    for dir in ["crates", "mount", "tests"] {
        functions(&root.join(dir), &mut known);
    }
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
