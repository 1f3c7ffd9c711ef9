//! Programs of the Rust registry that are run beside ours: pinned versions, installed in the target folder.

use std::path::PathBuf;

use anyhow::Result;

use crate::cargo::{cargo, program, succeed, target};

/// A program of a crate with the same name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

impl Tool {
    fn path(self) -> PathBuf {
        target().join("tools/bin").join(self.name)
    }

    /// Its path, if this version is installed.
    pub(crate) fn ready(self) -> Option<PathBuf> {
        let path = self.path();
        let output = program(&path, ["--version"]).output().ok()?;
        let expected = format!("{} {}", self.name, self.version);
        (output.stdout.trim_ascii() == expected.as_bytes()).then_some(path)
    }

    /// Its path, installed now if it is missing or of another version.
    pub(crate) fn installed(self) -> Result<PathBuf> {
        if let Some(path) = self.ready() {
            return Ok(path);
        }
        let Self { name, version } = self;
        println!("installing {name} {version}: takes some minutes, once");
        let mut install = cargo(["install", "--quiet", "--locked", "--force", name]);
        install
            .args(["--version", version, "--root"])
            .arg(target().join("tools"))
            // Its own temporary build folder, which cargo removes.
            .env_remove("CARGO_TARGET_DIR");
        succeed(&mut install)?;
        Ok(self.path())
    }
}
