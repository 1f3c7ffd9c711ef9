//! Rust source as words and the paths that it names, without comments, text in quotes and, where asked, tests.
//!
//! Enough of Rust's lexical rules to trust the answer: nested comments, raw strings, characters against lifetimes, `use` trees.
//! Macros are not expanded, and a module under another name (`use std as s`) is not followed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One file of a package.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) whole: Code,
    /// Without what is under `#[cfg(test)]`; empty for a file that is a test module.
    pub(super) shipped: Code,
}

/// Words and single punctuation characters in order.
#[derive(Debug, Default)]
pub(super) struct Code {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    /// From 1.
    line: usize,
}

/// A path as written, `use` trees spread out; a glob ends in `*`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// All files below `src/` of a package.
pub(super) fn read(package: &Path) -> impl Iterator<Item = SourceFile> {
    let mut paths = Vec::new();
    collect(&package.join("src"), &mut paths);
    let mut files = Vec::new();
    let mut tests_only = BTreeSet::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        let whole = Code::of(&text);
        let (shipped, test_modules) = whole.without_tests();
        let children = children_of(&path);
        tests_only.extend(test_modules.iter().map(|module| children.join(module)));
        files.push(SourceFile {
            path,
            whole,
            shipped,
        });
    }
    for file in &mut files {
        let module = file.path.with_extension("");
        if module.ancestors().any(|place| tests_only.contains(place)) {
            file.shipped = Code::default();
        }
    }
    files.into_iter()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return; // A package without src/ has all its targets elsewhere.
    };
    for entry in entries {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The folder in which the file's modules are.
fn children_of(path: &Path) -> PathBuf {
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") => path.parent().unwrap_or(Path::new("")).to_owned(),
        _ => path.with_extension(""),
    }
}

impl SourceFile {
    pub(super) fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

impl NamedPath {
    /// Whether the path is, passes through or brings in by a glob what `other` names.
    pub(super) fn reaches(&self, other: &str) -> bool {
        let mut own = self.segments.iter().map(String::as_str);
        for wanted in other.split("::") {
            match own.next() {
                Some("*") => return true,
                Some(segment) if segment == wanted => {}
                _ => return false,
            }
        }
        true
    }
}

impl Code {
    fn of(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = text;
        let mut line = 1;
        while let Some(first) = rest.chars().next() {
            let (length, is_token) = next_piece(rest, first);
            let (piece, after) = rest.split_at(length);
            if is_token {
                tokens.push(Token {
                    text: piece.to_owned(),
                    line,
                });
            }
            line += piece.matches('\n').count();
            rest = after;
        }
        Self { tokens }
    }

    pub(super) fn lines_with(&self, word: &str) -> Vec<usize> {
        let found = self.tokens.iter().filter(|token| token.text == word);
        found.map(|token| token.line).collect()
    }

    pub(super) fn paths(&self) -> Vec<NamedPath> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if is_word(self.text(at)) {
                at = self.path_from(at, &[], &mut found);
            } else {
                at += 1;
            }
        }
        found
    }

    /// Reads one path or tree that starts at `at` and returns where it ends.
    fn path_from(&self, mut at: usize, before: &[String], found: &mut Vec<NamedPath>) -> usize {
        let mut segments = before.to_vec();
        let line = self.tokens[at].line;
        loop {
            if self.text(at) == "{" {
                at += 1;
                while !matches!(self.text(at), "}" | "") {
                    at = match self.text(at) {
                        word if is_word(word) || word == "*" || word == "{" => {
                            self.path_from(at, &segments, found)
                        }
                        _ => at + 1,
                    };
                }
                return at + 1;
            }
            segments.push(self.text(at).to_owned());
            at += 1;
            let goes_on = self.text(at) == ":" && self.text(at + 1) == ":";
            let next = self.text(at + 2);
            if goes_on && (is_word(next) || next == "*" || next == "{") {
                at += 2;
            } else {
                found.push(NamedPath { segments, line });
                return at;
            }
        }
    }

    /// The code that is built without tests, and the names of the modules in other files that are only built with them.
    fn without_tests(&self) -> (Self, Vec<String>) {
        let mut kept = Vec::new();
        let mut modules = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let after = self.end_of_attribute(at);
            if after > at && self.is_for_tests(at, after) {
                let mut item = after;
                while self.end_of_attribute(item) > item {
                    item = self.end_of_attribute(item);
                }
                let end = self.end_of_item(item);
                let words: Vec<_> = (item..end).map(|at| self.text(at)).collect();
                if let [.., "mod", name, ";"] = words[..] {
                    modules.push(name.to_owned());
                }
                at = end;
            } else {
                let end = after.max(at + 1);
                kept.extend_from_slice(&self.tokens[at..end]);
                at = end;
            }
        }
        (Self { tokens: kept }, modules)
    }

    /// Behind the `#[...]` that starts at `at`; `at` itself if none does.
    fn end_of_attribute(&self, at: usize) -> usize {
        if self.text(at) == "#" && self.text(at + 1) == "[" {
            self.end_of_brackets(at + 1)
        } else {
            at
        }
    }

    fn is_for_tests(&self, start: usize, end: usize) -> bool {
        let words: Vec<_> = (start..end).map(|at| self.text(at)).collect();
        words[2] == "cfg" && words.contains(&"test") && !words.contains(&"not")
    }

    /// Behind the item's `;` or closing brace.
    fn end_of_item(&self, mut at: usize) -> usize {
        loop {
            match self.text(at) {
                "" => return at,
                ";" => return at + 1,
                "{" => return self.end_of_brackets(at),
                "(" | "[" => at = self.end_of_brackets(at),
                _ => at += 1,
            }
        }
    }

    /// Behind the bracket that closes the one at `at`.
    fn end_of_brackets(&self, mut at: usize) -> usize {
        let mut depth = 0;
        loop {
            match self.text(at) {
                "" => return at,
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                return at;
            }
        }
    }

    /// Empty behind the end.
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first == '_' || first.is_alphabetic())
}

