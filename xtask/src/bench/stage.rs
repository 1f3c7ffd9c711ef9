//! The files of the runs.
//!
//! ```text
//!     <folder>/
//!       sets/        what is read: made once, kept for the next time
//!         large/large        many/d0000/f0000 ..        small/d0000/f0000 ..
//!         store/             the same as objects; manifests beside it
//!         four/0 .. 3        tiny/d0000/f0000 ..        entries-*.manifest: a million entries, without the files
//!       runs/        what the runs write and mount; deleted at the end
//!         disk.image, disk/      where many files are created
//! ```

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use super::bucket::Bucket;
use super::disk::Disk;
use super::program::{Mount, Program, What};
use super::work::{
    End, LARGE, MANY, SMALL, SOURCES, Shape, TINY, TWO_GIB, write_large, write_numbered,
};
use super::{crates, entries, report};
use crate::cargo::{program, succeed};

/// Something to read, on the local disk, as a manifest, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// One file of 1 GiB, as one object.
    LargeWhole,
    /// One file of 2 GiB, as one object.
    TwoGib,
    /// The same file in objects of 256 MiB.
    LargeInChunks,
    /// 5,000 files of 64 KiB.
    Small,
    /// 100,000 entries; their objects are not in the store.
    Many,
    /// One short file: something to mount where only writing counts.
    Little,
    /// [`Set::Many`], and a 2023-03-03 manifest of it.
    ManyOf2023,
    /// Four files of 1 GiB, and a manifest of them without hashes.
    Four,
    /// 60,000 files of 101 bytes, and a manifest of them without hashes.
    Tiny,
    /// 5,000 files of 4 KiB, and a tar of them; no manifest.
    Sources,
    /// Crates that need none of others, ready to be built; no manifest.
    Crates,
    /// A 2023-03-03 manifest of 1,000,000 entries.
    Entries,
    /// The same as 2025-12.
    EntriesOf2025,
    /// A 2023-03-03 manifest of ten times as many.
    TenMillion,
}

/// The folder and the program.
#[derive(Debug)]
pub(super) struct Stage {
    program: Program,
    folder: PathBuf,
    /// What is written by runs of this stage, and by nobody else.
    runs_dir: PathBuf,
    /// What sizes are divided by, to try things out.
    shrink: usize,
    prepared: RefCell<Vec<Set>>,
    runs: Cell<u32>,
    disk: RefCell<Option<Disk>>,
}

impl Stage {
    /// Nothing is made before it is needed. Two stages may share a folder, each with its own `runs_dir`.
    pub(super) fn new(folder: &Path, runs_dir: &Path, program: Program, shrink: usize) -> Self {
        Self {
            program,
            folder: folder.to_owned(),
            runs_dir: runs_dir.to_owned(),
            shrink,
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
            Set::TwoGib => "two-gib",
            Set::Small => "small",
            Set::Many | Set::ManyOf2023 => "many",
            Set::Little => "little",
            Set::Four => "four",
            Set::Tiny => "tiny",
            Set::Sources => "sources",
            Set::Crates => "crates",
            Set::Entries | Set::EntriesOf2025 | Set::TenMillion => "entries",
        };
        self.folder.join("sets").join(name)
    }

    /// The file of a large set on the local disk.
    pub(super) fn large(&self) -> PathBuf {
        self.dir(Set::LargeWhole).join("large")
    }

    /// The files of [`Set::Four`].
    pub(super) fn four(&self) -> [PathBuf; 4] {
        [0, 1, 2, 3].map(|number| self.dir(Set::Four).join(number.to_string()))
    }

    fn tiny(&self) -> Shape {
        let dirs = TINY.dirs / self.shrink.min(TINY.dirs);
        Shape { dirs, ..TINY }
    }

    /// How many files a set that is transferred has; no two are equal.
    pub(super) fn files(&self, set: Set) -> usize {
        match set {
            Set::Four => self.four().len(),
            Set::Tiny => self.tiny().files(),
            _ => SMALL.files(),
        }
    }

    /// How many entries [`Set::Entries`] has.
    pub(super) fn entries(&self) -> usize {
        entries::ENTRIES / self.shrink
    }

