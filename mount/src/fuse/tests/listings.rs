//! Listings that the kernel keeps, and when it asks for them again.

use std::fs::{self, DirEntry};
use std::io;

use attachfs_fixtures::chunk_size;
use attachfs_manifest::{Change, Diff, ManifestPath, Node};
use attachfs_vfs::Operation;
use rustix::fs::{Dir, Mode, OFlags, open};

use super::names;
use super::watched::Watched;
use crate::FastPath;
use crate::testing::{CHUNK, Given, file};

fn mounted<N: AsRef<str>>(inputs: impl IntoIterator<Item = (N, Given)>) -> Option<Watched> {
    Watched::mount(inputs, true, FastPath::Passthrough)
}

/// How often the kernel asked for a part of a listing.
fn listed(tree: &Watched) -> u64 {
    tree.count(Operation::Readdir) + tree.count(Operation::Readdirplus)
}

/// The names in an open directory, from the beginning.
fn names_from(dir: &mut Dir) -> Vec<String> {
    dir.rewind();
    let names = dir.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn a_directory_of_inputs_is_listed_again_without_asking() {
    let inputs = (0..1000).map(|number| (format!("dir/{number:03}"), file("x")));
    let Some(tree) = mounted(inputs) else {
        return;
    };
    let all = names(&tree.at("dir"));
    assert_eq!(all.len(), 1000);
    // The kernel keeps a listing only when it was read by one who does not look at the attributes, too.
    names(&tree.at("dir"));
    let before = listed(&tree);
    assert_eq!(names(&tree.at("dir")), all);
    assert_eq!(listed(&tree), before);
    tree.unmount();
}

#[test]
fn a_listing_that_the_kernel_keeps_shows_every_change() {
    let Some(tree) = mounted([("dir/a", file("a")), ("dir/b", file("b"))]) else {
        return;
    };
    let dir = tree.at("dir");
    for _ in 0..3 {
        assert_eq!(names(&dir), ["a", "b"]);
    }
    fs::write(dir.join("new"), "new").unwrap();
    assert_eq!(names(&dir), ["a", "b", "new"]);
    fs::rename(dir.join("a"), tree.at("moved")).unwrap();
    assert_eq!(names(&dir), ["b", "new"]);
    fs::remove_file(dir.join("new")).unwrap();
    assert_eq!(names(&dir), ["b"]);
    tree.unmount();
}

#[test]
fn who_opened_a_directory_before_a_change_sees_it_when_reading_begins_after_it() {
    let Some(tree) = mounted([("dir/a", file("a"))]) else {
        return;
    };
    let opened = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Dir::new(open(tree.at("dir"), flags, Mode::empty()).unwrap()).unwrap()
    };
    let [mut first, mut second] = [opened(), opened()];
    fs::write(tree.at("dir/new"), "new").unwrap();
    // What the first one lists, the kernel may keep for the second.
    assert_eq!(names_from(&mut first), ["a", "new"]);
    assert_eq!(names_from(&mut second), ["a", "new"]);
    fs::remove_file(tree.at("dir/a")).unwrap();
    assert_eq!(names_from(&mut second), ["new"]);
    assert_eq!(names_from(&mut first), ["new"]);
    drop((first, second));
    tree.unmount();
}

/// A writable mount with 5,000 files in `many`, whose listing the kernel keeps, and their names.
fn many() -> Option<(Watched, Vec<String>)> {
    let inputs = (0..5000).map(|number| (format!("many/{number:05}"), file("x")));
    let tree = mounted(inputs)?;
    let all = names(&tree.at("many"));
    assert_eq!(names(&tree.at("many")), all);
    Some((tree, all))
}

/// Removes each file when it is met, and gives the names in order.
fn removed(listing: impl Iterator<Item = io::Result<DirEntry>>) -> Vec<String> {
    let remove = |entry: io::Result<DirEntry>| {
        let entry = entry.unwrap();
        fs::remove_file(entry.path()).unwrap();
        entry.file_name().into_string().unwrap()
    };
    let mut met: Vec<_> = listing.map(remove).collect();
    met.sort();
    met
}

#[test]
fn entries_of_a_listing_that_the_kernel_keeps_are_each_met_once_while_they_are_being_removed() {
    let Some((tree, all)) = many() else {
        return;
    };
    let met = removed(fs::read_dir(tree.at("many")).unwrap());
    assert!(met == all, "{} entries", met.len());
    assert_eq!(names(&tree.at("many")), [""; 0]);
    tree.unmount();
}

#[test]
fn two_who_opened_a_directory_before_a_change_each_meet_what_stays_once() {
    for half_way in [0, 1] {
        let Some((tree, all)) = many() else {
            return;
        };
        let opened = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            Dir::new(open(tree.at("many"), flags, Mode::empty()).unwrap()).unwrap()
        };
        let mut two = [opened(), opened()];
        let name = |entry: io::Result<rustix::fs::DirEntry>| {
            let entry = entry.unwrap();
            entry.file_name().to_str().unwrap().to_owned()
        };
        let mut next = || {
            two[half_way]
                .next()
                .map(|entry| name(entry.map_err(io::Error::from)))
        };
        let mut met: Vec<_> = (0..500).map_while(|_| next()).collect();
        // What was met already goes.
        fs::remove_file(tree.at("many").join(&all[0])).unwrap();
        // This one reads all of it anew, and the kernel might keep that for both.
        assert_eq!(names_from(&mut two[1 - half_way]), all[1..]);
        let mut next = || {
            two[half_way]
                .next()
                .map(|entry| name(entry.map_err(io::Error::from)))
        };
        met.extend(std::iter::from_fn(&mut next));
        met.retain(|name| !name.starts_with('.'));
        met.sort();
        assert!(met == all, "{} entries, {half_way}", met.len());
        drop(two);
        tree.unmount();
    }
}

#[test]
fn who_reads_a_listing_that_the_kernel_loses_half_way_still_meets_each_entry_once() {
    let Some((tree, all)) = many() else {
        return;
    };
    let before = listed(&tree);
    let mut reading = fs::read_dir(tree.at("many")).unwrap();
    let begun: Vec<_> = reading.by_ref().take(500).collect();
    assert_eq!(listed(&tree), before, "the kernel lists what it keeps");
    // A name that comes first, and has the kernel forget the listing.
    let first = ManifestPath::new(b"many/!first").unwrap();
    let added = Diff::new(chunk_size(CHUNK), None, [(first, Change::Put(Node::Dir))]);
    tree.vfs().add_layer(&added.unwrap()).unwrap();
    let met = removed(begun.into_iter().chain(reading));
    assert!(listed(&tree) > before, "it was asked for the rest");
    assert!(met == all, "{} entries", met.len());
    tree.unmount();
}
