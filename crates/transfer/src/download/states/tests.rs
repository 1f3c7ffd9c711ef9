use std::fs;

use attachfs_durable::{FileStamp, HeldDir};
use attachfs_manifest::{ContentHash, ManifestPath, Mtime, Piece};
use bytes::Bytes;
use tempfile::TempDir;

use super::staged::lock_left;
use super::waiting::{let_go, mark, take_up};
use super::*;
use crate::download::options::Permissions;

fn held(temp: &TempDir) -> HeldDir {
    HeldDir::open(&temp.path().canonicalize().unwrap()).unwrap()
}

fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap()
}

fn names(temp: &TempDir) -> usize {
    fs::read_dir(temp.path()).unwrap().count()
}

#[test]
fn a_part_that_gets_no_name_is_gone() {
    let temp = TempDir::new().unwrap();
    let part = Partial::create(held(&temp), ContentHash::of(b""), 3, false).unwrap();
    part.write(b"abc", 0).unwrap();
    assert_eq!(names(&temp), 1);
    drop(part);
    assert_eq!(names(&temp), 0);
}

#[test]
fn a_block_counts_if_it_is_what_its_record_says() {
    let temp = TempDir::new().unwrap();
    let key = ContentHash::of(b"key");
    let part = Partial::create(held(&temp), key, 7, false).unwrap();
    let blocks = [0..3, 3..6, 6..7];
    part.reserve().unwrap();
    part.write_block(0, b"abc", 0).unwrap();
    part.write_block(2, b"g", 6).unwrap();
    let name = part.name().to_vec();
    drop(part);
    let again = Partial::take_over(held(&temp), &name, 7).unwrap().unwrap();
    let records = again.records(&blocks).unwrap();
    let known: Vec<bool> = records.iter().map(Option::is_some).collect();
    assert_eq!(known, [true, false, true]);
    assert_eq!(
        again.read_block(0..3, records[0].unwrap()).unwrap(),
        Some(Bytes::from("abc"))
    );
    again.write(b"X", 1).unwrap();
    assert_eq!(again.read_block(0..3, records[0].unwrap()).unwrap(), None);
    again.forget(0..3).unwrap();
    assert_eq!(again.records(&blocks).unwrap(), [None, None, None]);
    let whole = ManifestPath::new(b"whole").unwrap();
    let verified = again.verified(Proof::of_bytes(ContentHash::of(b""), b"").unwrap());
    let share = Permissions::default();
    verified.set_attributes(&whole, share, Mtime(0)).unwrap();
    let named = verified.place_if_free(b"whole").unwrap();
    assert!(matches!(named, Named::Placed(_)));
    assert_eq!(fs::metadata(temp.path().join("whole")).unwrap().len(), 7);
}

#[test]
fn what_was_put_by_is_taken_up_if_it_is_what_it_was() {
    let temp = TempDir::new().unwrap();
    let part = Partial::create(held(&temp), ContentHash::of(b""), 3, false).unwrap();
    part.write(b"abc", 0).unwrap();
    part.keep();
    let (name, stamp) = (part.name().to_vec(), FileStamp::of(part.file()).unwrap());
    drop(part);
    let again = take_up(held(&temp), &name, 3, &stamp).unwrap();
    take_up(held(&temp), &name, 3, &stamp).expect_err("it is in use");
    drop(again);
    fs::write(temp.path().join(str::from_utf8(&name).unwrap()), "abcd").unwrap();
    take_up(held(&temp), &name, 3, &stamp).expect_err("it was changed");
}

#[test]
fn what_waits_is_left_alone_as_long_as_the_one_who_put_it_by_is_there() {
    let temp = TempDir::new().unwrap();
    let mark = mark(held(&temp)).unwrap();
    let part = Partial::create(held(&temp), ContentHash::of(b""), 0, false).unwrap();
    part.keep();
    drop(part);
    assert_eq!(left_in(&held(&temp)).unwrap(), []);
    drop(mark);
    let left = left_in(&held(&temp)).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0, ContentHash::of(b""));
}

