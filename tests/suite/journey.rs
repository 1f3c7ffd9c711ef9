//! The main job: `run`, and the same journey in steps, as their users see them.

mod running;
mod stepping;

use serde_json::Value;

use crate::process::Said;

/// The part of a line of the account that follows its first word.
fn line<'a>(said: &'a Said, word: &str) -> &'a str {
    let found = said.err.lines().chain(said.out.lines()).find_map(|line| {
        let line = line.strip_prefix("attachfs: ").unwrap_or(line);
        line.strip_prefix(word)?.strip_prefix(' ')
    });
    found
        .unwrap_or_else(|| panic!("no line {word:?} in {said:#?}"))
        .trim()
}

/// The address below the line with the diff's hash.
fn diff_address(said: &Said) -> String {
    let text = said.err.clone() + &said.out;
    let mut lines = text
        .lines()
        .map(|line| line.trim_start_matches("attachfs:"));
    lines
        .find(|line| line.trim_start().starts_with("diff "))
        .unwrap_or_else(|| panic!("no diff in {said:#?}"));
    lines.next().unwrap().trim().to_owned()
}

/// The path that a snapshot's manifest was published under.
fn base_address(said: &Said) -> String {
    let text = said.err.clone();
    let mut lines = text
        .lines()
        .map(|line| line.trim_start_matches("attachfs:"));
    lines
        .find(|line| line.trim_start().starts_with("stored "))
        .unwrap_or_else(|| panic!("no snapshot in {said:#?}"));
    lines.next().unwrap().trim().to_owned()
}

/// Where a commit published its diff, as `--json` says it.
fn address(commit: &Value) -> String {
    commit["manifest"]["address"].as_str().unwrap().to_owned()
}
