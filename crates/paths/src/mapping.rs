//! Rules made ready to map many paths.
//!
//! The sources of the rules are a trie: each edge is one component (the first is the anchor), and a node where a rule ends
//! has its destination. A path is followed as far as there are edges; the last destination on the way is that of the
//! longest rule, and what was not used of the path goes behind it. So the time for a path depends on its components, not on
//! the number of rules.

use std::borrow::Cow;
use std::collections::HashMap;

use attachfs_manifest::{FoldedName, ManifestPath};

use crate::split::{Split, components};
use crate::{ForeignPath, MappingRule, PathFormat, UnfitName};

/// Maps the paths of one format to places here.
///
/// The longest rule that has a path's beginning wins, by whole components; of two rules with the same source the later one does.
/// Components `..` count as any other. On Windows case does not count, and what is behind the rule's source keeps its case. The
/// rule `Z:` has `Z:t`, which is relative, and not `Z:\t`; as in AWS's library; to mean the drive, write
/// `Z:\`.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Of all sources; `None` if there are no rules.
    source_format: Option<PathFormat>,
    /// The first is the root.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// By component, without its case where that does not count.
    children: HashMap<Box<[u8]>, usize>,
    destination: Option<ForeignPath>,
}

/// Rules for paths of two formats in one list: nobody could say of a path which of them it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("path mapping rule {index} is for paths of another format than those before it")]
pub struct MixedFormats {
    /// The first rule with another format than rule 0.
    pub index: usize,
}

impl Mapping {
    /// Rules of one source format, and the format of all their destinations.
    pub fn new(rules: &[MappingRule], destination: PathFormat) -> Result<Self, MixedFormats> {
        let source_format = rules.first().map(|rule| rule.source_format);
        let mut mapping = Self {
            source_format,
            nodes: vec![Node::default()],
        };
        for (index, rule) in rules.iter().enumerate() {
            let format = rule.source_format;
            if Some(format) != source_format {
                return Err(MixedFormats { index });
            }
            let split = Split::of(format, rule.source.as_bytes());
            let anchor = split.anchor();
            let mut at = 0;
            for part in parts(&anchor, components(format, split.rest)) {
                at = mapping.child(at, key(format, part));
            }
            mapping.nodes[at].destination =
                Some(ForeignPath::parse(destination, rule.destination.as_bytes()));
        }
        Ok(mapping)
    }

    /// The node below another one; it is made if there is none.
    fn child(&mut self, at: usize, key: Cow<'_, [u8]>) -> usize {
        let next = self.nodes.len();
        let children = &mut self.nodes[at].children;
        let child = *children.entry(key.into_owned().into()).or_insert(next);
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }

    /// The format that the paths to be mapped have; `None` if there are no rules.
    pub fn source_format(&self) -> Option<PathFormat> {
        self.source_format
    }

    /// Where a path is here, taken as a text of the rules' format; `None` if no rule has its beginning. A name that cannot be one where the destination is is an
    /// error, so nothing is ever placed elsewhere than the rule says, but for components `..` that were in the path.
    pub fn map(&self, path: impl AsRef<[u8]>) -> Result<Option<ForeignPath>, UnfitName> {
        let Some(format) = self.source_format else {
            return Ok(None);
        };
        let split = Split::of(format, path.as_ref());
        let anchor = split.anchor();
        self.place(format, parts(&anchor, components(format, split.rest)))
    }

    /// Where the entry of a manifest is here whose root is at `root` on its system. `None` if no rule has it, or the root
    /// has another format than the rules.
    pub fn map_entry(
        &self,
        root: &ForeignPath,
        path: &ManifestPath,
    ) -> Result<Option<ForeignPath>, UnfitName> {
        let Some(format) = self.source_format.filter(|&format| format == root.format()) else {
            return Ok(None);
        };
        let names = path.as_bytes().split(|&byte| byte == b'/');
        self.place(format, parts(root.anchor(), root.components().chain(names)))
    }

    fn place<'a>(
        &self,
        format: PathFormat,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Option<ForeignPath>, UnfitName> {
        let mut node = &self.nodes[0];
        let mut rest = parts.clone();
        let mut found = None;
        for part in parts {
            let Some(&next) = node.children.get(&*key(format, part)) else {
                break;
            };
            node = &self.nodes[next];
            rest.next();
            if let Some(destination) = &node.destination {
                found = Some((destination, rest.clone()));
            }
        }
        let placed = found.map(|(destination, rest)| destination.below(rest));
        placed.transpose()
    }
}

/// The anchor, if there is one, and the components.
fn parts<'a>(
    anchor: &'a [u8],
    components: impl Iterator<Item = &'a [u8]> + Clone,
) -> impl Iterator<Item = &'a [u8]> + Clone {
    let anchor = Some(anchor).filter(|anchor| !anchor.is_empty());
    anchor.into_iter().chain(components)
}

/// What a component is known by.
fn key(format: PathFormat, part: &[u8]) -> Cow<'_, [u8]> {
    let is_folded = |byte: &u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    match format {
        PathFormat::Posix => Cow::Borrowed(part),
        PathFormat::Windows if part.iter().all(is_folded) => Cow::Borrowed(part),
        PathFormat::Windows => Cow::Owned(FoldedName::of(part).into_bytes().into()),
    }
}
