//! Paths through rules.

use attachfs_manifest::{FoldedName, ManifestPath};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::foreign::any_format;
use super::{cases, posix, text, windows};
use crate::{ForeignPath, Mapping, MappingRule, MixedFormats, PathFormat, parse_rules};

fn rule(format: PathFormat, source: &str, destination: &str) -> MappingRule {
    MappingRule {
        source_format: format,
        source: source.to_owned(),
        destination: destination.to_owned(),
    }
}

fn mapping(rules: &[MappingRule]) -> Mapping {
    Mapping::new(rules, PathFormat::Posix).unwrap()
}

/// What a path becomes; `None` without a rule.
fn mapped(mapping: &Mapping, path: &str) -> Option<String> {
    let place = mapping.map(path).unwrap()?;
    Some(text(&place).to_owned())
}

#[test]
fn paths_go_where_the_library_of_aws_says() {
    let cases = cases(include_str!(
        "../../../../tests/vectors/path-mapping-apply.json"
    ));
    let mut compared = 0;
    let mut refused = Vec::new();
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        let rules = parse_rules(case["rules"].to_string().as_bytes()).unwrap();
        if let Some(error) = case["error"].as_str() {
            refused.push((id, error, Mapping::new(&rules, PathFormat::Posix)));
            continue;
        }
        let mapping = mapping(&rules);
        for of in case["transform"].as_array().unwrap() {
            let path = of["in"].as_str().unwrap();
            let unmapped = of["strict"].as_str().unwrap().starts_with("ValueError");
            let expected = (!unmapped).then(|| of["out"].as_str().unwrap().to_owned());
            assert_eq!(mapped(&mapping, path), expected, "{id}: {path:?}");
            compared += 1;
        }
    }
    assert_eq!((cases.len(), compared), (9, 35));
    let [(mixed, _, mixed_found), (upper, upper_error, upper_found)] = &refused[..] else {
        panic!("{refused:?}");
    };
    assert_eq!(*mixed, "mixed_formats");
    assert_eq!(
        mixed_found.as_ref().unwrap_err(),
        &MixedFormats { index: 1 }
    );
    // That one is what the documents of Open Job Description have, so it is taken here.
    assert_eq!(
        (*upper, *upper_error),
        (
            "upper_format",
            "ValueError: Unexpected source path format POSIX"
        )
    );
    assert_eq!(
        mapped(upper_found.as_ref().unwrap(), "/a/x"),
        Some("/b/x".to_owned())
    );
}

#[test]
fn a_destination_has_the_format_of_its_system() {
    let rules = [
        rule(PathFormat::Posix, "/proj", "P:/"),
        rule(PathFormat::Posix, "/proj/tools", r"\\server\tools"),
    ];
    let mapping = Mapping::new(&rules, PathFormat::Windows).unwrap();
    assert_eq!(mapped(&mapping, "/proj/a/b"), Some(r"P:\a\b".to_owned()));
    assert_eq!(
        mapped(&mapping, "/proj/tools/x"),
        Some(r"\\server\tools\x".to_owned())
    );
    for outside in [r"/proj/a\b", "/proj/C:", "/proj/a:b/c"] {
        let error = mapping.map(outside).unwrap_err();
        assert_eq!(error.format, PathFormat::Windows, "{outside}");
    }
}

