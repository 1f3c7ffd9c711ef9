//! A workspace that cargo can build without any crate of others: ten libraries, a build script, and a program over them.
//!
//! Each library has types and generic code that keep the compiler busy for part of a second, so that most of a build
//! is compiling, as it is with real crates.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

const LIBRARIES: usize = 10;
/// In each library.
const TYPES: usize = 40;

const WORKSPACE: &str = "[workspace]\nresolver = \"2\"\nmembers = [\"part*\", \"whole\"]\n";
const BUILD_SCRIPT: &str = r#"fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    let text = format!("pub const LENGTH: usize = {};", out.len());
    std::fs::write(std::path::Path::new(&out).join("made.rs"), text).unwrap();
}
"#;

pub(super) fn make(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("Cargo.toml"), WORKSPACE)?;
    let mut uses = String::new();
    for number in 0..LIBRARIES {
        // Two chains, so that two compilers have work.
        let needed: Vec<_> = number.checked_sub(2).into_iter().collect();
        let name = format!("part{number}");
        package(&dir.join(&name), &name, &needed, "lib.rs", &library(number))?;
        let _ = writeln!(uses, "    sum += {name}::all(3);");
    }
    fs::write(dir.join("part0/build.rs"), BUILD_SCRIPT)?;
    let main =
        format!("fn main() {{\n    let mut sum = 0;\n{uses}    println!(\"{{sum}}\");\n}}\n");
    let needed: Vec<_> = (0..LIBRARIES).collect();
    package(&dir.join("whole"), "whole", &needed, "main.rs", &main)
}

fn package(dir: &Path, name: &str, needed: &[usize], file: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all(dir.join("src"))?;
    let mut about = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n"
    );
    for number in needed {
        let _ = writeln!(about, "part{number} = {{ path = \"../part{number}\" }}");
    }
    fs::write(dir.join("Cargo.toml"), about)?;
    fs::write(dir.join("src").join(file), text)
}

fn library(number: usize) -> String {
    let mut text = match number {
        0 => "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\n".to_owned(),
        _ => String::new(),
    };
    let mut uses = String::new();
    for kind in 0..TYPES {
        let _ = write!(
            text,
            "#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind{kind} {{ pub name: String, pub parts: Vec<u64> }}

impl Kind{kind} {{
    pub fn new(seed: u64) -> Self {{
        let parts = (0..seed).map(|part| part * {kind} + seed).collect();
        Self {{ name: format!(\"kind {kind} of {{seed}}\"), parts }}
    }}

    pub fn sorted<T: Ord + Clone>(&self, mut other: Vec<T>) -> Vec<T> {{
        other.sort_by(|one, two| two.cmp(one));
        other.into_iter().skip(self.parts.len() % 3).collect()
    }}
}}

"
        );
        let _ = writeln!(
            uses,
            "    let kind = Kind{kind}::new(seed);\n    sum += kind.sorted(kind.parts.clone()).iter().sum::<u64>();"
        );
    }
    let below = number
        .checked_sub(2)
        .map_or_else(|| "0".to_owned(), |below| format!("part{below}::all(seed)"));
    let _ = write!(
        text,
        "pub fn all(seed: u64) -> u64 {{\n    let mut sum = {below};\n{uses}    sum\n}}\n"
    );
    text
}
