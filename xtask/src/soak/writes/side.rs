//! One of the two places in which steps are done: the mount, or the directory on a disk that says what is right.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags};

use super::steps::{How, Room, SLOTS, Step, bytes};

/// What a step gave: an error is its number.
pub(super) type Outcome = Result<Gave, i32>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gave {
    Done,
    /// So many bytes were written.
    Count(u64),
    /// What was read, listed or looked at.
    Text(String),
}

/// A process in a mapping got no page; any number that no call gives.
pub(super) const BUS_ERROR: i32 = 10_007;

/// A time so far from now was set by somebody; others are those of writes, and differ from place to place.
const SET: Duration = Duration::from_hours(24);

/// A place and the files that are open in it.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) root: PathBuf,
    files: [Option<File>; SLOTS],
    is_read_only: [bool; SLOTS],
}

impl Side {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            files: Default::default(),
            is_read_only: [false; SLOTS],
        }
    }

    /// Closes all files.
    pub(super) fn close_all(&mut self) {
        self.files = Default::default();
    }

    /// Whether the step reads by a file that is open for reading only.
    pub(super) fn reads_by_a_reader(&self, step: &Step) -> bool {
        matches!(step, Step::Read { slot, .. } if self.is_read_only[*slot] && self.files[*slot].is_some())
    }

    /// The file that a step is about, however it is named.
    pub(super) fn subject(&self, step: &Step) -> Option<File> {
        match step {
            Step::Write { slot, .. }
            | Step::Append { slot, .. }
            | Step::SetLength { slot, .. }
            | Step::Room { slot, .. } => self.files[*slot].as_ref()?.try_clone().ok(),
            Step::Map { at, .. } | Step::Truncate { at, .. } => File::open(self.root.join(at)).ok(),
            _ => None,
        }
    }

    /// Does a step. At most so many bytes are written.
    pub(super) fn perform(&mut self, step: &Step, at_most: u64) -> Outcome {
        self.attempt(step, at_most)
            .map_err(|error| error.raw_os_error().unwrap_or(BUS_ERROR))
    }

    fn file(&self, slot: usize) -> io::Result<&File> {
        self.files[slot]
            .as_ref()
            .ok_or_else(|| rustix::io::Errno::BADF.into())
    }

    fn attempt(&mut self, step: &Step, at_most: u64) -> io::Result<Gave> {
        let path = |at: &str| self.root.join(at);
        match step {
            Step::Open { slot, at, how } => {
                let at = path(at);
                self.files[*slot] = None;
                let file = rustix::fs::open(&at, how.flags(), Mode::from_raw_mode(0o644))?;
                self.files[*slot] = Some(file.into());
                self.is_read_only[*slot] = !how.writes;
            }
            Step::Close { slot } => self.files[*slot] = None,
            Step::Write {
                slot,
                offset,
                length,
                fill,
            } => {
                let bytes = bytes(*fill, *offset, (*length).min(at_most));
                return Ok(Gave::Count(
                    self.file(*slot)?.write_at(&bytes, *offset)? as u64
                ));
            }
            Step::Append { slot, length, fill } => {
                let bytes = bytes(*fill, 0, (*length).min(at_most));
                return Ok(Gave::Count(self.file(*slot)?.write(&bytes)? as u64));
            }
            Step::Read {
                slot,
                offset,
                length,
            } => {
                let file = self.file(*slot)?;
                let mut found = vec![0; *length as usize];
                let mut filled = 0;
                while filled < found.len() {
                    match file.read_at(&mut found[filled..], offset + filled as u64)? {
                        0 => break,
                        more => filled += more,
                    }
                }
                return Ok(Gave::Text(told(&found[..filled])));
            }
            Step::SetLength { slot, length } => self.file(*slot)?.set_len(*length)?,
            Step::Room {
                slot,
                room,
                offset,
                length,
            } => {
                rustix::fs::fallocate(self.file(*slot)?, room.flags(), *offset, *length)?;
            }
            Step::Sync { slot, data: true } => self.file(*slot)?.sync_data()?,
            Step::Sync { slot, data: false } => self.file(*slot)?.sync_all()?,
            Step::Map {
                at,
                offset,
                length,
                fill,
            } => {
                return store(&path(at), *offset, *length, *fill).map(Gave::Count);
            }
            Step::Truncate { at, length } => {
                // As truncate(2), but for the error if it may not be written, which root may always.
                let file =
                    rustix::fs::open(path(at), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
                rustix::fs::ftruncate(file, *length)?;
            }
            Step::ReadAll { at } => {
                let mut found = Vec::new();
                File::open(path(at))?.read_to_end(&mut found)?;
                return Ok(Gave::Text(told(&found)));
            }
            Step::MakeDir { at } => fs::create_dir(path(at))?,
            Step::RemoveDir { at } => fs::remove_dir(path(at))?,
            Step::Unlink { at } => fs::remove_file(path(at))?,
            Step::Rename { from, to } => fs::rename(path(from), path(to))?,
            Step::RenameNew { from, to } => {
                rustix::fs::renameat_with(CWD, path(from), CWD, path(to), RenameFlags::NOREPLACE)?;
            }
            Step::Exchange { from, to } => {
                rustix::fs::renameat_with(CWD, path(from), CWD, path(to), RenameFlags::EXCHANGE)?;
            }
            Step::Link { from, to } => {
                // A second name of a symbolic link leads elsewhere in a manifest.
                if path(from).is_symlink() {
                    return Ok(Gave::Done);
                }
                fs::hard_link(path(from), path(to))?;
            }
            Step::Symlink { to, at } => symlink(to, path(at))?,
            Step::Mode { at, mode } => {
                fs::set_permissions(path(at), Permissions::from_mode(*mode))?;
            }
            Step::Times {
                at,
                seconds,
                nanoseconds,
            } => {
                let time = rustix::fs::Timespec {
                    tv_sec: *seconds,
                    tv_nsec: *nanoseconds,
                };
                let times = rustix::fs::Timestamps {
                    last_access: time,
                    last_modification: time,
                };
                rustix::fs::utimensat(CWD, path(at), &times, rustix::fs::AtFlags::empty())?;
            }
            Step::SetAttribute {
                at,
                name,
                length,
                fill,
            } => {
                rustix::fs::setxattr(
                    path(at),
                    *name,
                    &bytes(*fill, 0, *length),
                    XattrFlags::empty(),
                )?;
            }
            Step::RemoveAttribute { at, name } => rustix::fs::removexattr(path(at), *name)?,
            Step::List { at } => return listed(&path(at)).map(Gave::Text),
            Step::Look { at } => {
                return Entry::read(&path(at)).map(|entry| Gave::Text(format!("{entry:?}")));
            }
            Step::MakeFifo { at } => {
                let mode = Mode::from_raw_mode(0o644);
                rustix::fs::mknodat(CWD, path(at), FileType::Fifo, mode, 0)?;
            }
            Step::SyncDir { at } => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::fsync(rustix::fs::open(path(at), flags, Mode::empty())?)?;
            }
        }
        Ok(Gave::Done)
    }
}