/// The length in bytes of the piece that the text starts with, and whether it is a token rather than space, comment or literal.
fn next_piece(text: &str, first: char) -> (usize, bool) {
    let until = |end: &str, from: usize| text[from..].find(end).map(|at| from + at + end.len());
    if first.is_whitespace() {
        return (first.len_utf8(), false);
    }
    if text.starts_with("//") {
        return (until("\n", 2).unwrap_or(text.len()), false);
    }
    if text.starts_with("/*") {
        return (comment_length(text), false);
    }
    if first == '\'' {
        return (character_length(text), false);
    }
    if let Some(character) = text.strip_prefix('b').filter(|rest| rest.starts_with('\'')) {
        return (1 + character_length(character), false);
    }
    let prefix = text.len() - text.trim_start_matches(['b', 'c', 'r']).len();
    let hashes = text[prefix..].len() - text[prefix..].trim_start_matches('#').len();
    if text[prefix + hashes..].starts_with('"') && prefix <= 2 {
        let open = prefix + hashes + 1;
        if text[..prefix].ends_with('r') {
            let close = format!("\"{}", "#".repeat(hashes));
            return (until(&close, open).unwrap_or(text.len()), false);
        }
        if hashes == 0 {
            return (quoted_length(text, open), false);
        }
    }
    let word = text.find(|c: char| c != '_' && !c.is_alphanumeric());
    match word.unwrap_or(text.len()) {
        0 => (first.len_utf8(), true),
        length => (length, true),
    }
}

/// Comments nest.
fn comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// `'a'`, `'\n'` and `'"'` are characters; of the lifetime `'a` only the quote is taken.
fn character_length(text: &str) -> usize {
    let mut inner = text[1..].char_indices();
    match inner.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(text.len(), |at| 3 + at + 1),
        Some(_) => match inner.next() {
            Some((at, '\'')) => at + 2,
            _ => 1,
        },
        None => 1,
    }
}

/// Up to and with the quote that closes, `open` being behind the one that opens.
fn quoted_length(text: &str, open: usize) -> usize {
    let mut escaped = false;
    for (at, c) in text[open..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return open + at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let paths = Code::of(text).paths();
        paths.iter().map(|path| path.segments.join("::")).collect()
    }

    fn shipped(text: &str) -> (Vec<String>, Vec<String>) {
        let (code, modules) = Code::of(text).without_tests();
        let words = code.tokens.into_iter().map(|token| token.text);
        (words.filter(|text| is_word(text)).collect(), modules)
    }

    #[test]
    fn use_trees_are_spread_out() {
        assert_eq!(
            paths("use std::{fs, io::{self, Read}, time::*};"),
            [
                "use",
                "std::fs",
                "std::io::self",
                "std::io::Read",
                "std::time::*"
            ]
        );
    }

    #[test]
    fn paths_in_expressions_end_before_type_arguments() {
        assert_eq!(
            paths("std::mem::size_of::<u8>()"),
            ["std::mem::size_of", "u8"]
        );
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        let text = r##"a // std::fs
            /* x /* std::fs */ y */ "std::fs \" b" r#"std::fs " c"# b'"' '"' '\'' 'd'"##;
        assert_eq!(paths(text), ["a"]);
    }

    #[test]
    fn lifetimes_do_not_swallow_what_follows() {
        assert_eq!(paths("f::<'a>(&'a str)"), ["f", "a", "a", "str"]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_text() {
        assert_eq!(Code::of("/*\n*/ \"\n\" unsafe\n").lines_with("unsafe"), [3]);
    }

    #[test]
    fn what_is_only_built_for_tests_is_left_out() {
        let text = "fn a() {} #[cfg(test)] #[allow(x)] mod tests { fn b() {} } fn c() {}";
        let words = shipped(text).0;
        assert_eq!(words, ["fn", "a", "fn", "c"]);
    }

    #[test]
    fn what_is_built_without_tests_stays() {
        let words = shipped("#[cfg(not(test))] fn a() {} #[cfg(unix)] fn b() {}").0;
        assert!(words.contains(&"a".to_owned()) && words.contains(&"b".to_owned()));
    }

    #[test]
    fn a_test_module_in_its_own_file_is_named() {
        let (words, modules) = shipped("mod a; #[cfg(test)] mod model; mod b;");
        assert_eq!(words, ["mod", "a", "mod", "b"]);
        assert_eq!(modules, ["model"]);
    }

    #[test]
    fn a_glob_or_a_longer_path_reaches_what_it_brings_in() {
        let reaches = |text: &str, other| Code::of(text).paths()[0].reaches(other);
        assert!(reaches("std::fs::read", "std::fs"));
        assert!(reaches("std::*", "std::fs"));
        assert!(!reaches("std::fmt", "std::fs"));
        assert!(!reaches("std", "std::fs"));
    }
}
