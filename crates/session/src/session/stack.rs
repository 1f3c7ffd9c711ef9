//! The manifests that a mount shows, in their order, as they were added and replaced while it was mounted.
//!
//! ```text
//!     layers/1                 the diff that the first addition made (the file system's own)
//!     layers/1.json            the whole stack from then on
//!     layers/<hash>.manifest   the bytes of a manifest that was added
//!     layers/.staged-...       the bytes of one that a client wants to be added
//! ```
//!
//! A stack counts once the journal has the layer of its number. What was written before that and is not in the journal is written
//! again by the next addition of that number.

use std::path::Path;

use attachfs_durable::is_staged_name;
use attachfs_manifest::ContentHash;
use serde::{Deserialize, Serialize};

use super::layout::{BASE, LAYERS, stack_name, stacked_manifest_name};
use super::{BaseManifest, LONGEST_DESCRIPTION, Session, SessionError, read_checked};

/// One manifest of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackedManifest {
    /// Its number in the session, from 1. No other manifest of the session ever gets it.
    pub number: u32,
    /// What it is and where it is placed.
    #[serde(flatten)]
    pub manifest: BaseManifest,
    /// The layer with which it was added; 0 for those that the mount began with.
    #[serde(default)]
    pub layer: u32,
}

/// The manifests of a mount, the lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// In their order.
    pub manifests: Vec<StackedManifest>,
    /// The number that the next manifest gets.
    next: u32,
}

impl Stack {
    /// The stack that a mount begins with.
    pub fn first(manifests: &[BaseManifest]) -> Self {
        let numbered = (1..).zip(manifests);
        let manifests: Vec<_> = numbered
            .map(|(number, manifest)| StackedManifest {
                number,
                manifest: manifest.clone(),
                layer: 0,
            })
            .collect();
        let next = manifests.len() as u32 + 1;
        Self { manifests, next }
    }

    /// The manifest that somebody means: by its number, or by the name that it was given by, if only one has it.
    pub fn find(&self, named: &str) -> Option<usize> {
        let number: Option<u32> = named.parse().ok();
        let by_number = |one: &StackedManifest| Some(one.number) == number;
        if let Some(position) = self.manifests.iter().position(by_number) {
            return Some(position);
        }
        let by_name = |one: &StackedManifest| one.manifest.source == named;
        let position = self.manifests.iter().position(by_name)?;
        let is_only = !self.manifests[position + 1..].iter().any(by_name);
        is_only.then_some(position)
    }

    /// The stack with more manifests: over all others, or in the place of the one at this position.
    #[must_use]
    pub fn with(&self, added: &[BaseManifest], replaced: Option<usize>, layer: u32) -> Self {
        let mut stack = self.clone();
        let at = match replaced {
            Some(position) => {
                stack.manifests.remove(position);
                position
            }
            None => stack.manifests.len(),
        };
        let added_count = added.len() as u32;
        let numbered = (self.next..).zip(added);
        let added = numbered.map(|(number, manifest)| StackedManifest {
            number,
            manifest: manifest.clone(),
            layer,
        });
        stack.manifests.splice(at..at, added);
        stack.next += added_count;
        stack
    }
}

impl Session {
    /// Hands in the bytes of a manifest that is to be added, of a session that may be in use: durably, under a name of their own,
    /// which is returned. The process that has the session keeps them ([`keep_added`](Self::keep_added)), or they are taken back.
    pub fn hand_in(dir: &Path, bytes: &[u8]) -> Result<String, SessionError> {
        Ok(Self::hold(dir)?.dir(LAYERS)?.stage(bytes)?)
    }

    /// Removes what was handed in and not kept.
    pub fn take_back(dir: &Path, handed: &str) -> Result<(), SessionError> {
        if !is_staged_name(handed) {
            return Ok(());
        }
        match Self::hold(dir) {
            // It ended meanwhile.
            Err(SessionError::Missing(_)) => Ok(()),
            held => Ok(held?.dir(LAYERS)?.remove_file(handed)?),
        }
    }

    /// Keeps a manifest that was handed in and has this hash. Until a stack names it,
    /// [`remove_unnamed`](Self::remove_unnamed) removes it again.
    pub fn keep_added(&self, handed: &str, hash: ContentHash) -> Result<(), SessionError> {
        let layers = self.dir.dir(LAYERS)?;
        if !is_staged_name(handed) {
            return Err(SessionError::NotHandedIn(layers.path().join(handed)));
        }
        read_checked(&layers, handed, hash)?;
        Ok(layers.name_staged(handed, &stacked_manifest_name(hash))?)
    }

    /// Writes the stack that counts from this layer on, durably.
    pub fn keep_stack(&self, layer: u32, stack: &Stack) -> Result<(), SessionError> {
        let name = stack_name(layer);
        let failed = |source| SessionError::Description {
            path: self.layers_path().join(&name),
            source,
        };
        let bytes = serde_json::to_vec_pretty(stack).map_err(failed)?;
        Ok(self.dir.make_dir(LAYERS)?.publish(&name, &bytes)?)
    }

    /// The stack after this many layers.
    pub fn stack(&self, layers: u32) -> Result<Stack, SessionError> {
        if layers == 0 {
            return Ok(Stack::first(&self.meta.manifests));
        }
        let name = stack_name(layers);
        let failed = |source| SessionError::Description {
            path: self.layers_path().join(&name),
            source,
        };
        let bytes = self
            .dir
            .dir(LAYERS)?
            .read_at_most(&name, LONGEST_DESCRIPTION)?;
        serde_json::from_slice(&bytes).map_err(failed)
    }

    /// The bytes of a manifest of a stack, checked against its hash.
    pub fn stacked_bytes(&self, stacked: &StackedManifest) -> Result<Vec<u8>, SessionError> {
        let hash = stacked.manifest.hash;
        if stacked.layer > 0 {
            return read_checked(&self.dir.dir(LAYERS)?, &stacked_manifest_name(hash), hash);
        }
        // Those that the mount began with are numbered from 1, their files from 0.
        let name = (stacked.number - 1).to_string();
        read_checked(&self.dir.dir(BASE)?, &name, hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(source: &str) -> BaseManifest {
        BaseManifest {
            source: source.to_owned(),
            hash: ContentHash::of(source.as_bytes()),
            at: None,
        }
    }

    fn shown(stack: &Stack) -> Vec<(u32, &str, u32)> {
        let manifests = stack.manifests.iter();
        manifests
            .map(|one| (one.number, one.manifest.source.as_str(), one.layer))
            .collect()
    }

    #[test]
    fn a_manifest_that_takes_a_place_gets_a_number_of_its_own() {
        let stack = Stack::first(&[named("a"), named("b")]);
        let stack = stack.with(&[named("c")], None, 1);
        let stack = stack.with(&[named("d"), named("e")], Some(1), 2);
        let expected = [(1, "a", 0), (4, "d", 2), (5, "e", 2), (3, "c", 1)];
        assert_eq!(shown(&stack), expected);
        assert_eq!(stack.with(&[named("f")], None, 3).manifests[4].number, 6);
    }

    #[test]
    fn a_manifest_is_found_by_its_number_and_by_a_name_that_only_it_has() {
        let stack = Stack::first(&[named("7"), named("b"), named("b"), named("2")]);
        assert_eq!(stack.find("2"), Some(1));
        assert_eq!(stack.find("7"), Some(0));
        assert_eq!(stack.find("b"), None);
        assert_eq!(stack.find("c"), None);
    }
}