impl How {
    fn flags(self) -> OFlags {
        let mut flags = OFlags::CLOEXEC;
        flags |= match (self.reads, self.writes) {
            (_, false) => OFlags::RDONLY,
            (false, true) => OFlags::WRONLY,
            (true, true) => OFlags::RDWR,
        };
        flags.set(OFlags::APPEND, self.appends);
        flags.set(OFlags::CREATE, self.creates);
        flags.set(OFlags::TRUNC, self.truncates);
        flags.set(OFlags::EXCL, self.exclusive && self.creates);
        flags.set(OFlags::SYNC, self.durable);
        flags
    }
}

impl Room {
    fn flags(self) -> FallocateFlags {
        match self {
            Self::Reserved => FallocateFlags::empty(),
            Self::ReservedBeyond => FallocateFlags::KEEP_SIZE,
            Self::Punched => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Self::Zeroed => FallocateFlags::ZERO_RANGE,
            Self::ZeroedWithin => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        }
    }
}

/// Stores through a mapping, in a process of its own: an error is a signal there. Gives how many bytes there were.
fn store(path: &Path, offset: u64, length: u64, fill: u8) -> io::Result<u64> {
    const PROGRAM: &str = "import mmap, os, sys\n\
        offset, length, fill = map(int, sys.argv[2:])\n\
        try:\n \
            f = open(sys.argv[1], 'r+b', buffering=0)\n \
            length = min(length, os.fstat(f.fileno()).st_size - offset)\n \
            if length > 0:\n  \
                m = mmap.mmap(f.fileno(), 0)\n  \
                m[offset:offset + length] = bytes([fill]) * length\n  \
                m.flush()\n \
            print(max(0, length))\n\
        except OSError as error:\n \
            print(-error.errno)\n";
    let output = Command::new("python3")
        .args(["-S", "-E", "-c", PROGRAM])
        .arg(path)
        .args([offset, length, u64::from(fill)].map(|number| number.to_string()))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim().parse::<i64>() {
        Ok(count @ 0..) => Ok(count as u64),
        Ok(errno) => Err(io::Error::from_raw_os_error(-errno as i32)),
        Err(_) => Err(io::Error::other("a mapping ended in a signal")),
    }
}

/// Names the bytes.
fn told(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{} bytes {:016x}", bytes.len(), hasher.finish())
}

