//! Joined files: the chunks of a file one after the other, for readers that want one file.
//!
//! ```text
//!     <name>.joined    the bytes of all chunks, in order             <name>: the hash of the list of chunks
//!     <name>.chunks    the list; what else is in it its writer knows
//!     <hash>.units     of a large chunk: says in which joined file its bytes lie, once it has no file of its own
//! ```
//!
//! A joined file comes whole and goes whole: it is filled under another name, and nothing writes to it afterwards. It is there if both
//! of its files are and fit each other. A chunk lies in it if `.units` says so and it is there; a `.units` that says so of one that is gone
//! is about an object that is not there. Its layout:
//!
//! ```text
//!     .chunks     0     magic and version   16 bytes   "attachfs chunks\x01"
//!                 4096  for each chunk      24         hash, length u64
//!     .units      1024  name                16         of the joined file
//!                 1040  place               u64        of the chunk's first byte in it
//!                 1048  length              u64        of the chunk
//!                 1056  checksum            u64        XXH3-64 of bytes 1024 to 1055
//! ```

use std::fs::{File, TryLockError};
use std::io;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::incoming::StagedIn;
use super::large::{UNITS, found, is_at, open_in_use, stays};
use super::objects::{check_is, names};
use super::{CacheDirError, HashBytes, ObjectFiles, ObjectWriter, Removal};
use crate::error::At as _;
use crate::own::Wanted;
use crate::{DurableError, Kind, OwnDir, read_range, write_all_at};

pub(super) const JOINED: &str = ".joined";
pub(super) const CHUNKS: &str = ".chunks";

const MAGIC: &[u8; 16] = b"attachfs chunks\x01";
const LIST_AT: u64 = 4096;
const ENTRY: usize = 24;
/// 16 TiB in chunks of 256 MiB.
const MOST_CHUNKS: u64 = 1 << 16;
const PLACE_AT: u64 = 1024;
const PLACE: usize = 32;

/// A chunk of a file: an object, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The object's hash.
    pub object: HashBytes,
    /// Its length in bytes.
    pub len: u64,
}

/// The chunks of a file in their order, two at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkList {
    name: HashBytes,
    size: u64,
    chunks: Vec<Chunk>,
}

/// Where the bytes of a chunk lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The name of the joined file.
    pub joined: HashBytes,
    /// The place of the first byte in it.
    pub at: u64,
    /// How many they are.
    pub len: u64,
}

/// A joined file, open.
#[derive(Debug)]
pub struct JoinedFiles {
    /// The bytes of all chunks; for reading only. Not removed to make room as long as it is open.
    pub data: File,
    /// The file with the list; for writing, too.
    pub about: File,
    /// The list.
    pub list: ChunkList,
}

/// A joined file that is being filled. Removed when dropped.
#[derive(Debug)]
pub struct StagedJoined(StagedIn);

impl ChunkList {
    /// `None` for fewer than two chunks, for too many, and for an empty one.
    pub fn new(chunks: Vec<Chunk>) -> Option<Self> {
        let count = chunks.len() as u64;
        if !(2..=MOST_CHUNKS).contains(&count) || chunks.iter().any(|chunk| chunk.len == 0) {
            return None;
        }
        let sizes = chunks.iter().map(|chunk| chunk.len);
        let size = sizes.reduce(u64::saturating_add)?;
        let name = xxh3_128(&encode(&chunks)).to_be_bytes();
        i64::try_from(size)
            .is_ok()
            .then_some(Self { name, size, chunks })
    }

    /// The name of the joined file.
    pub fn name(&self) -> HashBytes {
        self.name
    }

    /// The length of the joined file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The chunks, each with its place.
    pub fn places(&self) -> impl Iterator<Item = (Chunk, Place)> + '_ {
        let mut at = 0;
        self.chunks.iter().map(move |&chunk| {
            let place = Place {
                joined: self.name,
                at,
                len: chunk.len,
            };
            at += chunk.len;
            (chunk, place)
        })
    }

    /// The list in the file about a joined one; `None` if it is torn, or of another name.
    fn read(about: &File, name: HashBytes) -> io::Result<Option<Self>> {
        let len = about.metadata()?.len();
        let most = LIST_AT + MOST_CHUNKS * ENTRY as u64;
        if !(LIST_AT..=most).contains(&len) || read_range(about, 0..16)? != MAGIC[..] {
            return Ok(None);
        }
        let bytes = read_range(about, LIST_AT..len)?;
        let (entries, rest) = bytes.as_chunks::<ENTRY>();
        let chunks = entries.iter().map(|entry| Chunk {
            object: std::array::from_fn(|at| entry[at]),
            len: u64::from_le_bytes(std::array::from_fn(|at| entry[16 + at])),
        });
        let list = Self::new(chunks.collect());
        Ok(list.filter(|list| rest.is_empty() && list.name == name))
    }
}

