//! Rust sources as the words and the paths that are in them, whole and without what is only built for tests.
//!
//! `syn` reads the files and tells what belongs to `#[cfg(test)]`; words and paths are then read from the tokens, so what
//! stands in the arguments of macros counts, too. A crate under another name (`use std as s`) is not followed, and is
//! found by that `use`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::punctuated::Punctuated;
use syn::visit_mut::{self, VisitMut};
use syn::{
    Attribute, Expr, ImplItem, Item, ItemMod, Meta, Stmt, Token, TraitItem, UseTree, Visibility,
};

/// One file of a package.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    /// The path below the package's `src/`.
    pub(super) module: PathBuf,
    pub(super) whole: Code,
    /// Without what is under `#[cfg(test)]`; empty for a file that is a test module.
    pub(super) shipped: Code,
}

/// Source text as tokens.
#[derive(Debug, Default)]
pub(super) struct Code {
    tokens: TokenStream,
}

/// A path as written, `use` trees spread out; a glob ends in `*`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// All files below `src/` of a package.
pub(super) fn read(package: &Path) -> impl Iterator<Item = SourceFile> {
    let source = package.join("src");
    let mut paths = Vec::new();
    collect(&source, &mut paths);
    let mut files = Vec::new();
    let mut tests_only = BTreeSet::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        let (whole, shipped, test_modules) =
            parse(&text).unwrap_or_else(|error| panic!("{} is no Rust: {error}", path.display()));
        let children = children_of(&path);
        tests_only.extend(test_modules.iter().map(|module| children.join(module)));
        files.push(SourceFile {
            module: path.strip_prefix(&source).unwrap_or(&path).to_owned(),
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

/// The whole code, the code that is built without tests, and the names of the modules in other files that are only built
/// with them.
fn parse(text: &str) -> syn::Result<(Code, Code, Vec<String>)> {
    let mut file = syn::parse_file(text)?;
    let whole = file.to_token_stream();
    let mut cut = CutTests::default();
    if is_for_tests(&file.attrs) {
        file.items.clear();
    }
    cut.visit_file_mut(&mut file);
    let shipped = file.to_token_stream();
    Ok((
        Code { tokens: whole },
        Code { tokens: shipped },
        cut.modules,
    ))
}

/// Removes what is only built for tests.
#[derive(Debug, Default)]
struct CutTests {
    modules: Vec<String>,
}

impl CutTests {
    fn keeps(&mut self, item: &Item) -> bool {
        let is_kept = !is_for_tests(attributes_of(item));
        if let Item::Mod(ItemMod {
            ident,
            content: None,
            ..
        }) = item
            && !is_kept
        {
            self.modules.push(ident.to_string());
        }
        is_kept
    }
}

impl VisitMut for CutTests {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        file.items.retain(|item| self.keeps(item));
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(|item| self.keeps(item));
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, item: &mut syn::ItemImpl) {
        item.items.retain(|item| {
            !is_for_tests(match item {
                ImplItem::Const(item) => &item.attrs,
                ImplItem::Fn(item) => &item.attrs,
                ImplItem::Type(item) => &item.attrs,
                ImplItem::Macro(item) => &item.attrs,
                _ => &[],
            })
        });
        visit_mut::visit_item_impl_mut(self, item);
    }

    fn visit_item_trait_mut(&mut self, item: &mut syn::ItemTrait) {
        item.items.retain(|item| {
            !is_for_tests(match item {
                TraitItem::Const(item) => &item.attrs,
                TraitItem::Fn(item) => &item.attrs,
                TraitItem::Type(item) => &item.attrs,
                TraitItem::Macro(item) => &item.attrs,
                _ => &[],
            })
        });
        visit_mut::visit_item_trait_mut(self, item);
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.retain(|statement| {
            !is_for_tests(match statement {
                Stmt::Local(local) => &local.attrs,
                Stmt::Item(item) => attributes_of(item),
                Stmt::Macro(called) => &called.attrs,
                Stmt::Expr(Expr::Block(block), _) => &block.attrs,
                Stmt::Expr(Expr::Call(call), _) => &call.attrs,
                Stmt::Expr(..) => &[],
            })
        });
        visit_mut::visit_block_mut(self, block);
    }
}

fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let conditions = attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"));
    let mut parsed = conditions.filter_map(|attribute| attribute.parse_args::<Meta>().ok());
    parsed.any(|condition| holds_without_tests(&condition) == Some(false))
}

/// Whether a condition holds where no tests are built; `None` if that depends on something else.
fn holds_without_tests(condition: &Meta) -> Option<bool> {
    match condition {
        Meta::Path(path) if path.is_ident("test") => Some(false),
        // No release has this feature; another test holds that.
        Meta::NameValue(named) if named.path.is_ident("feature") => {
            let is_for_tests = named.value.to_token_stream().to_string() == "\"testing\"";
            is_for_tests.then_some(false)
        }
        Meta::List(list) => {
            let inner = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
            let inner: Vec<_> = inner.ok()?.iter().map(holds_without_tests).collect();
            let is_all = |value| inner.iter().all(|inner| *inner == Some(value));
            let is_any = |value| inner.contains(&Some(value));
            if list.path.is_ident("not") {
                inner.first()?.map(|holds| !holds)
            } else if list.path.is_ident("all") {
                is_any(false)
                    .then_some(false)
                    .or(is_all(true).then_some(true))
            } else {
                is_any(true)
                    .then_some(true)
                    .or(is_all(false).then_some(false))
            }
        }
        _ => None,
    }
}

impl SourceFile {
    /// A file of a test.
    #[cfg(test)]
    pub(super) fn of_text(module: &str, text: &str) -> Self {
        let (whole, shipped, _) = parse(text).expect("it is Rust");
        Self {
            path: module.into(),
            module: module.into(),
            whole,
            shipped,
        }
    }

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
    /// Whether there is nothing in it, but for comments.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The names that it passes on (`pub use`), each with the path that it stands for, and the code without these and
    /// without the places to which visibility is restricted.
    pub(super) fn passed_on(&self) -> (Vec<(String, Vec<String>)>, Self) {
        let file = syn::parse2(self.tokens.clone());
        let mut file: syn::File = file.expect("what was read as Rust is Rust");
        let mut passed_on = Vec::new();
        file.items.retain(|item| match item {
            Item::Use(item) if !matches!(item.vis, Visibility::Inherited) => {
                spread(&item.tree, &[], &mut passed_on);
                false
            }
            _ => true,
        });
        CutVisibility.visit_file_mut(&mut file);
        let tokens = file.to_token_stream();
        (passed_on, Self { tokens })
    }

    pub(super) fn lines_with(&self, word: &str) -> Vec<usize> {
        let mut lines = Vec::new();
        words(self.tokens.clone(), &mut |found, line| {
            if found == word {
                lines.push(line);
            }
        });
        lines
    }

    /// The words in conditions of compilation: `cfg(..)`, `cfg!(..)` and `cfg_attr(..)`.
    pub(super) fn conditions(&self) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        conditions(self.tokens.clone(), &mut found);
        found
    }

    /// The items.
    pub(super) fn file(&self) -> syn::File {
        syn::parse2(self.tokens.clone()).expect("what was parsed before is Rust")
    }

    /// The line of the last token; 0 without any.
    pub(super) fn last_line(&self) -> usize {
        let lines = self.tokens.clone().into_iter();
        let lines = lines.map(|token| token.span().end().line);
        lines.max().unwrap_or_default()
    }

    pub(super) fn paths(&self) -> Vec<NamedPath> {
        let mut found = Vec::new();
        paths(self.tokens.clone(), &[], &mut found);
        found
    }
}