fn listed(dir: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let mark = if kind.is_dir() {
            "/"
        } else if kind.is_symlink() {
            "@"
        } else {
            ""
        };
        names.push(format!("{}{mark}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    Ok(names.join(" "))
}

/// What is at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Dir {
        mode: u32,
        links: u64,
        attributes: BTreeMap<String, String>,
    },
    File {
        size: u64,
        mode: u32,
        links: u64,
        /// In microseconds, if it was set.
        modified: Option<i64>,
        attributes: BTreeMap<String, String>,
        /// The bytes, if they were read.
        content: Option<String>,
    },
    Link {
        to: PathBuf,
    },
    Other,
}

impl Entry {
    /// Without the bytes.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let data = fs::symlink_metadata(path)?;
        let kind = data.file_type();
        if kind.is_symlink() {
            return Ok(Self::Link {
                to: fs::read_link(path)?,
            });
        }
        if kind.is_fifo() || kind.is_socket() {
            return Ok(Self::Other);
        }
        let attributes = attributes(path)?;
        let mode = data.mode() & 0o7777;
        if kind.is_dir() {
            return Ok(Self::Dir {
                mode,
                links: data.nlink(),
                attributes,
            });
        }
        let modified = data.mtime() * 1_000_000 + data.mtime_nsec() / 1000;
        Ok(Self::File {
            size: data.len(),
            mode,
            links: data.nlink(),
            modified: was_set(data.modified()?).then_some(modified),
            attributes,
            content: None,
        })
    }

    /// What a manifest holds of it.
    pub(super) fn committed(self) -> Option<Self> {
        match self {
            Self::Dir { .. } => Some(Self::Dir {
                mode: 0,
                links: 0,
                attributes: BTreeMap::new(),
            }),
            Self::File {
                size,
                mode,
                modified,
                content,
                ..
            } => Some(Self::File {
                size,
                mode: if mode & 0o111 == 0 { 0 } else { 0o111 },
                links: 0,
                modified,
                attributes: BTreeMap::new(),
                content,
            }),
            link @ Self::Link { .. } => Some(link),
            Self::Other => None,
        }
    }
}

fn attributes(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut names = vec![0; 4096];
    let length = match rustix::fs::listxattr(path, &mut names[..]) {
        // A read-only mount has none.
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    let mut found = BTreeMap::new();
    for name in names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0; 4096];
        let length = rustix::fs::getxattr(path, name.as_str(), &mut value[..])?;
        found.insert(name, told(&value[..length]));
    }
    Ok(found)
}

fn was_set(time: SystemTime) -> bool {
    let now = SystemTime::now();
    let distance = now.duration_since(time).or(time.duration_since(now));
    distance.is_ok_and(|distance| distance > SET)
}

/// All that is below a directory, with bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree(pub(super) BTreeMap<PathBuf, Entry>);

impl Tree {
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let mut found = BTreeMap::new();
        let mut open = vec![PathBuf::new()];
        let named = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        while let Some(dir) = open.pop() {
            let entries = fs::read_dir(root.join(&dir)).map_err(|error| named(&dir, error))?;
            for entry in entries {
                let path = dir.join(entry?.file_name());
                let at = root.join(&path);
                let mut read = Entry::read(&at).map_err(|error| named(&path, error))?;
                match &mut read {
                    Entry::Dir { .. } => open.push(path.clone()),
                    Entry::File { content, size, .. } => {
                        let bytes = fs::read(&at).map_err(|error| named(&path, error))?;
                        let length = bytes.len() as u64;
                        *content = Some(told(&bytes));
                        if length != *size {
                            *content = Some(format!("{length} bytes, not {size}"));
                        }
                    }
                    Entry::Link { .. } | Entry::Other => {}
                }
                if found.insert(path.clone(), read).is_some() {
                    return Err(io::Error::other(format!(
                        "{} is listed twice",
                        path.display()
                    )));
                }
            }
        }
        Ok(Self(found))
    }

    /// What a manifest holds.
    pub(super) fn committed(self) -> Self {
        let entries = self.0.into_iter();
        Self(
            entries
                .filter_map(|(path, entry)| Some((path, entry.committed()?)))
                .collect(),
        )
    }

    /// The paths at which two trees differ, with what is there.
    pub(super) fn differences(&self, expected: &Self) -> Vec<(PathBuf, String)> {
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(expected.0.keys()).collect();
        let differ = paths.into_iter().filter_map(|path| {
            let (is, should) = (self.0.get(path), expected.0.get(path));
            let text = || format!("{}: is {is:?}, should be {should:?}", path.display());
            (is != should).then(|| (path.clone(), text()))
        });
        differ.collect()
    }
}
