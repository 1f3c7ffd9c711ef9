//! Names of folders.
//!
//! A root has the last component of its path, which is what an artist calls it. Of several roots with the same one, that which has
//! had outputs first keeps the plain name, so that paths stay when another root appears; the others say in brackets what they lie in, or
//! the beginning of the hash that stands for them in keys.

use std::collections::HashSet;

use attachfs_jobs::{ActionTime, OutputMetadata, SessionActionId};
use attachfs_manifest::ContentHash;
use attachfs_paths::{ForeignPath, Mapping, PathFormat};

/// The longest part of a name that comes from a root, in bytes.
const LONGEST: usize = 100;
/// What no name has on Windows, where these folders may be shown too.
const UNFIT: &[char] = &['/', '\\', ':', '*', '?', '"', '<', '>', '|'];

/// A root whose folder has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRoot {
    /// The hash that stands for it in keys.
    pub hash: ContentHash,
    /// The name of its folder.
    pub name: String,
    /// What its manifests say of it; `None` if they say nothing.
    pub said: Option<OutputMetadata>,
}

/// A text as a part of a name; `None` if nothing of it can be.
fn fit(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let is_unfit = |c: char| c.is_control() || UNFIT.contains(&c);
    let fit: String = text
        .chars()
        .map(|c| if is_unfit(c) { '_' } else { c })
        .collect();
    let mut end = fit.len().min(LONGEST);
    while !fit.is_char_boundary(end) {
        end -= 1;
    }
    let fit = fit[..end].trim().trim_end_matches('.');
    (!fit.is_empty()).then(|| fit.to_owned())
}

/// Where a root is here, if a rule says so, else where the job has it.
fn place(said: &OutputMetadata, mappings: &[Mapping]) -> ForeignPath {
    let format = PathFormat::of_root(&said.asset_root);
    let of_format = mappings
        .iter()
        .filter(|mapping| mapping.source_format() == Some(format));
    let mapped = of_format.filter_map(|mapping| mapping.map(&said.asset_root).ok().flatten());
    let mut mapped = mapped;
    mapped
        .next()
        .unwrap_or_else(|| ForeignPath::parse(format, &said.asset_root))
}

/// Names roots, which come in the order in which they had outputs first. No two names differ in case alone.
pub fn name_roots(
    roots: impl IntoIterator<Item = (ContentHash, Option<OutputMetadata>)>,
    mappings: &[Mapping],
) -> Vec<NamedRoot> {
    let mut taken = HashSet::new();
    let mut named = Vec::new();
    for (hash, said) in roots {
        let name = candidates(hash, said.as_ref(), mappings)
            .into_iter()
            .find(|name| taken.insert(name.to_lowercase()));
        // The whole hash is no other root's.
        let name = name.unwrap_or_else(|| hash.to_string());
        named.push(NamedRoot { hash, name, said });
    }
    named
}

fn candidates(
    hash: ContentHash,
    said: Option<&OutputMetadata>,
    mappings: &[Mapping],
) -> Vec<String> {
    let digits = hash.to_string();
    let short = &digits[..8];
    let mut names = Vec::new();
    let place = said.map(|said| place(said, mappings));
    let mut parts = place.iter().flat_map(ForeignPath::components).rev();
    let last = parts.next().and_then(fit);
    let drive = || place.as_ref().and_then(|place| fit(place.drive()));
    if let Some(last) = last.or_else(drive) {
        let above = parts.next().and_then(fit);
        names.push(last.clone());
        names.extend(above.map(|above| format!("{last} ({above})")));
        names.push(format!("{last} ({short})"));
        names.push(format!("{last} ({digits})"));
    } else {
        names.push(format!("root ({short})"));
    }
    names
}

/// The name of a run: when it began, and the session action. Names are in the order of time.
pub(crate) fn run_name(time: ActionTime, action: SessionActionId) -> String {
    // Colons are no part of a name on Windows, and mean a machine to `scp` and `rsync`.
    format!("{}_{action}", time.to_string().replace(':', "-"))
}

#[cfg(test)]
mod tests {
    use attachfs_paths::MappingRule;

    use super::*;

    fn names(roots: &[&str]) -> Vec<String> {
        let mappings = [];
        named(roots, &mappings)
    }

    fn named(roots: &[&str], mappings: &[Mapping]) -> Vec<String> {
        let roots = roots.iter().map(|root| {
            let said = OutputMetadata {
                asset_root: (*root).to_owned(),
                location: None,
            };
            (ContentHash::of(root.as_bytes()), Some(said))
        });
        let named = name_roots(roots, mappings).into_iter();
        named.map(|root| root.name).collect()
    }

    #[test]
    fn a_root_is_known_by_its_last_component_on_any_system() {
        assert_eq!(
            names(&[
                "/mnt/show/seq 1/",
                "C:\\Users\\me\\Scene",
                "\\\\nas\\share\\p"
            ]),
            ["seq 1", "Scene", "p"]
        );
    }

    #[test]
    fn the_first_root_keeps_its_name_and_others_say_where_they_are() {
        let one = names(&["/a/p"]);
        let all = names(&["/a/p", "/b/P", "/c/b/p"]);
        assert_eq!(all[0], one[0]);
        assert_eq!(all[1], "P (b)");
        let hash = ContentHash::of(b"/c/b/p").to_string();
        assert_eq!(all[2], format!("p ({})", &hash[..8]));
    }

    #[test]
    fn every_root_has_a_name_that_can_be_one() {
        let long = format!("/{}", "ü".repeat(200));
        for root in ["/", "", "C:\\", "/a/..", "/a/x\ny:*", "/ /. ", &long] {
            let name = &names(&[root])[0];
            attachfs_manifest::Name::new(name.as_bytes()).unwrap();
            assert!(!name.contains(UNFIT) && !name.contains('\n'), "{name}");
        }
        assert_eq!(names(&["C:\\"]), ["C_"]);
    }

    #[test]
    fn a_mapped_root_has_the_name_of_its_place_here() {
        let rule = MappingRule {
            source_format: PathFormat::Windows,
            source: "Z:\\show".to_owned(),
            destination: "/mnt/studio/film".to_owned(),
        };
        let mapping = Mapping::new(&[rule], PathFormat::Posix).unwrap();
        assert_eq!(
            named(&["z:\\Show", "/z/show"], &[mapping]),
            ["film", "show"]
        );
    }
}