    /// The set's manifest.
    pub(super) fn manifest(&self, set: Set) -> PathBuf {
        let name = match set {
            Set::LargeWhole => "large-whole.manifest",
            Set::TwoGib => "two-gib.manifest",
            Set::LargeInChunks => "large-in-chunks.manifest",
            Set::Small => "small.manifest",
            Set::Many => "many.manifest",
            Set::Little => "little.manifest",
            Set::ManyOf2023 => "many-2023.manifest",
            Set::Four => "four.manifest",
            Set::Tiny => "tiny.manifest",
            Set::Sources => "sources.manifest",
            Set::Crates => "crates.manifest",
            Set::Entries => "entries-2023.manifest",
            Set::EntriesOf2025 => "entries-2025.manifest",
            Set::TenMillion => "entries-10m.manifest",
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
        // Mounts need it, also where no object is read.
        let store = self.store();
        fs::create_dir_all(&store).with_context(|| format!("cannot make {}", store.display()))?;
        match set {
            Set::Entries | Set::EntriesOf2025 | Set::TenMillion => self.write_entries(set)?,
            // The first is only read over S3, the others are put into mounts.
            Set::TwoGib | Set::Sources | Set::Crates => self.make_files(set)?,
            _ => {
                self.make_files(set)?;
                self.snapshot(set, &store)?;
            }
        }
        self.prepared.borrow_mut().push(set);
        Ok(())
    }

    fn make_files(&self, set: Set) -> Result<()> {
        make(&self.dir(set), |dir| {
            fs::create_dir_all(dir)?;
            match set {
                Set::LargeWhole | Set::LargeInChunks => {
                    write_large(&dir.join("large"), LARGE, End::Sync)
                }
                Set::TwoGib => {
                    // Other bytes than those of all other large files.
                    write_numbered(&dir.join("large"), u32::MAX, TWO_GIB, End::Sync)
                }
                Set::Small => SMALL.make(dir),
                Set::Tiny => self.tiny().make(dir),
                Set::Many | Set::ManyOf2023 => {
                    let dirs = MANY.dirs / self.shrink;
                    Shape { dirs, ..MANY }.make(dir)
                }
                Set::Four => (0..4).try_for_each(|number| {
                    let file = dir.join(number.to_string());
                    // Other bytes than those of the large file too.
                    write_numbered(&file, number + 1, LARGE / self.shrink as u64, End::Sync)
                }),
                Set::Little => fs::write(dir.join("little"), "little"),
                Set::Sources => {
                    SOURCES.make(&dir.join("tree"))?;
                    let mut pack = program("tar", ["-c", "-f"]);
                    pack.arg(dir.join("tar")).arg("-C").arg(dir).arg("tree");
                    succeed(&mut pack).map_err(io::Error::other)
                }
                Set::Crates => crates::make(dir),
                Set::Entries | Set::EntriesOf2025 | Set::TenMillion => Ok(()),
            }
        })
    }

    /// The manifests that are only measured with: one is made from the other.
    fn write_entries(&self, set: Set) -> Result<()> {
        let path = self.manifest(set);
        let count = match set {
            Set::Entries => Some(self.entries()),
            Set::TenMillion => Some(10 * self.entries()),
            _ => None,
        };
        if let Some(count) = count {
            return make(&path, |path| {
                let mut out = BufWriter::new(File::create(path)?);
                entries::write(count, &mut out)?;
                out.into_inner()?.sync_all()
            });
        }
        self.prepare(Set::Entries)?;
        make(&path, |path| {
            let from = self.manifest(Set::Entries);
            let made = report::library(["rewrite"], &[&from, path]);
            made.map(drop).map_err(io::Error::other)
        })
    }

    /// Writes the set's manifest, and its objects into a store.
    pub(super) fn snapshot(&self, set: Set, store: &Path) -> Result<()> {
        let words: &[&str] = match set {
            Set::LargeWhole | Set::TwoGib => &["snapshot", "--chunk-size", "none"],
            Set::ManyOf2023 => &["snapshot", "--format", "2023-03-03"],
            Set::Four | Set::Tiny => &["manifest", "collect", "--chunk-size", "none"],
            _ => &["snapshot"],
        };
        let mut snapshot = self.program.command(words.iter().copied());
        if !matches!(set, Set::Many | Set::ManyOf2023 | Set::Four | Set::Tiny) {
            snapshot.arg("--store").arg(store);
        }
        snapshot.arg("--output").arg(self.manifest(set));
        succeed(snapshot.arg(self.dir(set)).stdout(Stdio::null()))
    }

    /// Writes the set's manifest, and its objects into a bucket.
    pub(super) fn snapshot_to_s3(&self, set: Set, bucket: &Bucket, prefix: &str) -> Result<()> {
        let mut snapshot = self.program.over_s3(bucket);
        snapshot.args(["snapshot", "--chunk-size", "none"]);
        snapshot.arg("--store").arg(Bucket::address(prefix));
        // Another store's objects are none of this one's.
        let cache = self.fresh()?;
        snapshot.arg("--cache-dir").arg(&cache);
        snapshot.arg("--output").arg(self.s3_manifest(set));
        succeed(snapshot.arg(self.dir(set)).stdout(Stdio::null()))
    }

    fn s3_manifest(&self, set: Set) -> PathBuf {
        self.runs_dir.join(format!("s3-{set:?}.manifest"))
    }

    /// The same files for a program of a user who has no privilege.
    pub(super) fn unprivileged(&self) -> Self {
        let runs_dir = self.runs_dir.join("unprivileged");
        let program = self.program.unprivileged(runs_dir.join("home"));
        Self::new(&self.folder, &runs_dir, program, self.shrink)
    }

    /// A path that no run had before, in a directory that is there.
    pub(super) fn fresh(&self) -> Result<PathBuf> {
        self.fresh_in(&self.runs_dir)
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
        self.program.make_dir(dir)?;
        let number = self.runs.get() + 1;
        self.runs.set(number);
        Ok(dir.join(number.to_string()))
    }

    /// Starts to mount a set whose objects are in `store`, with a new session in `session`.
    pub(super) fn start_mount(
        &self,
        set: Set,
        store: &Path,
        session: &Path,
        options: &[&str],
    ) -> Result<Mount<'_>> {
        let manifest = self.manifest(set);
        let mut options = options.to_vec();
        // The objects of these sets are nowhere, which a mount would find out and refuse.
        if matches!(set, Set::Many | Set::Entries | Set::TenMillion) {
            options.push("--no-probe");
        }
        let what = What {
            manifest: &manifest,
            store: store.as_os_str(),
            bucket: None,
            options: &options,
            session,
        };
        self.program.start_mount(&what, self.mount_point())
    }