impl From<TokenStream> for Code {
    fn from(tokens: TokenStream) -> Self {
        Self { tokens }
    }
}

struct CutVisibility;

impl VisitMut for CutVisibility {
    fn visit_visibility_mut(&mut self, visibility: &mut Visibility) {
        *visibility = Visibility::Inherited;
    }
}

/// The names that a `use` tree brings, with their paths.
fn spread(tree: &UseTree, before: &[String], found: &mut Vec<(String, Vec<String>)>) {
    let path = |name: &syn::Ident| {
        let below = (name != "self").then(|| name.to_string());
        before.iter().cloned().chain(below).collect::<Vec<_>>()
    };
    match tree {
        UseTree::Path(part) => {
            let mut before = before.to_vec();
            before.push(part.ident.to_string());
            spread(&part.tree, &before, found);
        }
        UseTree::Name(name) => {
            let path = path(&name.ident);
            found.extend(path.last().cloned().map(|name| (name, path)));
        }
        UseTree::Rename(renamed) => {
            found.push((renamed.rename.to_string(), path(&renamed.ident)));
        }
        UseTree::Glob(_) => {}
        UseTree::Group(group) => {
            for tree in &group.items {
                spread(tree, before, found);
            }
        }
    }
}

fn words(tokens: TokenStream, told: &mut impl FnMut(&str, usize)) {
    for token in tokens {
        match token {
            TokenTree::Ident(word) => told(&word.to_string(), word.span().start().line),
            TokenTree::Group(group) => words(group.stream(), told),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn conditions(tokens: TokenStream, found: &mut Vec<(String, usize)>) {
    let mut is_condition = false;
    for token in tokens {
        match token {
            TokenTree::Ident(word) => is_condition = word == "cfg" || word == "cfg_attr",
            TokenTree::Group(group) if is_condition => {
                words(group.stream(), &mut |word, line| {
                    found.push((word.to_owned(), line));
                });
                is_condition = false;
            }
            TokenTree::Group(group) => conditions(group.stream(), found),
            // `cfg!`
            TokenTree::Punct(mark) if mark.as_char() == '!' => {}
            TokenTree::Punct(_) | TokenTree::Literal(_) => is_condition = false,
        }
    }
}

/// Reads the paths in some tokens, all of which lie below `before` in a `use` tree.
fn paths(tokens: TokenStream, before: &[String], found: &mut Vec<NamedPath>) {
    let mut segments = before.to_vec();
    let mut line = 0;
    let mut goes_on = false;
    // `::` is two tokens.
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == ':' => {
                colons += 1;
                if colons == 2 && segments.len() > before.len() {
                    goes_on = true;
                }
                continue;
            }
            TokenTree::Ident(word) => {
                if !goes_on {
                    end(&mut segments, before, line, found);
                }
                line = word.span().start().line;
                segments.push(word.to_string());
            }
            TokenTree::Punct(mark)
                if mark.as_char() == '*'
                    && (goes_on || (!before.is_empty() && segments.len() == before.len())) =>
            {
                line = mark.span().start().line;
                segments.push("*".to_owned());
                end(&mut segments, before, line, found);
            }
            TokenTree::Group(group) if goes_on => {
                paths(group.stream(), &segments, found);
                segments.truncate(before.len());
            }
            TokenTree::Group(group) => {
                end(&mut segments, before, line, found);
                paths(group.stream(), &[], found);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                end(&mut segments, before, line, found);
            }
        }
        goes_on = false;
        colons = 0;
    }
    end(&mut segments, before, line, found);
}

fn end(segments: &mut Vec<String>, before: &[String], line: usize, found: &mut Vec<NamedPath>) {
    if segments.len() > before.len() {
        found.push(NamedPath {
            segments: segments.clone(),
            line,
        });
        segments.truncate(before.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let (whole, ..) = parse(text).unwrap();
        let paths = whole.paths();
        paths.iter().map(|path| path.segments.join("::")).collect()
    }

    fn shipped(text: &str) -> (Vec<String>, Vec<String>) {
        let (_, code, modules) = parse(text).unwrap();
        let mut found = Vec::new();
        words(code.tokens, &mut |word, _| found.push(word.to_owned()));
        (found, modules)
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
        let found = paths("const A: B = std::mem::size_of::<u8>();");
        assert!(found.contains(&"std::mem::size_of".to_owned()), "{found:?}");
        assert!(found.contains(&"u8".to_owned()), "{found:?}");
    }

    #[test]
    fn the_arguments_of_macros_are_read() {
        let found = paths("fn f() { assert!(matches!(a, libc::ENOENT | b::C)); }");
        assert!(found.contains(&"libc::ENOENT".to_owned()), "{found:?}");
        assert!(found.contains(&"b::C".to_owned()), "{found:?}");
    }

    #[test]
    fn conditions_are_read_in_attributes_and_expressions() {
        let text = "#[cfg(all(unix, a))] fn f() { if cfg!(windows) { g(unix) } }";
        let (whole, ..) = parse(text).unwrap();
        let found = whole.conditions().into_iter().map(|(word, _)| word);
        assert_eq!(found.collect::<Vec<_>>(), ["all", "unix", "a", "windows"]);
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        let text = "/// std::fs\n// std::fs\nconst a: b = \"std::fs\";";
        assert!(!paths(text).contains(&"std::fs".to_owned()));
    }

    #[test]
    fn lines_are_counted_through_comments_and_text() {
        let (whole, ..) = parse("/*\n*/ const A: B = \"\n\"; unsafe fn f() {}\n").unwrap();
        assert_eq!(whole.lines_with("unsafe"), [3]);
    }

    #[test]
    fn what_is_only_built_for_tests_is_left_out() {
        for cut in [
            "#[cfg(test)] #[allow(x)] mod tests { fn b() {} }",
            "#[cfg(all(unix, test))] fn b() {}",
            "#[cfg(any(test))] use b;",
            "mod d { #[cfg(test)] fn b() {} }",
            "impl D { #[cfg(test)] fn b() {} }",
            "trait D { #[cfg(test)] fn b(); }",
            "fn d() { #[cfg(test)] let b = 1; #[cfg(test)] b(); }",
        ] {
            let words = shipped(&format!("fn a() {{}} {cut} fn c() {{}}")).0;
            assert!(!words.contains(&"b".to_owned()), "{cut}: {words:?}");
            assert!(words.contains(&"a".to_owned()) && words.contains(&"c".to_owned()));
        }
    }

    #[test]
    fn what_is_built_without_tests_stays() {
        for kept in [
            "not(test)",
            "unix",
            "any(test, unix)",
            "not(all(test, unix))",
        ] {
            let words = shipped(&format!("#[cfg({kept})] fn a() {{}}")).0;
            assert!(words.contains(&"a".to_owned()), "{kept}");
        }
    }

    #[test]
    fn a_test_module_in_its_own_file_is_named() {
        let (words, modules) = shipped("mod a; #[cfg(test)] mod model; mod b;");
        assert_eq!(words, ["mod", "a", "mod", "b"]);
        assert_eq!(modules, ["model"]);
    }

    #[test]
    fn a_glob_or_a_longer_path_reaches_what_it_brings_in() {
        let reaches = |text: &str, other| {
            let (whole, ..) = parse(&format!("use {text};")).unwrap();
            whole.paths()[1].reaches(other)
        };
        assert!(reaches("std::fs::read", "std::fs"));
        assert!(reaches("std::*", "std::fs"));
        assert!(!reaches("std::fmt", "std::fs"));
        assert!(!reaches("std", "std::fs"));
    }
}
