//! What patterns choose, without a tree.

use proptest::prelude::*;

use super::*;

fn filter(include: &[&str], exclude: &[&str]) -> PathFilter {
    PathFilter::new(include, exclude).unwrap()
}

fn chosen<'a>(filter: &PathFilter, paths: &[&'a str]) -> Vec<&'a str> {
    let chosen = |path: &&&str| filter.matches(path.as_bytes());
    paths.iter().filter(chosen).copied().collect()
}

const PATHS: [&str; 8] = [
    ".hid",
    "[br]/z.txt",
    "a.txt",
    "d/.hd/x.exr",
    "d/b.exr",
    "d/e/c.tmp",
    "lnkd/b.exr",
    "lnkf",
];

#[test]
fn a_long_row_of_stars_is_gone_through_once_for_each_name() {
    // Without that, this takes 8,000,000,000 steps.
    let row = "**/".repeat(2000);
    let deep = "d/".repeat(2000);
    let filter = filter(&[&format!("{row}x")], &[]);
    assert!(filter.matches(format!("{deep}x").as_bytes()));
    assert!(!filter.matches(format!("{deep}y").as_bytes()));
}

#[test]
fn the_default_chooses_what_has_no_dot() {
    let config = GlobConfig::default();
    let filter = PathFilter::new(&config.include, &config.exclude).unwrap();
    let expected = [
        "[br]/z.txt",
        "a.txt",
        "d/b.exr",
        "d/e/c.tmp",
        "lnkd/b.exr",
        "lnkf",
    ];
    assert_eq!(chosen(&filter, &PATHS), expected);
    assert_eq!(chosen(&PathFilter::everything(), &PATHS), PATHS);
}

#[test]
fn two_stars_stand_for_any_number_of_directories() {
    assert_eq!(
        chosen(&filter(&["**/*.txt"], &[]), &PATHS),
        ["[br]/z.txt", "a.txt"]
    );
    assert_eq!(
        chosen(&filter(&["d/**"], &[]), &PATHS),
        ["d/b.exr", "d/e/c.tmp"]
    );
    assert_eq!(chosen(&filter(&["d/*"], &[]), &PATHS), ["d/b.exr"]);
    assert_eq!(chosen(&filter(&["**/.hd/*"], &[]), &PATHS), ["d/.hd/x.exr"]);
    assert_eq!(chosen(&filter(&["a.txt/**"], &[]), &PATHS), [""; 0]);
    assert_eq!(chosen(&filter(&["a**"], &[]), &PATHS), ["a.txt"]);
    assert_eq!(
        chosen(&filter(&["d/**/**/e/**/c.tmp"], &[]), &PATHS),
        ["d/e/c.tmp"]
    );
}

#[test]
fn what_is_excluded_is_taken_from_what_is_included() {
    let filter = filter(&["**/*"], &["d/**", "**/*.txt"]);
    assert_eq!(chosen(&filter, &PATHS), ["lnkd/b.exr", "lnkf"]);
}

#[test]
fn dots_and_repeated_slashes_in_a_pattern_mean_nothing() {
    assert_eq!(
        chosen(&filter(&[".//d/./x/../b.exr"], &[]), &PATHS),
        ["d/b.exr"]
    );
}

#[test]
fn a_slash_at_the_end_means_a_directory() {
    let filter = filter(&["d/", "lnkf/."], &[]);
    assert_eq!(chosen(&filter, &PATHS), [""; 0]);
    assert!(filter.matches_dir(b"d"));
    assert!(!filter.matches_dir(b"e"));
}

#[test]
fn a_directory_is_chosen_by_a_pattern_that_ends_in_two_stars() {
    assert!(filter(&["d/**"], &[]).matches_dir(b"d"));
    assert!(filter(&["d/**"], &[]).matches_dir(b"d/e"));
    assert!(!filter(&["**/*"], &["d/**"]).matches_dir(b"d"));
    assert!(filter(&["**/*"], &["d/**/*"]).matches_dir(b"d"));
}

