//! The packages of the workspace and what their manifests depend on, as `cargo metadata` tells it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// All packages of this workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Workspace {
    pub(super) packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) dependencies: Vec<Dependency>,
    manifest_path: PathBuf,
    #[serde(skip)]
    pub(super) folder: PathBuf,
}

#[derive(Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// `dev`, `build`, or nothing for what is linked in.
    kind: Option<String>,
    /// The platforms for which it is needed; nothing for all.
    pub(super) target: Option<String>,
    pub(super) features: Vec<String>,
}

impl Workspace {
    pub(super) fn read() -> Self {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([
                "metadata",
                "--format-version",
                "1",
                "--no-deps",
                "--offline",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo, which runs this test, starts");
        assert!(
            output.status.success(),
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut workspace: Self =
            serde_json::from_slice(&output.stdout).expect("cargo metadata writes its JSON");
        for package in &mut workspace.packages {
            let folder = package.manifest_path.parent();
            folder
                .expect("a manifest is in a folder")
                .clone_into(&mut package.folder);
        }
        workspace
    }

    /// The packages that users get: those in `crates/` and `mount/`.
    pub(super) fn product(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| {
            let place = package.folder.strip_prefix(&self.workspace_root);
            place.is_ok_and(|place| place.starts_with("crates") || place == Path::new("mount"))
        })
    }

    pub(super) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

impl Package {
    /// The name without the product's: `attachfs-store-s3` is `store-s3`.
    pub(super) fn short_name(&self) -> &str {
        self.name.strip_prefix("attachfs-").unwrap_or(&self.name)
    }

    /// What is needed to build the crate, tests left out.
    pub(super) fn shipped_dependencies(&self) -> impl Iterator<Item = &Dependency> {
        let not_for_tests = |needed: &&Dependency| needed.kind.as_deref() != Some("dev");
        self.dependencies.iter().filter(not_for_tests)
    }
}
