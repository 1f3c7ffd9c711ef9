//! Programs that time themselves: what the library and the reference implementations do in memory.
//!
//! Each prints one line of JSON, with the time of exactly the work and the memory that it took. `tests/bench/src/work.rs`,
//! `tests/peers/python/bench.py` and `tests/peers/README.md` say what is inside.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::harness::{Amount, Run};
use super::process;
use crate::cargo::{cargo, program, root, shown, succeed, target};
use crate::peers::Peer;

/// What one of them says.
#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct Report {
    pub(super) seconds: f64,
    /// Peak of anonymous memory, in bytes.
    #[serde(alias = "peak_rss_anon")]
    pub(super) peak_anon: u64,
    /// Length of the text that was read or made, in bytes.
    #[serde(default)]
    pub(super) text: u64,
    /// Bytes kept for each entry.
    #[serde(default)]
    pub(super) kept: f64,
    /// Pages of an index that were looked at.
    pub(super) pages: Option<u64>,
}

impl Report {
    /// From the last line that was printed; libraries print too.
    fn parse(output: &str) -> Result<Self> {
        let line = output.lines().last().unwrap_or_default();
        let said: Value =
            serde_json::from_str(line).with_context(|| format!("no report: {line}"))?;
        // The driver of `openjd-snapshots` wraps its answers.
        let said = said.get("ok").unwrap_or(&said);
        Self::deserialize(said).with_context(|| format!("no report: {line}"))
    }

    pub(super) fn run(&self, amount: Amount) -> Run {
        Run {
            time: Duration::from_secs_f64(self.seconds),
            memory: match amount {
                Amount::Peak | Amount::Sent => self.peak_anon,
                Amount::OverText => self.peak_anon.saturating_sub(self.text),
                Amount::EachEntry => self.kept.round() as u64,
            },
        }
    }
}

/// Runs the command, which reports.
fn hear(command: &mut Command) -> Result<Report> {
    let (_, output) = process::run_hearing(command)?;
    Report::parse(&output).with_context(|| format!("{} has to report", shown(command)))
}

/// Builds the program over the library, `tests/bench`.
pub(super) fn build_library() -> Result<()> {
    let words = ["--release", "--locked", "--package", "attachfs-bench"];
    succeed(cargo(["build"]).args(words))
}

/// The library.
pub(super) fn library<'a>(
    words: impl IntoIterator<Item = &'a str>,
    paths: &[&Path],
) -> Result<Report> {
    let path = target().join("release/attachfs-bench");
    hear(program(&path, words).args(paths))
}

/// `deadline-job-attachments`.
pub(super) fn python<'a>(
    words: impl IntoIterator<Item = &'a str>,
    paths: &[&Path],
) -> Result<Report> {
    python_with(words, paths, |_| ())
}

/// The same with something done to the command before it is started.
pub(super) fn python_with<'a>(
    words: impl IntoIterator<Item = &'a str>,
    paths: &[&Path],
    prepare: impl FnOnce(&mut Command),
) -> Result<Report> {
    let python = ready(Peer::Python)?;
    let script = root().join("tests/peers/python/bench.py");
    let mut command = program(&python, []);
    prepare(&mut command);
    hear(command.arg(script).args(words).args(paths))
}

/// `openjd-snapshots`: what its driver's operation `time` may be told, without `op`. `text` is the length of what is read.
pub(super) fn openjd(what: &Value, text: u64) -> Result<Report> {
    let mut request = json!({ "op": "time" });
    for (key, value) in what.as_object().context("a request is an object")? {
        request[key] = value.clone();
    }
    let driver = ready(Peer::Openjd)?;
    let report = hear(program(&driver, []).arg(request.to_string()))?;
    Ok(Report { text, ..report })
}

fn ready(peer: Peer) -> Result<std::path::PathBuf> {
    peer.ready()
        .with_context(|| format!("{} is not set up", peer.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_report_are_understood() {
        let plain = Report::parse(r#"{"seconds":0.5,"peak_anon":7000,"text":3000,"kept":70.4}"#);
        let plain = plain.unwrap();
        assert_eq!(plain.run(Amount::OverText).memory, 4000);
        assert_eq!(plain.run(Amount::EachEntry).memory, 70);
        let wrapped = Report::parse("noise\n{\"ok\":{\"seconds\":0.5,\"peak_rss_anon\":7000}}\n");
        let run = wrapped.unwrap().run(Amount::Peak);
        assert_eq!((run.time, run.memory), (Duration::from_millis(500), 7000));
    }

    #[test]
    fn an_error_is_no_report() {
        let error = Report::parse(r#"{"error":{"type":"KeyError"}}"#).unwrap_err();
        assert!(error.to_string().contains("KeyError"), "{error}");
    }
}
