//! Mounts whose kernel opens nothing: what it still asks, and when.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_vfs::{Counted, Operation, Operations, Vfs};

use super::names;
use crate::fuse::unopened::MOST_FILES;
use crate::testing::{Fixture, Given, PATIENCE, file};
use crate::{FastPath, MountOptions, Mounted, Unmount, mount};

/// A read-only tree that is mounted so, and what was asked of it.
struct Unopened {
    fixture: Fixture,
    asked: Arc<Operations>,
    mounted: Mounted,
}

impl Unopened {
    fn mount<N: AsRef<str>>(inputs: impl IntoIterator<Item = (N, Given)>) -> Option<Self> {
        let fixture = Fixture::with(inputs, None, false)?;
        let counted = Counted::<Vfs>::new(fixture.vfs.clone());
        let asked = counted.operations();
        let options = MountOptions {
            fast_path: FastPath::NoOpen,
            ..fixture.options()
        };
        let mounted = mount(Arc::new(counted), &options).unwrap();
        Some(Self {
            fixture,
            asked,
            mounted,
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.fixture.at(name)
    }

    /// How often each operation was asked for so far.
    fn so_far(&self) -> Vec<(Operation, u64)> {
        let counts = self.asked.so_far();
        let counts = counts
            .iter()
            .filter(|counts| counts.operation != Operation::Statfs);
        counts
            .map(|counts| (counts.operation, counts.took.count))
            .collect()
    }

    fn unmount(&self) {
        self.mounted.unmount(Unmount::IfUnused, PATIENCE).unwrap();
    }
}

#[test]
fn files_beyond_the_bound_of_those_that_are_kept_open_are_closed() {
    const FILES: u64 = 600;
    let inputs = (0..FILES).map(|number| (format!("dir/{number:03}"), file("x")));
    let Some(tree) = Unopened::mount(inputs) else {
        return;
    };
    for number in 0..FILES {
        fs::read(tree.at(&format!("dir/{number:03}"))).unwrap();
    }
    let count = |wanted| {
        let so_far = tree.so_far().into_iter();
        let found = so_far.filter(|&(operation, _)| operation == wanted);
        found.map(|(_, count)| count).sum::<u64>()
    };
    assert_eq!(count(Operation::Open), FILES);
    assert!(count(Operation::Release) >= FILES - MOST_FILES as u64);
    tree.unmount();
}

#[test]
fn reading_many_small_files_again_asks_for_nothing() {
    let inputs = (0..100).map(|number| (format!("dir/{number:03}"), file(format!("{number}"))));
    let Some(tree) = Unopened::mount(inputs) else {
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
