//! Storage profiles as documents.

use proptest::prelude::*;
use proptest::sample::select;

use crate::{
    FileSystemLocation, LocationType, OsFamily, PathFormat, StorageProfile, rules_between,
};

/// As `aws deadline get-storage-profile` prints one.
const PRINTED: &str = r#"{
    "storageProfileId": "sp-0123456789abcdef0123456789abcdef",
    "displayName": "Artists",
    "osFamily": "WINDOWS",
    "createdAt": "2025-01-31T12:00:00+00:00",
    "createdBy": "arn:aws:iam::123456789012:user/x",
    "updatedAt": null,
    "fileSystemLocations": [
        {"name": "Show", "path": "X:\\Show", "type": "SHARED"},
        {"name": "Home", "path": "C:\\Users", "type": "LOCAL"}
    ]
}"#;

fn location(name: &str, path: &str, kind: LocationType) -> FileSystemLocation {
    FileSystemLocation {
        name: name.to_owned(),
        path: path.to_owned(),
        kind,
    }
}

#[test]
fn a_profile_is_read_as_it_is_printed() {
    let profile: StorageProfile = PRINTED.parse().unwrap();
    assert_eq!(profile.id, "sp-0123456789abcdef0123456789abcdef");
    assert_eq!(profile.name, "Artists");
    assert_eq!(profile.family, OsFamily::Windows);
    assert_eq!(profile.path_format(), PathFormat::Windows);
    assert_eq!(
        profile.locations,
        [
            location("Show", r"X:\Show", LocationType::Shared),
            location("Home", r"C:\Users", LocationType::Local),
        ]
    );
    let without = PRINTED
        .split(",\n    \"createdAt\"")
        .next()
        .unwrap()
        .to_owned()
        + "}";
    assert_eq!(without.parse::<StorageProfile>().unwrap().locations, []);
}

#[test]
fn an_error_names_the_field() {
    for (from, to, message) in [
        (
            "\"sp-0123456789abcdef0123456789abcdef\"",
            "5",
            "storageProfileId is no text",
        ),
        ("\"displayName\"", "\"name\"", "displayName is missing"),
        (
            "WINDOWS",
            "BEOS",
            "osFamily is \"BEOS\", LINUX, MACOS or WINDOWS is expected",
        ),
        (
            "\"LOCAL\"",
            "\"local\"",
            "fileSystemLocations[1].type is \"local\", SHARED or LOCAL is expected",
        ),
        (
            "\"C:\\\\Users\"",
            "\"\"",
            "fileSystemLocations[1].path is empty",
        ),
        (
            "\"name\": \"Show\",",
            "",
            "fileSystemLocations[0].name is missing",
        ),
        (
            "{\"name\": \"Show\", \"path\": \"X:\\\\Show\", \"type\": \"SHARED\"}",
            "[]",
            "fileSystemLocations[0] is no object",
        ),
    ] {
        let text = PRINTED.replacen(from, to, 1);
        assert_ne!(text, PRINTED);
        let error = text.parse::<StorageProfile>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the storage profile cannot be used: {message}")
        );
    }
    let list = r#"{"fileSystemLocations":{}}"#.parse::<StorageProfile>().unwrap_err();
    assert!(
        list.to_string().ends_with("fileSystemLocations is no list"),
        "{list}"
    );
    let error = "[]".parse::<StorageProfile>().unwrap_err();
    assert_eq!(error.to_string(), "the storage profile is no object");
    "{".parse::<StorageProfile>().unwrap_err();
}

#[test]
fn between_a_profile_and_itself_there_are_no_rules() {
    let profile: StorageProfile = PRINTED.parse().unwrap();
    assert_eq!(rules_between(&profile, &profile), []);
    let other = StorageProfile {
        id: "sp-other".to_owned(),
        ..profile.clone()
    };
    assert_eq!(rules_between(&profile, &other).len(), 2);
}

#[test]
fn a_location_that_is_there_twice_counts_as_the_last_one_says() {
    let of = |id: &str, paths: [&str; 3]| StorageProfile {
        id: id.to_owned(),
        name: id.to_owned(),
        family: OsFamily::Linux,
        locations: vec![
            location("A", paths[0], LocationType::Local),
            location("B", paths[1], LocationType::Local),
            location("A", paths[2], LocationType::Local),
        ],
    };
    let rules = rules_between(
        &of("one", ["/1", "/2", "/3"]),
        &of("other", ["/4", "/5", "/6"]),
    );
    let found: Vec<_> = rules
        .iter()
        .map(|rule| (&*rule.source, &*rule.destination))
        .collect();
    assert_eq!(found, [("/3", "/6"), ("/2", "/5")]);
}

fn any_profile() -> impl Strategy<Value = StorageProfile> {
    let kind = select(&[LocationType::Shared, LocationType::Local][..]);
    let location =
        (".{1,6}", ".{1,6}", kind).prop_map(|(name, path, kind)| location(&name, &path, kind));
    let family = select(&[OsFamily::Linux, OsFamily::MacOs, OsFamily::Windows][..]);
    let locations = prop::collection::vec(location, 0..4);
    (".{1,6}", ".{1,6}", family, locations).prop_map(|(id, name, family, locations)| {
        StorageProfile {
            id,
            name,
            family,
            locations,
        }
    })
}

proptest! {
    #[test]
    fn a_profile_reads_as_it_is_written(profile in any_profile()) {
        prop_assert_eq!(profile.to_json().parse::<StorageProfile>().unwrap(), profile);
    }

    #[test]
    fn any_text_is_a_profile_or_an_error(text: String) {
        let _ = text.parse::<StorageProfile>();
    }
}