    /// Mounts a set from a bucket that [`Self::snapshot_to_s3`] filled, with these options.
    pub(super) fn mount_over_s3(
        &self,
        set: Set,
        bucket: &Bucket,
        prefix: &str,
        session: &Path,
        options: &[&str],
    ) -> Result<Mount<'_>> {
        let address = Bucket::address(prefix);
        let what = What {
            manifest: &self.s3_manifest(set),
            store: address.as_ref(),
            bucket: Some(bucket),
            options,
            session,
        };
        let mut mount = self.program.start_mount(&what, self.mount_point())?;
        mount.wait_until_ready()?;
        Ok(mount)
    }

    /// Where all mounts of this stage are, one at a time.
    pub(super) fn mount_point(&self) -> PathBuf {
        self.runs_dir.join("mount")
    }

    /// Mounts a set from the store that [`Self::prepare`] fills.
    pub(super) fn mount(&self, set: Set, session: &Path) -> Result<Mount<'_>> {
        let mut mount = self.start_mount(set, &self.store(), session, &[])?;
        mount.wait_until_ready()?;
        Ok(mount)
    }

    /// Deletes what the runs left.
    pub(super) fn clean(&self) -> Result<()> {
        self.disk.take();
        remove(&self.runs_dir)
    }
}

/// Makes what is kept for the next time, unless it is there: under another name until all of it is there.
fn make(path: &Path, work: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    println!("  making {}", path.display());
    let unfinished = path.with_extension("unfinished");
    remove(&unfinished)?;
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| work(&unfinished))
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("cannot make {}", path.display()))
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
