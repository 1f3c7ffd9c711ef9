//! Every snapshot and diff can be written, and everything that was written can be read: no manifest
//! is published that no reader can open.

use proptest::prelude::*;

use super::{EncodeError, Format, Manifest, decode, encode, encode_diff};
use crate::testing::{any_path, dir, file, link, path};
use crate::{Change, ChunkSize, Diff, LinkTarget, Node, Snapshot};

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::DeleteDir),
        Just(Change::DeleteFile),
        Just(Change::Put(dir())),
        Just(Change::Put(file(1))),
        Just(Change::Put(Node::Symlink(LinkTarget::Root))),
        any_path().prop_map(|target| Change::Put(Node::Symlink(LinkTarget::Below(target)))),
    ]
}

/// Changes as they come, whether or not they were ever made of two snapshots.
fn any_diff() -> impl Strategy<Value = Diff> {
    prop::collection::vec((any_path(), any_change()), 0..6).prop_filter_map("no diff", |changes| {
        Diff::new(ChunkSize::DEFAULT, None, changes).ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn every_diff_that_can_be_made_can_be_read_again(diff in any_diff()) {
        let encoded = encode_diff(&diff, Format::V2025_12).unwrap();
        let (_, Manifest::Diff(decoded)) = decode(&encoded).unwrap() else {
            panic!("a snapshot");
        };
        for (path, change) in diff.changes() {
            prop_assert!(decoded.at(path).any(|read| read == change), "{} {:?}", path, change);
        }
        prop_assert_eq!(encode_diff(&decoded, Format::V2025_12), Ok(encoded));
    }
}

#[test]
fn a_directory_above_a_deletion_is_gone_if_what_is_above_it_became_a_file() {
    let changes = [
        (path("a"), Change::DeleteDir),
        (path("a"), Change::Put(file(1))),
        (path("a/b/c"), Change::DeleteFile),
    ];
    let diff = Diff::new(ChunkSize::DEFAULT, None, changes.clone()).unwrap();
    let encoded = encode_diff(&diff, Format::V2025_12).unwrap();
    let (_, Manifest::Diff(decoded)) = decode(&encoded).unwrap() else {
        panic!("a snapshot");
    };
    let whole = changes
        .into_iter()
        .chain([(path("a/b"), Change::DeleteDir)]);
    assert_eq!(decoded, Diff::new(ChunkSize::DEFAULT, None, whole).unwrap());
}

#[test]
fn what_no_reader_takes_is_not_written() {
    let drive = [(path("C:"), dir()), (path("C:/l"), link("t"))];
    let drive = Snapshot::new(ChunkSize::DEFAULT, None, drive).unwrap();
    let error = encode(&Manifest::Snapshot(drive), Format::V2025_12Absolute).unwrap_err();
    assert!(matches!(error, EncodeError::Entry { path: at, .. } if at == path("t")));
    let huge = ChunkSize::Bytes((1 << 63).try_into().unwrap());
    let huge = Snapshot::new(huge, None, []).unwrap();
    let error = encode(&Manifest::Snapshot(huge), Format::V2025_12).unwrap_err();
    assert_eq!(
        error.to_string(),
        "files cannot be cut at 9223372036854775808 bytes: at most 2^63 - 1 are possible"
    );
}
