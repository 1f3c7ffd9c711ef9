//! Mounts whose kernel opens nothing: what it still asks, and when.

use std::fs;

use attachfs_vfs::Operation;

use super::names;
use super::watched::Watched;
use crate::FastPath;
use crate::fuse::unopened::MOST_FILES;
use crate::testing::{Given, file};

fn mounted<N: AsRef<str>>(inputs: impl IntoIterator<Item = (N, Given)>) -> Option<Watched> {
    Watched::mount(inputs, false, FastPath::NoOpen)
}

#[test]
fn files_beyond_the_bound_of_those_that_are_kept_open_are_closed() {
    const FILES: u64 = 600;
    let inputs = (0..FILES).map(|number| (format!("dir/{number:03}"), file("x")));
    let Some(tree) = mounted(inputs) else {
        return;
    };
    for number in 0..FILES {
        fs::read(tree.at(&format!("dir/{number:03}"))).unwrap();
    }
    assert_eq!(tree.count(Operation::Open), FILES);
    assert!(tree.count(Operation::Release) >= FILES - MOST_FILES as u64);
    tree.unmount();
}

#[test]
fn reading_many_small_files_again_asks_for_nothing() {
    let inputs = (0..100).map(|number| (format!("dir/{number:03}"), file(format!("{number}"))));
    let Some(tree) = mounted(inputs) else {
        return;
    };
    let read_all = || {
        let names = names(&tree.at("dir"));
        assert_eq!(names.len(), 100);
        for (number, name) in names.iter().enumerate() {
            let read = fs::read_to_string(tree.at("dir").join(name)).unwrap();
            assert_eq!(read, number.to_string());
        }
    };
    // The kernel keeps a listing only when it was read by one who does not look at the attributes, too.
    read_all();
    read_all();
    let before = tree.so_far();
    read_all();
    assert_eq!(tree.so_far(), before);
    tree.unmount();
}
