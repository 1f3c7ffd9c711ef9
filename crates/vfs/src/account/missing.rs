//! The names that were looked up in vain.

use std::time::Duration;

use attachfs_manifest::EscapedBytes;
use attachfs_tree::Ino;

use crate::{Asker, Vfs};

/// A name that was looked up and is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingName {
    /// Its path for messages.
    pub path: String,
    /// How often it was looked up.
    pub lookups: u64,
    /// When first, since the mount.
    pub first: Duration,
    /// Who looked it up first, if that could be told.
    pub asker: Option<Asker>,
}

/// The names that are missing, and look-ups of further ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissingAccount {
    /// Those that were looked up most often, and then earliest, come first.
    pub names: Vec<MissingName>,
    /// How many names are missing, those that there was no room for above included.
    pub count: u64,
    /// Look-ups of names of which nothing else is kept.
    pub other_lookups: u64,
}

impl Vfs {
    /// The names that were looked up and are not there, `most` of them by name.
    pub fn missing_names(&self, most: usize) -> MissingAccount {
        let mut all = self.missing.so_far();
        let namespace = self.namespace.read();
        // A manifest that was added since may have it.
        all.retain(|(parent, name, _)| self.at_name(&namespace, *parent, name).is_none());
        drop(namespace);
        all.sort_by(|(_, one_name, one), (_, other_name, other)| {
            let by_count = other.lookups.cmp(&one.lookups);
            by_count
                .then(one.first.cmp(&other.first))
                .then_with(|| one_name.cmp(other_name))
        });
        let count = all.len() as u64;
        let names = all
            .into_iter()
            .take(most)
            .map(|(parent, name, missed)| MissingName {
                path: self.describe_in(parent, &name),
                lookups: missed.lookups,
                first: missed.first,
                asker: missed.asker,
            });
        MissingAccount {
            names: names.collect(),
            count,
            other_lookups: self.missing.other_lookups(),
        }
    }

    /// A name in a directory as messages have it.
    fn describe_in(&self, parent: Ino, name: &[u8]) -> String {
        let name = EscapedBytes(name);
        if parent == Ino::ROOT {
            name.to_string()
        } else {
            format!("{}/{name}", self.describe(parent))
        }
    }
}
