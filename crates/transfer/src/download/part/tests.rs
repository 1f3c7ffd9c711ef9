use std::fs;

use tempfile::TempDir;

use super::*;

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
    let part = Part::create(held(&temp), ContentHash::of(b""), 3, false).unwrap();
    part.write(b"abc", 0).unwrap();
    assert_eq!(names(&temp), 1);
    drop(part);
    assert_eq!(names(&temp), 0);
}

#[test]
fn a_block_counts_if_it_is_what_its_record_says() {
    let temp = TempDir::new().unwrap();
    let key = ContentHash::of(b"key");
    let part = Part::create(held(&temp), key, 7, false).unwrap();
    let blocks = [0..3, 3..6, 6..7];
    part.reserve().unwrap();
    part.write_block(0, b"abc", 0).unwrap();
    part.write_block(2, b"g", 6).unwrap();
    let name = part.name.clone();
    drop(part);
    let again = Part::take_over(held(&temp), &name, 7).unwrap().unwrap();
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
    again.cut().unwrap();
    assert!(again.place_if_free(&held(&temp), b"whole").unwrap());
    assert_eq!(fs::metadata(temp.path().join("whole")).unwrap().len(), 7);
}

#[test]
fn what_was_put_by_is_taken_up_if_it_is_what_it_was() {
    let temp = TempDir::new().unwrap();
    let part = Part::create(held(&temp), ContentHash::of(b""), 3, false).unwrap();
    part.write(b"abc", 0).unwrap();
    part.put_by();
    let (name, stamp) = (part.name.clone(), FileStamp::of(&part.file).unwrap());
    drop(part);
    let again = Part::take_up(held(&temp), &name, 3, stamp).unwrap();
    Part::take_up(held(&temp), &name, 3, stamp).expect_err("it is in use");
    again.put_by();
    drop(again);
    fs::write(temp.path().join(str::from_utf8(&name).unwrap()), "abcd").unwrap();
    Part::take_up(held(&temp), &name, 3, stamp).expect_err("it was changed");
}

#[test]
fn what_waits_is_left_alone_as_long_as_the_one_who_put_it_by_is_there() {
    let temp = TempDir::new().unwrap();
    let mark = mark(held(&temp)).unwrap();
    let part = Part::create(held(&temp), ContentHash::of(b""), 0, false).unwrap();
    part.put_by();
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
        let part = Part::create(held(&temp), ContentHash::of(b""), 3, false).unwrap();
        part.write(b"abc", 0).unwrap();
        part.put_by();
        (part.name.clone(), FileStamp::of(&part.file).unwrap())
    };
    let (name, stamp) = put_by();
    let_go(&held(&temp), &name, &stamp).unwrap();
    assert_eq!(names(&temp), 1, "another run can");
    // As where the owner is not the one who made it.
    held(&temp).rename(&name, &held(&temp), b"first").unwrap();
    fs::hard_link(temp.path().join("first"), temp.path().join(text(&name))).unwrap();
    assert!(lock_left(&held(&temp), &name).unwrap().is_none());
    Part::take_up(held(&temp), &name, 3, stamp).unwrap();
    let_go(&held(&temp), &name, &stamp).unwrap();
    assert_eq!(names(&temp), 1, "its other name");
}

#[test]
fn what_another_process_fills_is_left_alone() {
    let temp = TempDir::new().unwrap();
    let part = Part::create(held(&temp), ContentHash::of(b""), 0, false).unwrap();
    let taken = Part::take_over(held(&temp), &part.name, 0).unwrap();
    assert!(taken.is_none());
    assert_eq!(left_in(&held(&temp)).unwrap(), []);
    remove_left(&held(&temp), &part.name).unwrap();
    assert_eq!(names(&temp), 1);
}

#[test]
fn what_nobody_fills_any_more_is_removed_unless_it_has_a_second_name() {
    let temp = TempDir::new().unwrap();
    let left = |key: &[u8]| {
        let part = Part::create(held(&temp), ContentHash::of(key), 0, false).unwrap();
        part.keep();
        part.name.clone()
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