fn encode(chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(chunks.len() * ENTRY);
    for chunk in chunks {
        bytes.extend_from_slice(&chunk.object);
        bytes.extend_from_slice(&chunk.len.to_le_bytes());
    }
    bytes
}

impl Place {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PLACE + 8);
        bytes.extend_from_slice(&self.joined);
        bytes.extend_from_slice(&self.at.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// Where a chunk lies, by the file about its units. `None` if that says nothing, or is torn.
    pub(super) fn read(units: &File) -> io::Result<Option<Self>> {
        let bytes = read_range(units, PLACE_AT..PLACE_AT + PLACE as u64 + 8)?;
        let word = |at: usize| {
            let word = bytes.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(word))
        };
        let Some((joined, (at, len))) = bytes.first_chunk::<16>().zip(word(16).zip(word(24)))
        else {
            return Ok(None);
        };
        let joined = *joined;
        let place = Self { joined, at, len };
        let is_sound = place.encode() == bytes && at.checked_add(len).is_some();
        Ok(is_sound.then_some(place))
    }

    /// Whether the joined file is there, by its names and its length. `partition` is that of the chunk.
    pub(super) fn is_there(&self, partition: &OwnDir) -> bool {
        let (shelf, name) = names(self.joined);
        let Ok(shelf) = partition.dir(&shelf) else {
            return false;
        };
        let of = |ending: &str| {
            let facts = shelf.held().facts_at(format!("{name}{ending}").as_bytes());
            facts.ok().filter(|facts| facts.kind == Kind::File)
        };
        of(CHUNKS).is_some()
            && of(JOINED).is_some_and(|facts| facts.stamp.size >= self.at + self.len)
    }
}

/// The chunks that lie in a joined file, by the file about it on its shelf; none if it makes no sense.
pub(super) fn chunks_of(shelf: &OwnDir, joined: HashBytes) -> Vec<HashBytes> {
    let name = format!("{}{CHUNKS}", names(joined).1);
    let list = shelf
        .open_file(&name)
        .ok()
        .and_then(|about| ChunkList::read(&about, joined).ok()?);
    list.map_or_else(Vec::new, |list| {
        list.chunks.iter().map(|chunk| chunk.object).collect()
    })
}

/// Has chunks that lie in a joined file, which was removed, be known no longer: those that have no file of their own.
pub(super) fn forget_chunks(
    partition: &OwnDir,
    joined: HashBytes,
    chunks: &[HashBytes],
) -> Result<(), DurableError> {
    for &chunk in chunks {
        let (shelf, name) = names(chunk);
        let Ok(shelf) = partition.dir(&shelf) else {
            continue;
        };
        let units = format!("{name}{UNITS}");
        let place = shelf
            .open_file(&units)
            .ok()
            .and_then(|units| Place::read(&units).ok()?);
        let has_own = ["", super::large::PART].iter().any(|ending| {
            shelf
                .held()
                .facts_at(format!("{name}{ending}").as_bytes())
                .is_ok()
        });
        if place.is_some_and(|place| place.joined == joined) && !has_own {
            shelf.remove_file(&units)?;
        }
    }
    Ok(())
}

impl ObjectFiles {
    /// Opens a joined file, if it is there and what its name says, as far as its length tells. Does not count as used by
    /// that. Blocks.
    pub fn open_joined(&self, name: HashBytes) -> io::Result<Option<JoinedFiles>> {
        let Some(shelf) = found(self.shelf(name).map(Some))? else {
            return Ok(None);
        };
        let text = names(name).1;
        let Some(about) = found(open_in_use(&shelf, &format!("{text}{CHUNKS}")))? else {
            return Ok(None);
        };
        let to_read = |name: &str| {
            let data = shelf.open_file(name)?;
            Ok(stays(&data)?.then_some(data))
        };
        let Some(data) = found(to_read(&format!("{text}{JOINED}")))? else {
            return Ok(None);
        };
        let list = ChunkList::read(&about, name)?;
        let size = data.metadata()?.len();
        Ok(list
            .filter(|list| list.size == size)
            .map(|list| JoinedFiles { data, about, list }))
    }