#[test]
fn an_entry_of_a_manifest_is_mapped_with_its_root() {
    let mapping = mapping(&[
        rule(PathFormat::Windows, r"X:\Show", "/show"),
        rule(PathFormat::Windows, r"X:\Show\Cache", "/cache"),
        rule(PathFormat::Windows, "relative", "/relative"),
    ]);
    let entry = |root: &ForeignPath, path: &str| {
        let path = ManifestPath::new(path.as_bytes()).unwrap();
        let place = mapping.map_entry(root, &path).unwrap()?;
        Some(text(&place).to_owned())
    };
    let root = windows(r"x:\show");
    assert_eq!(entry(&root, "a/b.exr"), Some("/show/a/b.exr".to_owned()));
    assert_eq!(entry(&root, "cache/b.exr"), Some("/cache/b.exr".to_owned()));
    // It is one name, which only a system with another separator can have.
    assert_eq!(entry(&root, r"cache\b"), Some(r"/show/cache\b".to_owned()));
    assert_eq!(entry(&windows(r"Y:\"), "a"), None);
    let relative = entry(&windows("relative"), "a");
    assert_eq!(relative, Some("/relative/a".to_owned()));
    assert_eq!(entry(&posix("relative"), "a"), None);
}

#[test]
fn case_is_kept_behind_the_rule_and_does_not_count_in_it() {
    let mapping = mapping(&[rule(PathFormat::Windows, r"C:\ÉTÉ\ΣΑΣ", "/s")]);
    for path in [r"c:\été\σας\Ä", r"C:\Été\σασ\Ä"] {
        assert_eq!(mapped(&mapping, path), Some("/s/Ä".to_owned()));
    }
    assert_eq!(mapped(&mapping, r"C:\ete\σας"), None);
}

#[test]
fn a_rule_without_components_maps_nothing() {
    let mapping = mapping(&[rule(PathFormat::Posix, ".", "/s")]);
    assert_eq!(mapped(&mapping, "a"), None);
    assert_eq!(mapped(&mapping, ""), None);
}

/// What the trie has to find: the rule whose source has the most components in common with the path, all of them.
fn naive(rules: &[MappingRule], format: PathFormat, path: &str) -> Option<String> {
    let parts = |text: &str| -> Vec<Vec<u8>> {
        let path = ForeignPath::parse(format, text);
        let anchor = Some(path.anchor()).filter(|anchor| !anchor.is_empty());
        let all = anchor.into_iter().chain(path.components());
        all.map(<[u8]>::to_vec).collect()
    };
    let same = |one: &[u8], other: &[u8]| match format {
        PathFormat::Posix => one == other,
        PathFormat::Windows => FoldedName::of(one) == FoldedName::of(other),
    };
    let of_path = parts(path);
    let mut best: Option<(usize, &MappingRule)> = None;
    for rule in rules {
        let of_rule = parts(&rule.source);
        let is_start = of_rule.len() <= of_path.len()
            && of_rule
                .iter()
                .zip(&of_path)
                .all(|(one, other)| same(one, other));
        let is_better = best.is_none_or(|(length, _)| of_rule.len() >= length);
        if is_start && is_better && !of_rule.is_empty() {
            best = Some((of_rule.len(), rule));
        }
    }
    let (length, rule) = best?;
    let destination = posix(&rule.destination);
    let rest = of_path[length..].iter().map(Vec::as_slice);
    Some(text(&destination.below(rest).unwrap()).to_owned())
}

/// Paths of few names, so that many begin with another one.
fn any_path(format: PathFormat) -> impl Strategy<Value = String> {
    let (anchors, separators) = match format {
        PathFormat::Posix => (&["", "/", "//"][..], &["/", "//", "/./"][..]),
        PathFormat::Windows => (
            &["", "C:", "c:", "C:\\", "c:/", "\\", "\\\\S\\h\\", "//s/H"][..],
            &["/", "\\", "\\.\\"][..],
        ),
    };
    let name = select(&["a", "A", "b", "..", "\u{e9}", "\u{c9}"][..]);
    let step = (select(separators), name).prop_map(|(one, other)| format!("{one}{other}"));
    let steps = prop::collection::vec(step, 0..4).prop_map(|steps| steps.concat());
    (select(anchors), steps).prop_map(|(anchor, steps)| format!("{anchor}{steps}"))
}

fn any_rules_and_paths() -> impl Strategy<Value = (PathFormat, Vec<String>, Vec<String>)> {
    any_format().prop_flat_map(|format| {
        let sources = prop::collection::vec(any_path(format), 0..8);
        let paths = prop::collection::vec(any_path(format), 1..8);
        (Just(format), sources, paths)
    })
}

proptest! {
    #[test]
    fn the_trie_finds_what_a_search_of_all_rules_finds((format, sources, paths) in any_rules_and_paths()) {
        let rules = sources.iter().enumerate();
        let rules: Vec<_> = rules.map(|(number, source)| rule(format, source, &format!("/to/{number}"))).collect();
        let mapping = mapping(&rules);
        for path in &paths {
            prop_assert_eq!(mapped(&mapping, path), naive(&rules, format, path), "{}", path);
        }
    }

    #[test]
    fn any_text_can_be_mapped(source: String, destination: String, path: Vec<u8>, from in any_format(), to in any_format()) {
        let mapping = Mapping::new(&[rule(from, &source, &destination)], to).unwrap();
        for path in [&path[..], source.as_bytes(), &[source.as_bytes(), b"/", &path].concat()] {
            let _ = mapping.map(path);
        }
    }
}

#[test]
fn rules_of_profiles_are_those_of_the_library_of_aws() {
    let cases = cases(include_str!(
        "../../../../tests/vectors/path-mapping-generate.json"
    ));
    for case in &cases {
        let profile = |field: &str| case[field].to_string().parse().unwrap();
        let rules = crate::rules_between(&profile("source"), &profile("destination"));
        let rules: Value = serde_json::from_str(&crate::rules_list(&rules)).unwrap();
        assert_eq!(rules, case["rules"], "{}", case["id"]);
    }
    assert_eq!(cases.len(), 4);
}
