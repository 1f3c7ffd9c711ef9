//! A mounted tree, and what the kernel asked of it.

use std::path::PathBuf;
use std::sync::Arc;

use attachfs_vfs::{Counted, Operation, Operations, Vfs};

use crate::testing::{Fixture, Given, PATIENCE};
use crate::{FastPath, MountOptions, Mounted, Unmount, mount};

pub(super) struct Watched {
    fixture: Fixture,
    asked: Arc<Operations>,
    mounted: Mounted,
}

impl Watched {
    pub(super) fn mount<N: AsRef<str>>(
        inputs: impl IntoIterator<Item = (N, Given)>,
        writable: bool,
        fast_path: FastPath,
    ) -> Option<Self> {
        let fixture = Fixture::with(inputs, None, writable)?;
        let counted = Counted::<Vfs>::new(fixture.vfs.clone());
        let asked = counted.operations();
        let options = MountOptions {
            fast_path,
            ..fixture.options()
        };
        let mounted = mount(Arc::new(counted), &options).unwrap();
        Some(Self {
            fixture,
            asked,
            mounted,
        })
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.fixture.at(name)
    }

    /// How often each operation was asked for so far.
    pub(super) fn so_far(&self) -> Vec<(Operation, u64)> {
        let counts = self.asked.so_far();
        let counts = counts
            .iter()
            .filter(|counts| counts.operation != Operation::Statfs);
        counts
            .map(|counts| (counts.operation, counts.took.count))
            .collect()
    }

    /// How often this operation was asked for so far.
    pub(super) fn count(&self, wanted: Operation) -> u64 {
        let so_far = self.so_far().into_iter();
        let found = so_far.filter(|&(operation, _)| operation == wanted);
        found.map(|(_, count)| count).sum()
    }

    pub(super) fn vfs(&self) -> &Vfs {
        &self.fixture.vfs
    }

    pub(super) fn unmount(&self) {
        self.mounted.unmount(Unmount::IfUnused, PATIENCE).unwrap();
    }
}