    /// Notes in the file about a large chunk that its bytes lie in a joined file, too. `false` if there is no such file. Blocks.
    pub fn note_place(&self, chunk: HashBytes, place: &Place) -> io::Result<bool> {
        let name = format!("{}{UNITS}", names(chunk).1);
        let open = || -> io::Result<File> { Ok(self.shelf(chunk)?.open_file_to_write(&name)?) };
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
            Ok(units) => {
                write_all_at(&units, &place.encode(), PLACE_AT)?;
                Ok(true)
            }
        }
    }

    /// Removes the file of a chunk whose bytes lie in this joined file, too, unless somebody has it open. Blocks.
    pub fn leave_to_joined(&self, chunk: HashBytes, joined: HashBytes) -> io::Result<Removal> {
        let (shelf, name) = (self.shelf(chunk)?, names(chunk).1);
        let units = shelf.open_file(&format!("{name}{UNITS}"))?;
        let place = Place::read(&units)?.filter(|place| place.joined == joined);
        if !place.is_some_and(|place| self.held().is_ok_and(|held| place.is_there(&held))) {
            // It may be the only file with these bytes.
            return Ok(Removal::Removed);
        }
        let own = match shelf.open_file(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removal::Removed),
            own => own?,
        };
        // A file system without locks cannot tell.
        if let Err(TryLockError::WouldBlock) = own.try_lock() {
            return Ok(Removal::InUse);
        }
        shelf.remove_file(&name)?;
        Ok(Removal::Removed)
    }

    /// Removes a joined file that is not what its name says, if it is this one, and has the chunks that lie in it be known no longer.
    /// Blocks.
    pub fn remove_joined(&self, name: HashBytes, data: &File) -> io::Result<()> {
        let (shelf, text) = (self.shelf(name)?, names(name).1);
        let joined = format!("{text}{JOINED}");
        if !is_at(&shelf, &joined, data) {
            return Ok(());
        }
        let chunks = chunks_of(&shelf, name);
        shelf.remove_file(&joined)?;
        shelf.remove_file(&format!("{text}{CHUNKS}"))?;
        Ok(forget_chunks(&*self.held()?, name, &chunks)?)
    }

    /// Where the bytes of a chunk lie that has no file of its own: the joined file, open. Blocks.
    pub(super) fn in_joined(
        &self,
        chunk: HashBytes,
        units: &File,
    ) -> io::Result<Option<(Place, JoinedFiles)>> {
        let Some(place) = Place::read(units)? else {
            return Ok(None);
        };
        let joined = self.open_joined(place.joined)?;
        Ok(joined
            .filter(|joined| {
                let mut places = joined.list.places();
                places.any(|(found, at)| found.object == chunk && at == place)
            })
            .map(|joined| (place, joined)))
    }
}

impl ObjectWriter {
    /// An empty file for the bytes of a joined one. Fails if something that is no file has one of its names. Blocks.
    pub fn stage_joined(&mut self, list: &ChunkList) -> Result<StagedJoined, CacheDirError> {
        self.with_incoming(|incoming, objects| {
            let shelf = objects.shelf_to_fill(list.name)?;
            for ending in [CHUNKS, JOINED] {
                let name = format!("{}{ending}", names(list.name).1);
                check_is(&shelf, &name, Wanted::File)?;
            }
            Ok(StagedJoined(incoming.stage()?))
        })
    }

    /// Gives a joined file, which the caller has filled with the chunks' bytes, its name. What the caller writes to the file about it
    /// afterwards says that it is right: until then, and if the process ends before, nobody believes it without hashing it. Blocks.
    pub fn place_joined(
        &mut self,
        staged: StagedJoined,
        list: &ChunkList,
    ) -> Result<JoinedFiles, CacheDirError> {
        let about = |incoming: &super::incoming::Incoming, objects: &ObjectFiles| {
            let about = incoming.stage()?;
            let written = write_all_at(about.file(), MAGIC, 0)
                .and_then(|()| write_all_at(about.file(), &encode(&list.chunks), LIST_AT));
            written.at("write", about.path())?;
            Ok((about, objects.shelf_to_fill(list.name)?))
        };
        let (about, shelf) = self.with_incoming(about)?;
        let name = names(list.name).1;
        let staged = staged.0;
        let again = |staged: &StagedIn| staged.file().try_clone().at("open again", staged.path());
        let (to_write, data) = (again(&about)?, again(&staged)?);
        about.place(&shelf, &format!("{name}{CHUNKS}"))?;
        staged.place(&shelf, &format!("{name}{JOINED}"))?;
        Ok(JoinedFiles {
            data,
            about: to_write,
            list: list.clone(),
        })
    }
}

