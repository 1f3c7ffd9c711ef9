//! Where the root of a job is on this machine.
//!
//! ```text
//!     --map-root OLD=NEW                     what a person said of this root, or of a directory above it
//!     rules of a file                        else the longest rule of the file
//!     two storage profiles                   else the location that both have: the job's, and this machine's
//!     the root itself                        else as the job has it, if that was asked for and it is a path of this system;
//!                                            or if the job's storage profile is this machine's own
//!     unmapped                               else nothing is placed
//! ```
//!
//! A path is taken by the text of it, with each `..` left out with what is before it: so does AWS's client before it maps. Nothing
//! that is relative, here or there, is a place.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use attachfs_durable::{path_bytes, path_of_bytes};
use attachfs_jobs::StorageProfileId;
use attachfs_manifest::{ContentHash, EscapedBytes, FoldedName, PathRef};
use attachfs_paths::{
    ForeignPath, Mapping, MappingRule, PathFormat, StorageProfile, rules_between,
};

use crate::error::Error;

/// What a person said of where roots are here.
#[derive(Debug, Clone, Default)]
pub struct PlacingOptions {
    /// A root as the job has it, and the folder that has its place.
    pub map_roots: Vec<(String, PathBuf)>,
    /// Rules of a file; their destinations are absolute paths of this system.
    pub rules: Vec<MappingRule>,
    /// The storage profiles of machines that submitted.
    pub profiles: Vec<StorageProfile>,
    /// The storage profile of this machine.
    pub local: Option<StorageProfile>,
    /// Take what nothing else maps to the path that it has in the job, if that is a path of this system.
    pub own_roots: bool,
}

/// Where a root is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// There. The path is absolute and has no component `..`.
    At(PathBuf),
    /// Nobody said where.
    Unmapped,
}

/// A part of a root for which a rule of its own counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedPart {
    /// Which directory below the root, with `/` between its names; empty for the root itself.
    pub below: Vec<u8>,
    /// Where it is here.
    pub placed: Placed,
}

/// The parts of a root: the root itself, and those directories below it for which there are longer rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedParts {
    format: PathFormat,
    /// The deepest first, the root last.
    parts: Vec<PlacedPart>,
}

/// Places the roots of jobs on this machine.
#[derive(Debug)]
pub struct Placing {
    /// What was said, by priority.
    said: Vec<Rules>,
    by_profile: HashMap<String, Rules>,
    /// The only profile that was given: it is that of jobs that nothing is known of.
    only_profile: Option<String>,
    local: Option<String>,
    own_roots: bool,
}

/// Rules of one source; each format has a mapping of its own.
#[derive(Debug, Default)]
struct Rules {
    sources: Vec<ForeignPath>,
    mappings: Vec<Mapping>,
}

impl Placing {
    /// Fails if a destination is no absolute path of this system, or if profiles are given without that of this
    /// machine.
    pub fn new(options: &PlacingOptions) -> Result<Self, Error> {
        let PlacingOptions {
            map_roots,
            rules,
            profiles,
            local,
            own_roots,
        } = options;
        let mapped = map_roots
            .iter()
            .map(|(root, folder)| rule_of_root(root, folder));
        let mapped = mapped.collect::<Result<Vec<_>, _>>()?;
        let mut by_profile = HashMap::new();
        for profile in profiles {
            let Some(local) = local else {
                return Err(Error::usage(format!(
                    "the storage profile {} is of no use without that of this machine",
                    profile.id
                ))
                .advise("give it with --local-storage-profile-json"));
            };
            let between = Rules::new(&rules_between(profile, local))?;
            if by_profile.insert(profile.id.clone(), between).is_some() {
                return Err(Error::usage(format!(
                    "the storage profile {} is given twice",
                    profile.id
                )));
            }
        }
        let only_profile = match &profiles[..] {
            [only] => Some(only.id.clone()),
            _ => None,
        };
        Ok(Self {
            said: vec![Rules::new(&mapped)?, Rules::new(rules)?],
            by_profile,
            only_profile,
            local: local.as_ref().map(|local| local.id.clone()),
            own_roots: *own_roots,
        })
    }

    /// Whether nothing was said, so that every root is unmapped.
    pub fn is_nothing(&self) -> bool {
        let is_nothing = |rules: &Rules| rules.mappings.is_empty();
        let mut all = self.said.iter().chain(self.by_profile.values());
        all.all(is_nothing) && self.local.is_none() && !self.own_roots
    }

