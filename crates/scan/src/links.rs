//! Where symbolic links lead, as text: nothing here touches the file system.
//!
//! A manifest has a link's target as a path from its root. Whether a link stays inside the root, and
//! what that path is, is decided from the link's text alone, as the reference does (`openjd-snapshots`
//! 0.3.2, `resolve_symlink_target`). Links on the way to the target are not looked at: `tool ->
//! current/bin/tool` keeps its text when `current` is a link itself.

use std::collections::HashSet;
use std::sync::Arc;

use attachfs_manifest::{LinkTarget, ManifestPath, PathError};

/// The places that links may point into without leading out of the manifest.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) reach: Reach,
    /// The base that holds the link that this directory replaces. Inside such a directory the root
    /// of the scan does not count as a base: the reference replaces links that lead back.
    pub(crate) outer: Option<Arc<Base>>,
}

#[derive(Debug)]
pub(crate) enum Reach {
    /// A directory: the root of the scan, or one that took a link's place.
    Folder {
        /// Absolute, without links.
        real: Vec<u8>,
        /// The same directory as the user named it, for links whose text names it so.
        alias: Option<Vec<u8>>,
        /// Where it is in the manifest; `None` is the manifest's root.
        place: Option<ManifestPath>,
    },
    /// In an absolute manifest, what was given to be collected.
    Collected(Collected),
    /// In an absolute manifest, anything.
    Everywhere,
}

/// Collected directories and files, by their paths below `/`.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) paths: HashSet<Box<[u8]>>,
    /// `/` itself is one of them.
    pub(crate) root: bool,
}

impl Collected {
    fn holds(&self, path: &[u8]) -> bool {
        self.root
            || std::iter::successors(Some(path), |path| above(path))
                .any(|path| self.paths.contains(path))
    }
}

/// The directory of a path; `None` for a name alone.
fn above(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    path.get(..slash)
}

impl Base {
    /// The target of a link with this text in the directory `dir` (absolute; without links, except in
    /// an absolute manifest), or `None` if the link leads out.
    pub(crate) fn target(&self, dir: &[u8], text: &[u8]) -> Result<Option<LinkTarget>, PathError> {
        let full = if text.starts_with(b"/") {
            text.to_vec()
        } else {
            [dir, b"/", text].concat()
        };
        let full = normalize(&full);
        let mut bases = std::iter::successors(Some(self), |base| base.outer.as_deref());
        let found = bases.find_map(|base| base.reach.place_of(&full));
        let Some((place, rest)) = found else {
            return Ok(None);
        };
        join(place, rest).map(Some)
    }
}

impl Reach {
    /// Where an absolute path is in the manifest: the place that it lies below, and the rest of the
    /// path.
    fn place_of<'a>(&self, full: &'a [u8]) -> Option<(Option<&ManifestPath>, &'a [u8])> {
        match self {
            Self::Folder { real, alias, place } => {
                let mut names = std::iter::once(real).chain(alias);
                let rest = names.find_map(|name| below(name, full))?;
                Some((place.as_ref(), rest))
            }
            Self::Collected(collected) => {
                let rest = below(b"/", full)?;
                collected.holds(rest).then_some((None, rest))
            }
            Self::Everywhere => below(b"/", full).map(|rest| (None, rest)),
        }
    }
}

/// `.`, `..` and repeated slashes resolved, as text. `path` is absolute.
pub(crate) fn normalize(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    [b"/", parts.join(&b'/').as_slice()].concat()
}

/// What remains of `path` below `directory`: empty if they are the same.
fn below<'a>(directory: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(directory)?;
    match rest {
        b"" => Some(rest),
        // The directory "/" ends with the slash itself.
        _ if directory.ends_with(b"/") => Some(rest),
        _ => rest.strip_prefix(b"/"),
    }
}

fn join(place: Option<&ManifestPath>, rest: &[u8]) -> Result<LinkTarget, PathError> {
    match place {
        None if rest.is_empty() => Ok(LinkTarget::Root),
        None => ManifestPath::new(rest).map(LinkTarget::Below),
        Some(place) if rest.is_empty() => Ok(LinkTarget::Below(place.clone())),
        Some(place) => {
            ManifestPath::new(&[place.as_bytes(), b"/", rest].concat()).map(LinkTarget::Below)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ManifestPath {
        ManifestPath::new(text.as_bytes()).unwrap()
    }

    fn root() -> Base {
        Base {
            reach: Reach::Folder {
                real: b"/data/scene".to_vec(),
                alias: Some(b"/home/me/scene".to_vec()),
                place: None,
            },
            outer: None,
        }
    }

    fn target(text: &str) -> Option<LinkTarget> {
        root().target(b"/data/scene/d", text.as_bytes()).unwrap()
    }

    #[test]
    fn a_target_is_a_path_from_the_root() {
        assert_eq!(target("../a.txt"), Some(LinkTarget::Below(path("a.txt"))));
        assert_eq!(target("./e//f"), Some(LinkTarget::Below(path("d/e/f"))));
        assert_eq!(target(".."), Some(LinkTarget::Root));
    }

    #[test]
    fn an_absolute_text_may_lead_inside_by_either_name_of_the_root() {
        assert_eq!(target("/data/scene/x"), Some(LinkTarget::Below(path("x"))));
        assert_eq!(
            target("/home/me/scene/x"),
            Some(LinkTarget::Below(path("x")))
        );
    }

    #[test]
    fn leaving_the_root_and_coming_back_is_inside() {
        assert_eq!(target("../../scene/x"), Some(LinkTarget::Below(path("x"))));
    }

    #[test]
    fn what_leads_out_has_no_target() {
        for text in ["../..", "../../scene2/x", "/etc/hostname", "../../../../.."] {
            assert_eq!(target(text), None, "{text}");
        }
    }

    #[test]
    fn a_link_in_a_replaced_directory_may_point_into_it_but_not_to_the_root_of_the_scan() {
        let base = Base {
            reach: Reach::Folder {
                real: b"/elsewhere".to_vec(),
                alias: None,
                place: Some(path("l")),
            },
            outer: None,
        };
        let inside = base.target(b"/elsewhere/a", b"../b").unwrap();
        assert_eq!(inside, Some(LinkTarget::Below(path("l/b"))));
        assert_eq!(base.target(b"/elsewhere", b"/data/scene/x").unwrap(), None);
    }

    #[test]
    fn in_an_absolute_manifest_what_was_collected_is_inside() {
        let paths = [b"data/scene".as_slice(), b"etc/one.cfg"];
        let base = Base {
            reach: Reach::Collected(Collected {
                paths: paths.map(Box::from).into(),
                root: false,
            }),
            outer: None,
        };
        let target = |text: &[u8]| base.target(b"/data/scene/d", text).unwrap();
        let inside = |text: &str| Some(LinkTarget::Below(path(text)));
        assert_eq!(target(b"../x/y"), inside("data/scene/x/y"));
        assert_eq!(target(b".."), inside("data/scene"));
        assert_eq!(target(b"/etc/one.cfg"), inside("etc/one.cfg"));
        for text in [b"/etc/one.cfg2".as_slice(), b"/data/scene2", b"/data", b"/"] {
            assert_eq!(target(text), None);
        }
    }
}
