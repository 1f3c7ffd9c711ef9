//! Files of a crate that need each other: whoever reads one of them has to read them all.
//!
//! A file needs another if it names something of it, by a `use` or a path. What a file only passes on (`pub use`) it does not
//! need, and where a name was passed on, it is the file that has it which is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::sources::SourceFile;

type Module = Vec<String>;

#[derive(Debug, Default)]
struct Crate {
    modules: BTreeSet<Module>,
    /// By the module that passes them on and the name: the path that it stands for.
    passed_on: BTreeMap<(Module, String), Vec<String>>,
}

/// The modules that need themselves by way of others, each with those of them that it names.
pub(super) fn among(files: &[SourceFile]) -> Vec<String> {
    let mut all = Crate::default();
    let mut named = Vec::new();
    for file in files {
        let module = module_of(&file.module);
        let (passed_on, rest) = file.shipped.passed_on();
        for (name, path) in passed_on {
            all.passed_on.insert((module.clone(), name), path);
        }
        named.push((module.clone(), rest.paths()));
        all.modules.insert(module);
    }
    let mut needs: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, paths) in named {
        let found = paths
            .iter()
            .filter_map(|path| all.find(&module, &path.segments, 0));
        let others = found.filter(|other| *other != module).collect();
        needs.insert(module, others);
    }
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = needs
        .keys()
        .map(|module| (module, reached_from(module, &needs)))
        .collect();
    let in_circle = needs
        .keys()
        .filter(|module| reached[module].contains(module));
    in_circle
        .map(|module| {
            let of_circle = needs[module]
                .iter()
                .filter(|other| reached[other].contains(module));
            let others: Vec<_> = of_circle.map(shown).collect();
            format!("{} needs {}", shown(module), others.join(", "))
        })
        .collect()
}

/// The module that a file is, of its path below `src/`.
fn module_of(path: &Path) -> Module {
    let path = path.with_extension("");
    let parts = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned());
    let mut module: Module = parts.collect();
    let is_named_by_folder = match module.last().map(String::as_str) {
        Some("mod") => true,
        Some("lib" | "main") => module.len() == 1,
        _ => false,
    };
    if is_named_by_folder {
        module.pop();
    }
    module
}

fn shown(module: &Module) -> String {
    if module.is_empty() {
        "the root".to_owned()
    } else {
        module.join("::")
    }
}

fn reached_from<'a>(
    start: &'a Module,
    needs: &'a BTreeMap<Module, BTreeSet<Module>>,
) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Module> = vec![start];
    while let Some(module) = open.pop() {
        let further = needs.get(module).into_iter().flatten();
        open.extend(further.filter(|other| reached.insert(*other)));
    }
    reached
}

/// A name that is passed on from file to file has its end after so many.
const MOST_PASSES: usize = 16;

impl Crate {
    /// The module that has what a path in `from` names; `None` if it is another crate's, or no path of modules.
    fn find(&self, from: &[String], path: &[String], passes: usize) -> Option<Module> {
        let first = path.first()?;
        let mut rest = path;
        let mut at = match first.as_str() {
            "crate" => {
                rest = &rest[1..];
                Module::new()
            }
            "self" => {
                rest = &rest[1..];
                from.to_vec()
            }
            "super" => {
                let supers = path.iter().take_while(|part| *part == "super").count();
                rest = &rest[supers..];
                from[..from.len().checked_sub(supers)?].to_vec()
            }
            name if path.len() > 1 && self.modules.contains(&child(from, name)) => from.to_vec(),
            _ => return None,
        };
        for name in rest {
            let below = child(&at, name);
            if self.modules.contains(&below) {
                at = below;
                continue;
            }
            let passed_on = self.passed_on.get(&(at.clone(), name.clone()));
            return match passed_on {
                Some(path) if passes < MOST_PASSES => self.find(&at, path, passes + 1),
                _ => Some(at),
            };
        }
        Some(at)
    }
}

fn child(module: &[String], name: &str) -> Module {
    let mut child = module.to_vec();
    child.push(name.to_owned());
    child
}

#[cfg(test)]
mod tests {
    use super::super::sources::SourceFile;
    use super::among;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| SourceFile::of_text(path, text))
            .collect();
        among(&files)
    }

    #[test]
    fn files_that_name_each_other_are_a_circle() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "pub struct B; fn f(_: super::c::C) {}"),
            ("c.rs", "pub struct C(Option<crate::a::A>);"),
        ]);
        assert_eq!(found, ["a needs b", "b needs c", "c needs a"]);
    }

    #[test]
    fn a_name_that_was_passed_on_is_of_the_file_that_has_it() {
        let found = circles(&[
            (
                "lib.rs",
                "mod a; mod b; pub use a::A; pub use b::{B as Bee};",
            ),
            ("a.rs", "use crate::Bee; pub struct A(Bee);"),
            ("b.rs", "use crate::A; pub struct B(Option<Box<A>>);"),
        ]);
        assert_eq!(found, ["a needs b", "b needs a"]);
    }

    #[test]
    fn a_parent_that_passes_on_what_its_children_have_is_no_circle() {
        let found = circles(&[
            ("lib.rs", "mod a; pub use a::A; const LIMIT: u32 = 1;"),
            (
                "a.rs",
                "pub(in crate::x) struct A([u8; crate::LIMIT as usize]);",
            ),
            ("other.rs", "use std::fs; use crate::A;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