    /// Whether only the storage profile of a job can say where its roots are.
    pub fn needs_profile(&self) -> bool {
        let mut said = self.said.iter();
        self.local.is_some() && !self.own_roots && said.all(|rules| rules.mappings.is_empty())
    }

    /// Tells files apart that belong to one way of placing: the storage profile of this machine, if there is one, as AWS's client has
    /// it in the names of its files.
    pub fn name(&self) -> String {
        match &self.local {
            Some(local) => match local.parse::<StorageProfileId>() {
                Ok(id) => id.to_string(),
                // It is somebody's text, and not to become part of a path.
                Err(_) => format!("profile-{}", ContentHash::of(local.as_bytes())),
            },
            None if self.own_roots => "ignore-storage-profiles".to_owned(),
            None => "mapped".to_owned(),
        }
    }

    /// Whether something is known of a storage profile: what it says, or that it is this machine's own.
    pub fn knows_profile(&self, profile: &StorageProfileId) -> bool {
        let id = profile.to_string();
        self.by_profile.contains_key(&id) || self.local.as_ref() == Some(&id)
    }

    /// Where a root is. `root` is as the job's attachments or the metadata of an output have it. The name of a file-system location
    /// decides nothing by itself: that of a root lies in the location, and nobody says how deep. `profile` is the job's;
    /// if it is not known, the only one that was given counts.
    pub fn place(
        &self,
        root: &str,
        _location: Option<&str>,
        profile: Option<&StorageProfileId>,
    ) -> Placed {
        let root = ForeignPath::parse(PathFormat::of_root(root), root).normalized();
        self.place_path(&root, self.profile(profile).as_deref())
    }

    /// As [`place`](Self::place), with the directories below the root that longer rules have.
    pub fn parts(
        &self,
        root: &str,
        _location: Option<&str>,
        profile: Option<&StorageProfileId>,
    ) -> PlacedParts {
        let root = ForeignPath::parse(PathFormat::of_root(root), root).normalized();
        let profile = self.profile(profile);
        let mut parts: Vec<PlacedPart> = Vec::new();
        for source in self
            .rules(profile.as_deref())
            .flat_map(|rules| &rules.sources)
        {
            let below = source.format() == root.format() && source.is_within(&root);
            let names: Vec<&[u8]> = source
                .components()
                .skip(root.components().count())
                .collect();
            if !below || names.is_empty() {
                continue;
            }
            let below = names.join(&b'/');
            let is_new = |part: &PlacedPart| !is_same(root.format(), &part.below, &below);
            if parts.iter().all(is_new) {
                let placed = self.place_path(source, profile.as_deref());
                parts.push(PlacedPart { below, placed });
            }
        }
        parts.sort_by_key(|part| std::cmp::Reverse(depth(&part.below)));
        parts.push(PlacedPart {
            below: Vec::new(),
            placed: self.place_path(&root, profile.as_deref()),
        });
        PlacedParts {
            format: root.format(),
            parts,
        }
    }

    fn profile(&self, profile: Option<&StorageProfileId>) -> Option<String> {
        profile
            .map(StorageProfileId::to_string)
            .or_else(|| self.only_profile.clone())
    }

    fn rules<'a>(&'a self, profile: Option<&str>) -> impl Iterator<Item = &'a Rules> + use<'a> {
        let of_profile = profile.and_then(|profile| self.by_profile.get(profile));
        self.said.iter().chain(of_profile)
    }

    fn place_path(&self, path: &ForeignPath, profile: Option<&str>) -> Placed {
        if !path.is_absolute() {
            return Placed::Unmapped;
        }
        for mapping in self.rules(profile).flat_map(|rules| &rules.mappings) {
            if mapping.source_format() != Some(path.format()) {
                continue;
            }
            match mapping.map(path.as_bytes()) {
                Ok(None) => {}
                Ok(Some(place)) => return Placed::At(path_of_bytes(place.as_bytes())),
                // A name that cannot be one here: there is no such place.
                Err(_) => return Placed::Unmapped,
            }
        }
        let is_own = self.own_roots || (profile.is_some() && profile == self.local.as_deref());
        if is_own && path.format() == PathFormat::HOST {
            return Placed::At(path_of_bytes(path.as_bytes()));
        }
        Placed::Unmapped
    }
}

impl PlacedParts {
    /// The parts, the deepest first and the root itself last.
    pub fn parts(&self) -> &[PlacedPart] {
        &self.parts
    }

