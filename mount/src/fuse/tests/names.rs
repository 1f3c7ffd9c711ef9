//! Names: creating, renaming, linking, listing and removing.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::io::Errno;

use super::{errno, names};
use crate::testing::{Fixture, file};

#[test]
fn a_name_that_was_missing_can_be_created() {
    let Some(fixture) = Fixture::mounted([("d/a", file("a"))]) else {
        return;
    };
    let new = fixture.at("d/new");
    assert_eq!(errno(fs::metadata(&new)), Some(Errno::NOENT));
    assert_eq!(errno(fs::metadata(&new)), Some(Errno::NOENT));
    fs::write(&new, b"made").unwrap();
    assert_eq!(fs::read(&new).unwrap(), b"made");
    let again = OpenOptions::new().write(true).create_new(true).open(&new);
    assert_eq!(errno(again), Some(Errno::EXIST));
    assert_eq!(names(&fixture.at("d")), ["a", "new"]);
    fixture.unmount();
}

#[test]
fn a_rename_replaces_what_has_the_name() {
    let inputs = [("d/old", file("old")), ("other", file("other"))];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    fs::write(fixture.at("d/tmp"), b"new").unwrap();
    fs::rename(fixture.at("d/tmp"), fixture.at("d/old")).unwrap();
    assert_eq!(fs::read(fixture.at("d/old")).unwrap(), b"new");
    fs::rename(fixture.at("other"), fixture.at("d/old")).unwrap();
    assert_eq!(fs::read(fixture.at("d/old")).unwrap(), b"other");
    assert_eq!(names(&fixture.at("d")), ["old"]);
    assert_eq!(names(&fixture.root()), ["d"]);
    fixture.unmount();
}

#[test]
fn a_rename_that_may_not_replace_does_not() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let Some(fixture) = Fixture::mounted([("a", file("a")), ("b", file("b"))]) else {
        return;
    };
    let rename =
        |from, to, flags| renameat_with(CWD, fixture.at(from), CWD, fixture.at(to), flags).err();
    assert_eq!(rename("a", "b", RenameFlags::NOREPLACE), Some(Errno::EXIST));
    assert_eq!(rename("a", "b", RenameFlags::WHITEOUT), Some(Errno::INVAL));
    assert_eq!(rename("a", "c", RenameFlags::NOREPLACE), None);
    assert_eq!(names(&fixture.root()), ["b", "c"]);
    fixture.unmount();
}

#[test]
fn a_directory_of_the_base_is_moved_with_all_that_is_in_it() {
    let inputs = [
        ("d/e/a", file("a")),
        ("d/b", file("b")),
        ("to/x", file("x")),
    ];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    assert_eq!(fs::read(fixture.at("d/e/a")).unwrap(), b"a");
    fs::rename(fixture.at("d"), fixture.at("to/d2")).unwrap();
    assert_eq!(fs::read(fixture.at("to/d2/e/a")).unwrap(), b"a");
    assert_eq!(errno(fs::metadata(fixture.at("d/e/a"))), Some(Errno::NOENT));
    let into_itself = fs::rename(fixture.at("to"), fixture.at("to/d2/inside"));
    assert_eq!(errno(into_itself), Some(Errno::INVAL));
    fs::create_dir(fixture.at("d")).unwrap();
    assert_eq!(names(&fixture.at("d")), [""; 0]);
    fixture.unmount();
}

#[test]
fn a_file_unlinked_while_open_is_used_until_it_is_closed() {
    let Some(fixture) = Fixture::mounted([("input", file("input"))]) else {
        return;
    };
    let mut opened = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(fixture.at("own"))
        .unwrap();
    let input = File::open(fixture.at("input")).unwrap();
    fs::remove_file(fixture.at("own")).unwrap();
    fs::remove_file(fixture.at("input")).unwrap();
    opened.write_all(b"still here").unwrap();
    opened.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    opened.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    assert_eq!(opened.metadata().unwrap().nlink(), 0);
    let mut bytes = [0; 5];
    input.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"input");
    assert_eq!(names(&fixture.root()), [""; 0]);
    drop((opened, input));
    fixture.unmount();
}

#[test]
fn hard_links_are_one_file_even_after_a_copy_up() {
    let Some(fixture) = Fixture::mounted([("a", file("12345"))]) else {
        return;
    };
    fs::hard_link(fixture.at("a"), fixture.at("b")).unwrap();
    assert_eq!(fs::metadata(fixture.at("a")).unwrap().nlink(), 2);
    assert_eq!(fs::read(fixture.at("b")).unwrap(), b"12345");
    let a = OpenOptions::new()
        .write(true)
        .open(fixture.at("a"))
        .unwrap();
    a.write_all_at(b"X", 0).unwrap();
    drop(a);
    assert_eq!(fs::read(fixture.at("b")).unwrap(), b"X2345");
    fs::remove_file(fixture.at("a")).unwrap();
    assert_eq!(fs::read(fixture.at("b")).unwrap(), b"X2345");
    assert_eq!(fs::metadata(fixture.at("b")).unwrap().nlink(), 1);
    fixture.unmount();
}

#[test]
fn ten_thousand_entries_are_each_met_once_while_they_are_being_removed() {
    let inputs = (0..10_000).map(|number| (format!("many/{number:05}"), file("x")));
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    let mut met = Vec::new();
    for entry in fs::read_dir(fixture.at("many")).unwrap() {
        let entry = entry.unwrap();
        met.push(entry.file_name().into_string().unwrap());
        fs::remove_file(entry.path()).unwrap();
    }
    met.sort();
    let expected: Vec<_> = (0..10_000).map(|number| format!("{number:05}")).collect();
    assert!(met == expected, "{} entries", met.len());
    assert_eq!(names(&fixture.at("many")), [""; 0]);
    fs::remove_dir(fixture.at("many")).unwrap();
    fixture.unmount();
}

#[test]
fn a_tree_of_inputs_and_own_files_is_removed_by_rm() {
    let inputs = (0..3000).map(|number| (format!("t/{}/{number}", number % 7), file("x")));
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    let output = fixture.sh(
        "for i in $(seq 500); do echo $i > t/3/own-$i; done; find t -type f | wc -l; rm -r t; ls",
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "3500");
    fixture.unmount();
}