#[test]
fn a_directory_that_nothing_leads_into_need_not_be_read() {
    let only = filter(&["d/*.exr"], &[]);
    assert!(only.may_match_below(b"d"));
    assert!(!only.may_match_below(b"e"));
    assert!(!only.may_match_below(b"d/e"));
    let without = filter(&["**/*"], &["**/node_modules/**", "cache/**/*"]);
    assert!(!without.may_match_below(b"a/node_modules"));
    assert!(!without.may_match_below(b"cache/x"));
    assert!(!without.may_match_below(b".git"));
    assert!(without.may_match_below(b"a"));
}

#[test]
fn an_excluded_directory_is_read_if_hidden_names_in_it_are_included() {
    let filter = filter(&["**/*", "**/.keep"], &["d/**"]);
    assert!(filter.may_match_below(b"d"));
    assert!(filter.matches(b"d/.keep"));
    assert!(!filter.matches(b"d/x"));
}

#[test]
fn a_pattern_may_name_the_root_if_it_is_known() {
    for pattern in [
        "../snap/a.txt",
        "/tmp/jav/snap/a.txt",
        "/tmp/*/snap/a.*",
        "../../../tmp/**/a.txt",
    ] {
        let filter = PathFilter::for_root(b"/tmp/jav/snap", &[pattern], &[]).unwrap();
        assert_eq!(chosen(&filter, &PATHS), ["a.txt"], "{pattern}");
    }
    let odd = PathFilter::for_root(b"/tmp/[x]", &["*.txt", "../[[]x]/lnkf"], &[]).unwrap();
    assert_eq!(chosen(&odd, &PATHS), ["a.txt", "lnkf"]);
}

#[test]
fn a_pattern_that_leads_out_is_refused_and_excludes_nothing() {
    for pattern in ["../x", "/x", "d/../../x"] {
        let error = PathFilter::new(&[pattern], &[]).unwrap_err();
        assert_eq!(error, GlobError::LeadsOut(pattern.as_bytes().into()));
        assert!(error.to_string().contains(pattern));
        let filter = filter(&["a.txt"], &[pattern]);
        assert_eq!(chosen(&filter, &PATHS), ["a.txt"]);
    }
    let error = PathFilter::for_root(b"/r", &["../other/x"], &[]).unwrap_err();
    assert!(matches!(error, GlobError::LeadsOut(_)));
    let error = PathFilter::new(&["*/../x"], &[]).unwrap_err();
    assert!(matches!(error, GlobError::ParentOfWildcard(_)));
}

#[test]
fn many_patterns_need_more_than_one_word() {
    let patterns: Vec<String> = (0..100).map(|n| format!("d{n}/**/x")).collect();
    let filter = PathFilter::new(&patterns, &[]).unwrap();
    assert!(filter.matches(b"d99/a/x"));
    assert!(!filter.matches(b"d100/a/x"));
}

fn any_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", ".h", ".a"]).prop_map(str::to_owned)
}

fn any_pattern() -> impl Strategy<Value = String> {
    let parts = ["a", "*", "**", ".*", "?", "[!a]", "a*", ".h"];
    prop::collection::vec(prop::sample::select(parts.to_vec()), 1..4)
        .prop_map(|parts| parts.join("/"))
}

proptest! {
    #[test]
    fn nothing_is_chosen_below_a_directory_that_need_not_be_read(
        include in prop::collection::vec(any_pattern(), 0..3),
        exclude in prop::collection::vec(any_pattern(), 0..3),
        path in prop::collection::vec(any_name(), 1..5),
    ) {
        let filter = PathFilter::new(&include, &exclude).unwrap();
        let whole = path.join("/");
        if filter.matches(whole.as_bytes()) || filter.matches_dir(whole.as_bytes()) {
            for depth in 1..path.len() {
                prop_assert!(filter.may_match_below(path[..depth].join("/").as_bytes()));
            }
        }
    }

    #[test]
    fn any_bytes_are_a_pattern(pattern: Vec<u8>, path: Vec<u8>) {
        if let Ok(filter) = PathFilter::for_root(b"/r", &[pattern], &[]) {
            filter.matches(&path);
            filter.may_match_below(&path);
        }
    }
}