#[test]
fn what_waits_and_nobody_could_take_over_is_taken_up_or_removed() {
    let temp = TempDir::new().unwrap();
    let put_by = || {
        let part = Partial::create(held(&temp), ContentHash::of(b""), 3, false).unwrap();
        part.write(b"abc", 0).unwrap();
        part.keep();
        (part.name().to_vec(), FileStamp::of(part.file()).unwrap())
    };
    let (name, stamp) = put_by();
    let_go(&held(&temp), &name, &stamp).unwrap();
    assert_eq!(names(&temp), 1, "another run can");
    // As where the owner is not the one who made it.
    held(&temp).rename(&name, &held(&temp), b"first").unwrap();
    fs::hard_link(temp.path().join("first"), temp.path().join(text(&name))).unwrap();
    assert!(lock_left(&held(&temp), &name).unwrap().is_none());
    take_up(held(&temp), &name, 3, &stamp).unwrap();
    let_go(&held(&temp), &name, &stamp).unwrap();
    assert_eq!(names(&temp), 1, "its other name");
}

#[test]
fn what_another_process_fills_is_left_alone() {
    let temp = TempDir::new().unwrap();
    let part = Partial::create(held(&temp), ContentHash::of(b""), 0, false).unwrap();
    let taken = Partial::take_over(held(&temp), part.name(), 0).unwrap();
    assert!(taken.is_none());
    assert_eq!(left_in(&held(&temp)).unwrap(), []);
    remove_left(&held(&temp), part.name()).unwrap();
    assert_eq!(names(&temp), 1);
}

#[test]
fn what_nobody_fills_any_more_is_removed_unless_it_has_a_second_name() {
    let temp = TempDir::new().unwrap();
    let left = |key: &[u8]| {
        let part = Partial::create(held(&temp), ContentHash::of(key), 0, false).unwrap();
        part.keep();
        part.name().to_vec()
    };
    let (gone, kept) = (left(b"1"), left(b"2"));
    held(&temp).create_link(b"link", &kept).unwrap();
    for name in ["empty", "full/inner"] {
        fs::create_dir_all(temp.path().join(name)).unwrap();
    }
    fs::hard_link(
        temp.path().join(std::str::from_utf8(&kept).unwrap()),
        temp.path().join("second"),
    )
    .unwrap();
    for name in [&gone[..], &kept, b"link", b"empty", b"none"] {
        remove_left(&held(&temp), name).unwrap();
    }
    remove_left(&held(&temp), b"full").unwrap_err();
    assert_eq!(names(&temp), 3, "the one with two names, and what is full");
}

/// The pieces of two objects, "abcd" and "ef", with their offsets.
fn pieces() -> [(Piece, u64, &'static [u8]); 3] {
    let piece = |object: &[u8], range| Piece {
        hash: ContentHash::of(object),
        object_len: object.len() as u64,
        range,
    };
    [
        (piece(b"abcd", 0..2), 0, b"ab"),
        (piece(b"abcd", 2..4), 2, b"cd"),
        (piece(b"ef", 0..2), 4, b"ef"),
    ]
}

#[test]
fn a_file_is_proven_by_all_of_its_bytes_in_their_order() {
    let pieces = pieces();
    let proven = |order: &[usize]| {
        let mut verifying = InOrder::default();
        for &at in order {
            let (piece, offset, bytes) = &pieces[at];
            // Whether it was no good is seen in the end.
            let _ = verifying.add(piece, *offset, bytes, None);
        }
        verifying.end(6).is_some()
    };
    assert!(proven(&[0, 1, 2]));
    for order in [&[][..], &[0], &[0, 1], &[2], &[0, 2], &[1, 2], &[2, 0, 1]] {
        assert!(!proven(order), "{order:?}");
    }
}

#[test]
fn an_object_that_was_no_good_may_come_again() {
    let pieces = pieces();
    let mut verifying = InOrder::default();
    let (first, second, last) = (&pieces[0], &pieces[1], &pieces[2]);
    verifying.add(&first.0, first.1, first.2, None).unwrap();
    verifying.add(&second.0, second.1, b"CD", None).unwrap_err();
    for (piece, offset, bytes) in [first, second, last] {
        verifying.add(piece, *offset, bytes, None).unwrap();
    }
    assert!(verifying.end(6).is_some());
}
