//! Names that are made of roots.

use super::cases;
use crate::{
    MappingRule, PathFormat, asset_root_dir_name, downloaded_file_name, input_root_hash,
    output_root_hash, session_rules, snapshot_file_name,
};

#[test]
fn roots_have_the_names_that_the_library_of_aws_gives_them() {
    let cases = cases(include_str!(
        "../../../../tests/vectors/names-keys-metadata.json"
    ));
    let mut compared = 0;
    for case in &cases {
        let Some(root) = case["root"].as_str() else {
            continue;
        };
        let of = |field: &str| case[field].as_str().unwrap();
        assert_eq!(asset_root_dir_name(root), of("assetroot_dir"));
        // Made on Linux, whatever the root looks like.
        let input = input_root_hash(PathFormat::Posix, root);
        assert_eq!(format!("{input}_input"), of("input_manifest_name"));
        let output = output_root_hash(None, root);
        assert_eq!(output.to_string(), of("xxh128_of_root"));
        assert_eq!(
            format!("{output}_output"),
            of("worker_output_manifest_name_no_fsl")
        );
        let output = output_root_hash(Some("Loc 1"), root);
        assert_eq!(
            format!("{output}_output"),
            of("worker_output_manifest_name_fsl_Loc1")
        );
        let rule = MappingRule {
            source_format: PathFormat::Posix,
            source: root.to_owned(),
            destination: "/x".to_owned(),
        };
        assert_eq!(rule.source_hash().to_string(), of("attachments_rule_hash"));
        compared += 1;
    }
    assert_eq!((cases.len(), compared), (25, 8));
}

#[test]
fn manifests_of_trees_are_named_by_their_roots() {
    let text = include_str!("../../../../tests/vectors/manifests-v2023.json");
    // Names of files that are not UTF-8, which serde_json cannot hold.
    let cases = cases(&text.replace(r"\udcff\udcfe", ""));
    let mut compared = 0;
    for case in &cases {
        let root = case["root"].as_str().unwrap();
        let name = format!("{}_input", input_root_hash(PathFormat::Posix, root));
        assert_eq!(name, case["manifest_file_name"].as_str().unwrap());
        compared += 1;
    }
    assert_eq!(compared, 19);
}

#[test]
fn a_session_has_a_directory_for_each_root() {
    let cases = cases(include_str!(
        "../../../../tests/vectors/vfs-launch-and-destinations.json"
    ));
    let mut compared = 0;
    for case in &cases {
        let Some(session) = case["session_dir"].as_str() else {
            continue;
        };
        let of = &case["manifest_properties"];
        let format: PathFormat = of["rootPathFormat"].as_str().unwrap().parse().unwrap();
        let root = of["rootPath"].as_str().unwrap();
        let rules = session_rules(session, PathFormat::Posix, [(format, root), (format, root)]);
        let [rule] = &rules[..] else {
            panic!("{rules:?}")
        };
        assert_eq!(rule.source, root);
        for expected in case["dynamic_rules"].as_object().unwrap().values() {
            assert_eq!(
                rule.destination,
                expected["destination_path"].as_str().unwrap()
            );
            assert_eq!(
                rule.source_format.as_str(),
                expected["source_path_format"].as_str().unwrap()
            );
            compared += 1;
        }
    }
    // The third root belongs to a location.
    assert_eq!(compared, 2);
}

#[test]
fn a_file_is_named_by_its_root() {
    let time = "2025-01-31T12-00-00";
    let hash = "731442b4ddb4a5b53a932cb24fb47f14";
    let named = |name: &str| format!("{name}-{hash}-{time}.manifest");
    assert_eq!(snapshot_file_name(None, "/proj", time), named("proj"));
    assert_eq!(snapshot_file_name(Some(""), "/proj", time), named("proj"));
    assert_eq!(
        snapshot_file_name(Some("_shot"), "/proj", time),
        named("shot")
    );
    assert_eq!(downloaded_file_name("/proj", time), named("proj"));
    let start = |name: String| name.split('-').next().unwrap().to_owned();
    assert_eq!(start(snapshot_file_name(None, r"C:\a/b", time)), "C__a_b");
    assert_eq!(start(downloaded_file_name(r"C:\a/b", time)), r"C:\a_b");
    assert_eq!(start(snapshot_file_name(None, "", time)), "");
}
