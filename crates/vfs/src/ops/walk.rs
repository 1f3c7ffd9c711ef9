//! What a path leads to, name by name, for `why`.

use attachfs_manifest::{ManifestPath, Name};
use attachfs_tree::{Ino, Kind, Namespace};

use crate::Vfs;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walk {
    /// To this inode, under this path: the names as the directories have them.
    Found {
        /// The inode.
        ino: Ino,
        /// `None` is the root.
        path: Option<ManifestPath>,
    },
    /// Nowhere: there is no such name.
    Missing {
        /// The first part of the path that is missing.
        at: ManifestPath,
        /// What the manifests have there, if the job took it away.
        removed: Option<Removed>,
    },
    /// Nowhere: what stands on the way is no directory.
    Blocked {
        /// The part of the path that leads to it.
        at: ManifestPath,
        /// What it is.
        kind: Kind,
        /// What the manifests have at the whole path, if the job put this in the way.
        removed: Option<Removed>,
    },
}

/// What the job took away from a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// What it is.
    pub kind: Option<Kind>,
    /// Where it is now, if the job renamed it.
    pub now_at: Option<ManifestPath>,
}

fn joined(names: &[Name]) -> Option<ManifestPath> {
    let names: Vec<&[u8]> = names.iter().map(Name::as_bytes).collect();
    ManifestPath::new(&names.join(&b'/')).ok()
}

/// What the base has there, and the job took away.
fn removed(namespace: &Namespace, of_base: Option<Ino>) -> Option<Removed> {
    of_base.map(|ino| Removed {
        kind: namespace.base().plain_kind(ino),
        now_at: namespace.path(ino),
    })
}

impl Vfs {
    /// Where a path leads; links are not followed.
    pub fn walk(&self, path: &ManifestPath) -> Walk {
        let namespace = self.namespace.read();
        let mut ino = Ino::ROOT;
        let mut names: Vec<Name> = Vec::new();
        for component in path.components() {
            let kind = namespace.kind(ino).unwrap_or(Kind::Dir);
            if kind != Kind::Dir {
                let at = joined(&names).unwrap_or_else(|| path.clone());
                let base = namespace.base();
                let mut whole = path.components();
                let of_base = whole.try_fold(Ino::ROOT, |dir, name| base.child(dir, name));
                let removed = removed(&namespace, of_base);
                return Walk::Blocked { at, kind, removed };
            }
            let name = Name::new(component).expect("a component of a path is a name");
            let Some((child, written)) = self.at_name(&namespace, ino, component) else {
                names.push(name);
                return Walk::Missing {
                    at: joined(&names).unwrap_or_else(|| path.clone()),
                    removed: removed(&namespace, namespace.base().child(ino, component)),
                };
            };
            names.push(written.unwrap_or(name));
            ino = child;
        }
        Walk::Found {
            ino,
            path: joined(&names),
        }
    }
}
