//! A folder of many small files, a store, and the places of a user.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use attachfs::{
    Announce, CacheDir, CancellationToken, Exposed, ManifestBytes, OpenStore, Places, Progress,
    ProgressEvent, Runtime, SnapshotOptions, create_directory_store, take_snapshot,
};
use attachfs_store::DirectoryStore;

/// The files of the folder, each with bytes of its own. A listener hears of every fiftieth.
pub(crate) const FILES: u64 = 400;

pub(crate) struct Folders(tempfile::TempDir);

impl Folders {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn places(&self) -> Places {
        Places {
            state: self.at("state"),
            cache: CacheDir::new(self.at("cache")),
            data: self.at("data"),
        }
    }

    pub(crate) fn store(&self) -> (DirectoryStore, OpenStore) {
        create_directory_store(&self.at("store")).unwrap()
    }

    /// The folder with its files.
    pub(crate) fn filled(&self) -> PathBuf {
        let folder = self.at("folder");
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..FILES {
            std::fs::write(folder.join(number.to_string()), number.to_string()).unwrap();
        }
        folder
    }

    /// The folder's manifest, with its bytes in the store.
    pub(crate) fn snapshot(&self, runtime: &Runtime, store: &OpenStore) -> ManifestBytes {
        let (folder, options) = (self.filled(), SnapshotOptions::default());
        let cancel = CancellationToken::new();
        let taken = take_snapshot(&folder, Some(store), &Quiet, &options, &Quiet, &cancel);
        ManifestBytes {
            name: "folder".to_owned(),
            bytes: runtime.wait(taken).unwrap().bytes,
            at: None,
        }
    }
}

/// Hears everything, and does nothing.
pub(crate) struct Quiet;

impl Progress for Quiet {
    fn update(&self, _: &ProgressEvent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Announce for Quiet {
    fn copying(&self, _: u64, _: &Path) {}

    fn exposing(&self, _: &Exposed) {}
}
