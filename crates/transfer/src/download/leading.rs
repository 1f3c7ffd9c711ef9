//! Where a link that is there leads, whatever its text is: other programs spell the same way otherwise.
//!
//! A text is followed name by name from the link's directory, or from the root if it is absolute and names
//! that. `..` undoes a name only where that is a directory and no link, so this is where the kernel goes too.
//! The names that remain are not looked at: like the target in a manifest they may lead through other links.

use std::path::{Component, Path, PathBuf};

use attachfs_durable::{HeldDir, path_bytes};
use attachfs_manifest::{LinkTarget, ManifestPath};

/// The absolute paths of a root.
#[derive(Debug, Clone)]
pub(super) struct RootNames(Vec<PathBuf>);

impl RootNames {
    /// Of the root that is at `real`, without links, and that somebody called `named`. Blocks.
    pub(super) fn new(real: &Path, named: &Path) -> Self {
        let mut names = vec![real.to_owned()];
        let mut plain = PathBuf::new();
        for part in std::path::absolute(named).unwrap_or_default().components() {
            match part {
                Component::ParentDir => drop(plain.pop()),
                part => plain.push(part),
            }
        }
        // Behind a link ".." leads elsewhere than as text.
        if plain != real && plain.canonicalize().is_ok_and(|found| found == real) {
            names.push(plain);
        }
        Self(names)
    }

    /// Where a link at this path below the root leads, if that is in the root for sure. Blocks.
    pub(super) fn destination(
        &self,
        root: &HeldDir,
        link: &ManifestPath,
        text: &[u8],
    ) -> Option<LinkTarget> {
        let mut at: Vec<&[u8]> = link.components().collect();
        at.pop();
        let mut rest: Vec<&[u8]> = names_of(text).collect();
        if text.starts_with(b"/") {
            at.clear();
            let below = |name: &PathBuf| {
                let all: Vec<&[u8]> = names_of(path_bytes(name)).collect();
                rest.starts_with(&all).then(|| rest[all.len()..].to_vec())
            };
            rest = self.0.iter().find_map(below)?;
        }
        // The directories that hold the link are none: it was found in them.
        let mut plain = at.len();
        for name in rest {
            if name != b".." {
                at.push(name);
                continue;
            }
            let directory = at.join(&b'/');
            at.pop()?;
            if at.len() >= plain {
                root.dir(&directory).ok()?;
            }
            plain = plain.min(at.len());
        }
        match &at[..] {
            [] => Some(LinkTarget::Root),
            at => Some(LinkTarget::Below(ManifestPath::new(&at.join(&b'/')).ok()?)),
        }
    }
}

/// The names in a path, without those that mean nothing.
fn names_of(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let parts = path.split(|&byte| byte == b'/');
    parts.filter(|part| !matches!(*part, b"" | b"."))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn path(text: &str) -> ManifestPath {
        ManifestPath::new(text.as_bytes()).unwrap()
    }

    /// A root with `d/e`, `away -> <outside>/x/y` and `near -> d/e`, named through a link too.
    fn root() -> (TempDir, PathBuf, PathBuf) {
        let temp = TempDir::new().unwrap();
        let top = temp.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("root/d/e")).unwrap();
        fs::create_dir_all(top.join("x/y")).unwrap();
        symlink(top.join("x/y"), top.join("root/away")).unwrap();
        symlink("d/e", top.join("root/near")).unwrap();
        symlink("root", top.join("alias")).unwrap();
        let (real, named) = (top.join("root"), top.join("alias"));
        (temp, real, named)
    }

    #[test]
    fn other_spellings_of_one_way_lead_to_one_place() {
        let (_temp, real, named) = root();
        let dir = HeldDir::open(&real).unwrap();
        let names = RootNames::new(&real, &named);
        let absolute = |name: &Path, rest: &str| format!("{}{rest}", name.display());
        for text in [
            "../d/t",
            "./.././d//t",
            "../d/e/../t",
            "../d/../d/t",
            "../../d/e/../../d/t",
            &absolute(&real, "/d/t"),
            &absolute(&real, "//./d/e/../t/"),
            &absolute(&named, "/d/t"),
        ] {
            // From a directory that is as deep as the text goes up.
            let link = if text.starts_with("../..") {
                "d/e/l"
            } else {
                "d/l"
            };
            let found = names.destination(&dir, &path(link), text.as_bytes());
            assert_eq!(found, Some(LinkTarget::Below(path("d/t"))), "{text}");
        }
        for text in [".", "d/..", &absolute(&real, ""), &absolute(&named, "/")] {
            let found = names.destination(&dir, &path("l"), text.as_bytes());
            assert_eq!(found, Some(LinkTarget::Root), "{text}");
        }
    }

    #[test]
    fn a_way_up_from_a_link_or_out_of_the_root_is_not_taken_for_one_in_it() {
        let (_temp, real, named) = root();
        let dir = HeldDir::open(&real).unwrap();
        let names = RootNames::new(&real, &named);
        let outside = format!("{}2/d/t", real.display());
        for text in [
            "away/../d/t",
            "near/../t",
            "none/../d/t",
            "../root/d/t",
            "/d/t",
            &outside,
        ] {
            assert_eq!(
                names.destination(&dir, &path("l"), text.as_bytes()),
                None,
                "{text}"
            );
        }
        let through = names.destination(&dir, &path("l"), b"near/t");
        assert_eq!(through, Some(LinkTarget::Below(path("near/t"))));
    }
}
