//! Running cargo and other programs from the workspace's root.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
}

/// Where cargo builds: `CARGO_TARGET_DIR`, else `target`.
pub(crate) fn target() -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root().join(set)
}

/// The cargo that runs this program.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    program(
        &std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
        arguments,
    )
}

/// Any program, from the workspace's root and without standard input.
pub(crate) fn program<'a>(
    name: &(impl AsRef<std::ffi::OsStr> + ?Sized),
    arguments: impl IntoIterator<Item = &'a str>,
) -> Command {
    let mut command = Command::new(name);
    command
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null());
    command
}

/// Runs to the end; anything but success is an error that shows the command.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// How many tests ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TestCount {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl TestCount {
    /// Adds what a closing line of a test program says; other lines say nothing.
    fn add_line(&mut self, line: &str) {
        let Some(counts) = line.trim_start().strip_prefix("test result: ") else {
            return;
        };
        // After "ok. " or "FAILED. ": `3 passed; 0 failed; 1 ignored; ...`
        let (_, counts) = counts.split_once(". ").unwrap_or_default();
        for part in counts.split("; ") {
            let (number, word) = part.split_once(' ').unwrap_or_default();
            let number = number.parse::<u64>().unwrap_or_default();
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// Runs a `cargo test`, passing its output on, and says whether it succeeded and what it counted.
pub(crate) fn count_tests(command: &mut Command) -> Result<(bool, TestCount)> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let output = child.stdout.take().context("the output was not piped")?;
    let mut count = TestCount::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read what the tests print")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        count.add_line(&line);
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {}", shown(command)))?;
    Ok((status.success(), count))
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name();
    let words = name.into_iter().chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lines: &[&str]) -> TestCount {
        let mut count = TestCount::default();
        for line in lines {
            count.add_line(line);
        }
        count
    }

    #[test]
    fn the_closing_lines_of_all_test_programs_are_added_up() {
        let count = counted(&[
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.20s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
        ]);
        let expected = TestCount {
            passed: 4,
            failed: 2,
            ignored: 1,
        };
        assert_eq!(count, expected);
    }

    #[test]
    fn a_line_that_only_looks_like_a_count_adds_nothing() {
        let count = counted(&["3 passed; 1 failed", "test result: what", "test a ... ok"]);
        assert_eq!(count, TestCount::default());
    }

    #[test]
    fn a_failing_command_is_shown_in_its_error() {
        let error = succeed(&mut program("false", ["--now"])).unwrap_err();
        assert!(
            error.to_string().starts_with("false --now ended with"),
            "{error}"
        );
    }
}