    /// The number of the part that an entry of the root's manifest lies in. What is itself the beginning of a deeper part lies in that, with no
    /// name left.
    pub fn part_of(&self, path: PathRef<'_>) -> usize {
        let names: Vec<&[u8]> = path.as_bytes().split(|&byte| byte == b'/').collect();
        let is_in = |part: &PlacedPart| {
            let depth = depth(&part.below);
            depth <= names.len() && is_same(self.format, &names[..depth].join(&b'/'), &part.below)
        };
        let found = self.parts.iter().position(is_in);
        found.unwrap_or(self.parts.len() - 1)
    }
}

impl Rules {
    fn new(rules: &[MappingRule]) -> Result<Self, Error> {
        for rule in rules {
            let place = ForeignPath::parse(PathFormat::HOST, &rule.destination);
            if !place.is_absolute() || place.has_parent_components() {
                return Err(Error::usage(format!(
                    "{:?}, the place of {:?}, is no absolute path of this system",
                    rule.destination, rule.source
                )));
            }
        }
        let parsed = rules
            .iter()
            .map(|rule| ForeignPath::parse(rule.source_format, &rule.source));
        let mut mappings = Vec::new();
        for format in [PathFormat::Posix, PathFormat::Windows] {
            let of_format = rules.iter().filter(|rule| rule.source_format == format);
            let of_format: Vec<_> = of_format.cloned().collect();
            if !of_format.is_empty() {
                let mapping = Mapping::new(&of_format, PathFormat::HOST).map_err(|error| {
                    Error::usage("the path mapping rules cannot be used").because(error)
                })?;
                mappings.push(mapping);
            }
        }
        Ok(Self {
            sources: parsed.collect(),
            mappings,
        })
    }
}

fn rule_of_root(root: &str, folder: &Path) -> Result<MappingRule, Error> {
    let shown = EscapedBytes(path_bytes(folder));
    let Some(destination) = folder.to_str() else {
        let sentence =
            format!("the folder {shown} of the root {root:?} has a name that is not UTF-8");
        return Err(Error::usage(sentence));
    };
    let source_format = PathFormat::of_root(root);
    let source = ForeignPath::parse(source_format, root).normalized();
    if !source.is_absolute() {
        return Err(Error::usage(format!(
            "{root:?}, which is to be mapped to {shown}, is no absolute path: no job has such a root"
        )));
    }
    Ok(MappingRule {
        source_format,
        source: String::from_utf8_lossy(source.as_bytes()).into_owned(),
        destination: destination.to_owned(),
    })
}

fn depth(below: &[u8]) -> usize {
    let names = below.split(|&byte| byte == b'/');
    names.filter(|name| !name.is_empty()).count()
}

/// Whether two paths are one on the system that they are of.
fn is_same(format: PathFormat, one: &[u8], other: &[u8]) -> bool {
    match format {
        PathFormat::Posix => one == other,
        PathFormat::Windows => one == other || FoldedName::of(one) == FoldedName::of(other),
    }
}

#[cfg(test)]
mod tests {
    use attachfs_manifest::ManifestPath;
    use attachfs_paths::{FileSystemLocation, LocationType, OsFamily};

    use super::*;

    fn rule(source: &str, destination: &str) -> MappingRule {
        MappingRule {
            source_format: PathFormat::of_root(source),
            source: source.to_owned(),
            destination: destination.to_owned(),
        }
    }

    fn id(digit: &str) -> StorageProfileId {
        format!("sp-{}", digit.repeat(32)).parse().unwrap()
    }

    fn profile(digit: &str, family: OsFamily, locations: &[(&str, &str)]) -> StorageProfile {
        let location = |&(name, path): &(&str, &str)| FileSystemLocation {
            name: name.to_owned(),
            path: path.to_owned(),
            kind: LocationType::Local,
        };
        StorageProfile {
            id: id(digit).to_string(),
            name: "p".to_owned(),
            family,
            locations: locations.iter().map(location).collect(),
        }
    }

    fn at(path: &str) -> Placed {
        Placed::At(path.into())
    }