impl StagedJoined {
    /// The file, open for reading and writing.
    pub fn file(&self) -> &File {
        self.0.file()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CacheDir;

    const CHUNKS_OF_IT: [Chunk; 2] = [
        Chunk {
            object: [7; 16],
            len: 5000,
        },
        Chunk {
            object: [8; 16],
            len: 100,
        },
    ];

    fn list() -> ChunkList {
        ChunkList::new(CHUNKS_OF_IT.to_vec()).unwrap()
    }

    fn placed(objects: &ObjectFiles) -> JoinedFiles {
        let mut writer = objects.writer();
        let staged = writer.stage_joined(&list()).unwrap();
        write_all_at(staged.file(), &[1; 5100], 0).unwrap();
        writer.place_joined(staged, &list()).unwrap()
    }

    #[test]
    fn a_list_has_chunks_one_after_the_other_and_a_name_of_its_own() {
        let places: Vec<_> = list().places().map(|(_, place)| place.at).collect();
        assert_eq!((list().size(), places), (5100, vec![0, 5000]));
        let mut others = [CHUNKS_OF_IT.to_vec(), CHUNKS_OF_IT.to_vec()];
        others[0].swap(0, 1);
        others[1][1].len += 1;
        for other in others {
            assert_ne!(ChunkList::new(other).unwrap().name(), list().name());
        }
        let none = Chunk {
            len: 0,
            ..CHUNKS_OF_IT[0]
        };
        let endless = Chunk {
            len: u64::MAX,
            ..none
        };
        for bad in [
            vec![],
            vec![CHUNKS_OF_IT[0]],
            vec![none; 2],
            vec![endless; 2],
        ] {
            assert_eq!(ChunkList::new(bad), None);
        }
    }

    #[test]
    fn a_joined_file_is_there_if_its_two_files_are_and_fit_each_other() {
        let temp = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        let objects = cache.objects([1; 16]).unwrap();
        assert!(objects.open_joined(list().name()).unwrap().is_none());
        let made = placed(&objects);
        let open = || objects.open_joined(list().name()).unwrap();
        assert_eq!(open().unwrap().list, list());
        let good = read_range(&made.about, 0..1 << 20).unwrap();
        for at in (0..16).chain(LIST_AT as usize..good.len()) {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            write_all_at(&made.about, &bad, 0).unwrap();
            assert!(open().is_none(), "byte {at}");
        }
        write_all_at(&made.about, &good, 0).unwrap();
        for len in [0, 15, LIST_AT, good.len() as u64 - 1] {
            made.about.set_len(len).unwrap();
            assert!(open().is_none(), "{len} bytes");
        }
        write_all_at(&made.about, &good, 0).unwrap();
        made.data.set_len(5099).unwrap();
        assert!(open().is_none());
        made.data.set_len(5100).unwrap();
        assert!(open().is_some());
        objects.remove_joined(list().name(), &made.about).unwrap();
        assert!(open().is_some(), "that is another file");
        objects.remove_joined(list().name(), &made.data).unwrap();
        // Windows may keep the name as long as a file is open.
        assert!(open().is_none() || cfg!(windows));
    }

    #[cfg(unix)]
    #[test]
    fn what_attachfs_did_not_make_keeps_the_name_of_a_joined_file() {
        for ending in [JOINED, CHUNKS] {
            let temp = tempfile::tempdir().unwrap();
            let cache = CacheDir::new(temp.path().join("cache"));
            let objects = cache.objects([1; 16]).unwrap();
            let mut name = objects.path(list().name()).into_os_string();
            name.push(ending);
            placed(&objects);
            std::fs::remove_file(&name).unwrap();
            std::os::unix::fs::symlink("elsewhere", &name).unwrap();
            let staged = objects.writer().stage_joined(&list());
            let Err(CacheDirError::Io(error)) = staged else {
                panic!("{staged:?}");
            };
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            let found = objects.open_joined(list().name());
            assert!(!matches!(found, Ok(Some(_))));
            assert!(std::fs::read_link(&name).is_ok());
        }
    }

    #[test]
    fn a_chunk_lies_where_the_file_about_its_units_says_if_that_is_whole_and_so() {
        let temp = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        let objects = cache.objects([1; 16]).unwrap();
        let (chunk, place) = list().places().next().unwrap();
        assert!(!objects.note_place(chunk.object, &place).unwrap());
        let files = objects
            .writer()
            .create_large(chunk.object, 5000, b"head", 8192);
        let files = files.unwrap();
        placed(&objects);
        assert!(objects.note_place(chunk.object, &place).unwrap());
        let found = || objects.find(chunk.object, 5000).map(|(_, at)| at);
        assert_eq!(found(), Some(0));
        for at in PLACE_AT..PLACE_AT + PLACE as u64 + 8 {
            let good = read_range(&files.units, at..at + 1).unwrap();
            write_all_at(&files.units, &[good[0] ^ 1], at).unwrap();
            assert_eq!(found(), None, "byte {at}");
            write_all_at(&files.units, &good, at).unwrap();
        }
        // Another chunk's place is not its own, whatever says so.
        for other in [
            Place { at: 1, ..place },
            list().places().nth(1).unwrap().1,
            Place {
                joined: [9; 16],
                ..place
            },
        ] {
            objects.note_place(chunk.object, &other).unwrap();
            assert_eq!(objects.find_joined(chunk.object, other.len).map(drop), None);
        }
    }
}
