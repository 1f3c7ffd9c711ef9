//! Looks at the files of a session that never change, and at what no session makes.

use std::path::PathBuf;

use attachfs_manifest::{ContentHash, Hasher};

use super::discard::{Layout, SurveyedDir};
use super::layout::{BASE, COMMITS, LAYERS, stacked_manifest_name};
use super::{Session, SessionError, check_hash, manifest_name};

impl Session {
    /// What is wrong with the manifests that the session shows after `layers` layers were added. Each is read through once.
    pub fn check_manifests(&self, layers: u32) -> Vec<SessionError> {
        let numbered = self.meta.manifests.iter().enumerate();
        let first = numbered
            .map(|(number, manifest)| self.check_file(BASE, &number.to_string(), manifest.hash));
        let mut wrong: Vec<_> = first.filter_map(Result::err).collect();
        match self.stack(layers) {
            Ok(stack) => {
                let added = stack.manifests.iter().filter(|one| one.layer > 0);
                let added = added.map(|one| {
                    let hash = one.manifest.hash;
                    self.check_file(LAYERS, &stacked_manifest_name(hash), hash)
                });
                wrong.extend(added.filter_map(Result::err));
            }
            Err(error) => wrong.push(error),
        }
        wrong
    }

    /// Whether the manifest of a commit is what was published, or is about to be.
    pub fn check_commit(&self, generation: u32, hash: ContentHash) -> Result<(), SessionError> {
        self.check_file(COMMITS, &manifest_name(generation), hash)
    }

    fn check_file(&self, dir: &str, name: &str, expected: ContentHash) -> Result<(), SessionError> {
        let dir = self.dir.dir(dir)?;
        let mut hasher = Hasher::new();
        dir.read_through(name, |piece| hasher.update(piece))?;
        check_hash(&dir, name, expected, hasher.finish())
    }

    /// What is in the session's directory that no session makes. It keeps the session from being discarded.
    pub fn foreign(&self) -> Result<Vec<PathBuf>, SessionError> {
        let mut unknown = Vec::new();
        SurveyedDir::survey(self.dir.again()?, Layout::Session, &mut unknown)?;
        Ok(unknown)
    }
}