    #[test]
    fn what_a_person_said_of_a_root_goes_before_rules_and_these_before_profiles() {
        let options = PlacingOptions {
            map_roots: vec![("/proj/fx/".to_owned(), "/said".into())],
            rules: vec![rule("/proj", "/rule"), rule("Z:\\show", "/z")],
            profiles: vec![profile(
                "1",
                OsFamily::Linux,
                &[("a", "/proj"), ("b", "/loc")],
            )],
            local: Some(profile(
                "2",
                OsFamily::Linux,
                &[("a", "/x"), ("b", "/here")],
            )),
            own_roots: false,
        };
        let placing = Placing::new(&options).unwrap();
        let place = |root: &str| placing.place(root, None, Some(&id("1")));
        assert_eq!(place("/proj/fx/a"), at("/said/a"));
        assert_eq!(place("/proj/b"), at("/rule/b"));
        assert_eq!(place("/loc/p"), at("/here/p"));
        assert_eq!(place("z:/SHOW/Seq"), at("/z/Seq"));
        assert_eq!(place("/proj/fx/../b"), at("/rule/b"));
        assert_eq!(place("/projects"), Placed::Unmapped);
        // A job of which nothing is known is taken for one of the only profile; one of another is not.
        assert_eq!(placing.place("/loc/p", None, None), at("/here/p"));
        assert_eq!(
            placing.place("/loc/p", None, Some(&id("3"))),
            Placed::Unmapped
        );
        assert!(placing.knows_profile(&id("2")) && !placing.knows_profile(&id("3")));
    }

    #[test]
    fn a_root_is_at_its_own_place_only_if_somebody_said_so_and_it_is_one_of_this_system() {
        let nothing = Placing::new(&PlacingOptions::default()).unwrap();
        assert!(nothing.is_nothing());
        assert_eq!(nothing.place("/a", None, None), Placed::Unmapped);
        let options = PlacingOptions {
            own_roots: true,
            ..PlacingOptions::default()
        };
        let own = Placing::new(&options).unwrap();
        assert_eq!(own.place("/a/./b/../c/", None, None), at("/a/c"));
        for root in ["C:\\a", "a/b", "", "..", "\\\\s\\h\\a"] {
            assert_eq!(own.place(root, None, None), Placed::Unmapped, "{root}");
        }
        // The machine that submitted is of the same kind as this one.
        let options = PlacingOptions {
            local: Some(profile("2", OsFamily::Linux, &[])),
            ..PlacingOptions::default()
        };
        let local = Placing::new(&options).unwrap();
        assert_eq!(local.place("/a", None, Some(&id("2"))), at("/a"));
        assert_eq!(local.place("/a", None, Some(&id("1"))), Placed::Unmapped);
        assert_eq!(local.place("/a", None, None), Placed::Unmapped);
    }

    #[test]
    fn a_directory_below_a_root_that_has_a_rule_of_its_own_is_a_part() {
        let options = PlacingOptions {
            rules: vec![
                rule("C:\\p", "/p"),
                rule("C:\\P\\Fx", "/fx"),
                rule("c:\\p\\fx\\deep", "/deep"),
                rule("/p/fx", "/posix"),
            ],
            ..PlacingOptions::default()
        };
        let placing = Placing::new(&options).unwrap();
        let parts = placing.parts("C:\\p", None, None);
        let place = |path: &str| {
            let path = ManifestPath::new(path.as_bytes()).unwrap();
            parts.parts()[parts.part_of(path.borrowed())].placed.clone()
        };
        assert_eq!(place("a"), at("/p"));
        assert_eq!(place("fx/a"), at("/fx"));
        assert_eq!(place("FX/Deep/a"), at("/deep"));
        assert_eq!(place("fx2/a"), at("/p"));
        // The root has no rule, and what is below it has.
        let parts = placing.parts("C:\\", None, None);
        assert_eq!(parts.parts().last().unwrap().placed, Placed::Unmapped);
        assert_eq!(parts.parts().len(), 4);
    }

    #[test]
    fn a_destination_that_is_no_place_here_is_refused() {
        for destination in ["relative", "C:\\x", "/a/../b", ""] {
            let options = PlacingOptions {
                rules: vec![rule("/a", destination)],
                ..PlacingOptions::default()
            };
            Placing::new(&options).unwrap_err();
        }
        let options = PlacingOptions {
            map_roots: vec![("a".to_owned(), "/b".into())],
            ..PlacingOptions::default()
        };
        Placing::new(&options).unwrap_err();
        let options = PlacingOptions {
            profiles: vec![profile("1", OsFamily::Linux, &[])],
            ..PlacingOptions::default()
        };
        Placing::new(&options).unwrap_err();
    }
}
