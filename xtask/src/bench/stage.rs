//! The files of the runs.
//!
//! ```text
//!     <folder>/
//!       sets/        what is read: made once, kept for the next time
//!         large/large        many/d0000/f0000 ..        small/d0000/f0000 ..
//!         store/             the same as objects; manifests beside it
//!       runs/        what the runs write and mount; deleted at the end
//!         disk.image, disk/      where many files are created
//! ```

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use super::disk::Disk;
use super::program::{Mount, Program, What};
use super::work::{End, MANY, SMALL, write_large};
use crate::cargo::succeed;

/// Something to read, on the local disk and as a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// One file of 1 GiB, as one object.
    LargeWhole,
    /// The same file in objects of 256 MiB.
    LargeInChunks,
    /// 5,000 files of 64 KiB.
    Small,
    /// 100,000 entries; their objects are not in the store.
    Many,
    /// One short file: something to mount where only writing counts.
    Little,
}

/// The folder and the program.
#[derive(Debug)]
pub(super) struct Stage {
    program: Program,
    folder: PathBuf,
    prepared: RefCell<Vec<Set>>,
    runs: Cell<u32>,
    disk: RefCell<Option<Disk>>,
}

impl Stage {
    /// Nothing is made before it is needed.
    pub(super) fn new(folder: PathBuf, program: Program) -> Self {
        Self {
            program,
            folder,
            prepared: RefCell::default(),
            runs: Cell::new(0),
            disk: RefCell::default(),
        }
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// The set's directory on the local disk.
    pub(super) fn dir(&self, set: Set) -> PathBuf {
        let name = match set {
            Set::LargeWhole | Set::LargeInChunks => "large",
            Set::Small => "small",
            Set::Many => "many",
            Set::Little => "little",
        };
        self.folder.join("sets").join(name)
    }

    /// The file of a large set on the local disk.
    pub(super) fn large(&self) -> PathBuf {
        self.dir(Set::LargeWhole).join("large")
    }

    fn manifest(&self, set: Set) -> PathBuf {
        let name = match set {
            Set::LargeWhole => "large-whole.manifest",
            Set::LargeInChunks => "large-in-chunks.manifest",
            Set::Small => "small.manifest",
            Set::Many => "many.manifest",
            Set::Little => "little.manifest",
        };
        self.folder.join("sets").join(name)
    }

    /// The store that [`Self::prepare`] fills.
    pub(super) fn store(&self) -> PathBuf {
        self.folder.join("sets/store")
    }

    /// Makes the set unless it is there, and a manifest of it with the program of this run.
    pub(super) fn prepare(&self, set: Set) -> Result<()> {
        if self.prepared.borrow().contains(&set) {
            return Ok(());
        }
        let dir = self.dir(set);
        if !dir.exists() {
            println!("  making {}", dir.display());
            // Under another name until all of it is there.
            let unfinished = dir.with_extension("unfinished");
            remove(&unfinished)?;
            fs::create_dir_all(&unfinished)
                .and_then(|()| match set {
                    Set::LargeWhole | Set::LargeInChunks => {
                        write_large(&unfinished.join("large"), End::Sync)
                    }
                    Set::Small => SMALL.make(&unfinished),
                    Set::Many => MANY.make(&unfinished),
                    Set::Little => fs::write(unfinished.join("little"), "little"),
                })
                .and_then(|()| fs::rename(&unfinished, &dir))
                .with_context(|| format!("cannot make {}", dir.display()))?;
        }
        self.snapshot(set, &self.store())?;
        self.prepared.borrow_mut().push(set);
        Ok(())
    }

    /// Writes the set's manifest, and its objects into a store.
    pub(super) fn snapshot(&self, set: Set, store: &Path) -> Result<()> {
        let mut snapshot = self.program.command(["snapshot", "--output"]);
        snapshot.arg(self.manifest(set)).arg(self.dir(set));
        if set == Set::LargeWhole {
            snapshot.args(["--chunk-size", "none"]);
        }
        if set != Set::Many {
            snapshot.arg("--store").arg(store);
        }
        succeed(snapshot.stdout(Stdio::null()))
    }

    /// A path that no run had before, in a directory that is there.
    pub(super) fn fresh(&self) -> Result<PathBuf> {
        self.fresh_in(&self.folder.join("runs"))
    }

    /// As [`Self::fresh`], on a file system where nothing was deleted.
    pub(super) fn fresh_on_disk(&self) -> Result<PathBuf> {
        let mut disk = self.disk.borrow_mut();
        let disk = match &mut *disk {
            Some(disk) => disk,
            none => {
                let image = self.fresh()?.with_file_name("disk.image");
                none.insert(Disk::make(&image, &image.with_file_name("disk"))?)
            }
        };
        self.fresh_in(disk.dir())
    }

    fn fresh_in(&self, dir: &Path) -> Result<PathBuf> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let number = self.runs.get() + 1;
        self.runs.set(number);
        Ok(dir.join(number.to_string()))
    }

    /// Starts to mount a set whose objects are in `store`, with a new session in `session`.
    pub(super) fn start_mount(&self, set: Set, store: &Path, session: &Path) -> Result<Mount<'_>> {
        let manifest = self.manifest(set);
        let what = What {
            manifest: &manifest,
            store,
            session,
        };
        let point = self.folder.join("runs/mount");
        self.program.start_mount(&what, point)
    }

    /// Mounts a set from the store that [`Self::prepare`] fills.
    pub(super) fn mount(&self, set: Set, session: &Path) -> Result<Mount<'_>> {
        let mut mount = self.start_mount(set, &self.store(), session)?;
        mount.wait_until_ready()?;
        Ok(mount)
    }

    /// Deletes what the runs left.
    pub(super) fn clean(&self) -> Result<()> {
        self.disk.take();
        remove(&self.folder.join("runs"))
    }
}

/// Deletes a file, or a directory with all that is in it; that it is not there is fine.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", path.display()))
        }
        _ => Ok(()),
    }
}
