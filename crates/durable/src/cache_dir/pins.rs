//! Objects that stay in the cache although room is needed.
//!
//! ```text
//!     v1/pins/<name>.pin    one line of text, which its maker chooses | the partition | the hashes, 16 bytes each
//! ```
//!
//! A pin is a file that appears whole. One that cannot be read protects nothing, and is told.

use std::io;

use super::{HashBytes, Stock, hex, parse_hex};
use crate::error::At as _;
use crate::{DurableError, OwnDir};

const DIR: &str = "pins";
const SUFFIX: &str = ".pin";
/// 64 million objects.
const LONGEST: u64 = 1 << 30;

/// The pins of a cache directory.
#[derive(Debug)]
pub struct Pins<'a> {
    objects: &'a OwnDir,
}

/// Objects of one partition that stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Its name.
    pub name: HashBytes,
    /// One line of text about it.
    pub about: String,
    /// The partition.
    pub partition: HashBytes,
    /// The hashes of the objects, in order.
    pub objects: Vec<HashBytes>,
}

impl Pin {
    /// Whether it holds an object.
    pub fn holds(&self, partition: HashBytes, object: &HashBytes) -> bool {
        self.partition == partition && self.objects.binary_search(object).is_ok()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.about.len() + 17 + 16 * self.objects.len());
        let line = self.about.lines().next().unwrap_or_default();
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.partition);
        bytes.extend_from_slice(self.objects.as_flattened());
        bytes
    }

    fn decode(name: HashBytes, bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        let about = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let (hashes, rest) = bytes[end + 1..].as_chunks::<16>();
        let (partition, objects) = hashes.split_first()?;
        (rest.is_empty() && objects.is_sorted()).then(|| Self {
            name,
            about,
            partition: *partition,
            objects: objects.to_vec(),
        })
    }
}

impl<'a> Pins<'a> {
    pub(super) fn of(objects: &'a OwnDir) -> Self {
        Self { objects }
    }

    /// All pins. One that cannot be read is left out. Blocks.
    pub fn all(&self) -> Result<Vec<Pin>, DurableError> {
        let dir = match self.objects.dir(DIR) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            dir => dir?,
        };
        let mut all = Vec::new();
        for file in dir.names()? {
            let hash = file.to_str().and_then(|file| file.strip_suffix(SUFFIX));
            let Some(name) = hash.and_then(parse_hex) else {
                continue;
            };
            match read(&dir, name) {
                Ok(Some(pin)) => all.push(pin),
                Ok(None) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a pin of the disk cache cannot be read; what it is to keep may be removed"
                ),
            }
        }
        Ok(all)
    }

    /// Keeps these objects until they are unpinned, durably. Replaces the pin of that name. More than 64 million objects
    /// are too many for a pin. Blocks.
    pub fn pin(&self, pin: &Pin) -> Result<(), DurableError> {
        debug_assert!(pin.objects.is_sorted());
        let dir = self.objects.make_dir(DIR)?;
        let (name, bytes) = (file_name(pin.name), pin.encode());
        if bytes.len() as u64 > LONGEST {
            let too_many = io::ErrorKind::FileTooLarge;
            return Err(DurableError::new(
                "write the pin",
                &dir.path().join(name),
                too_many,
            ));
        }
        dir.publish(&name, &bytes)
    }

    /// Keeps them no longer. Says whether there was such a pin. Blocks.
    pub fn unpin(&self, name: HashBytes) -> Result<bool, DurableError> {
        let dir = match self.objects.dir(DIR) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            dir => dir?,
        };
        let file = file_name(name);
        let there = dir.kind(file.as_ref())?.is_some();
        dir.remove_file(&file)?;
        Ok(there)
    }
}

fn file_name(name: HashBytes) -> String {
    hex(name) + SUFFIX
}

/// `None` if it was removed since it was listed.
fn read(dir: &OwnDir, name: HashBytes) -> Result<Option<Pin>, DurableError> {
    const DOING: &str = "read the pin";
    let file_name = file_name(name);
    let path = dir.path().join(&file_name);
    let file = match dir.open_file(&file_name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let len = file.metadata().at(DOING, &path)?.len();
    if len > LONGEST {
        return Err(DurableError::new(DOING, &path, io::ErrorKind::FileTooLarge));
    }
    let bytes = crate::read_range(&file, 0..len).at(DOING, &path)?;
    let pin = Pin::decode(name, &bytes);
    let pin = pin.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
    pin.at(DOING, &path).map(Some)
}

impl Stock {
    /// Says of each object whether it is pinned. Blocks.
    pub fn pinned(&self) -> Result<impl Fn(HashBytes, &HashBytes) -> bool + use<>, DurableError> {
        let pins = self.pins().all()?;
        Ok(
            move |partition, object: &HashBytes| {
                pins.iter().any(|pin| pin.holds(partition, object))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CacheDir;

    #[test]
    fn a_pin_stays_until_it_is_taken_away() {
        let temp = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        cache.objects([1; 16]).unwrap();
        let stock = cache.stock().unwrap().unwrap();
        assert!(!stock.pins().unpin([9; 16]).unwrap());
        let pin = Pin {
            name: [9; 16],
            about: "scene".to_owned(),
            partition: [1; 16],
            objects: vec![[2; 16], [4; 16]],
        };
        stock.pins().pin(&pin).unwrap();
        assert_eq!(stock.pins().all().unwrap(), [pin]);
        let pinned = stock.pinned().unwrap();
        assert!(pinned([1; 16], &[4; 16]));
        assert!(!pinned([1; 16], &[3; 16]) && !pinned([2; 16], &[4; 16]));
        assert!(stock.pins().unpin([9; 16]).unwrap());
        assert!(stock.pins().all().unwrap().is_empty());
    }

    #[test]
    fn a_pin_that_makes_no_sense_protects_nothing_and_disturbs_nobody() {
        let temp = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        cache.objects([1; 16]).unwrap();
        let stock = cache.stock().unwrap().unwrap();
        let dir = temp.path().join("cache/v1/pins");
        crate::create_private_dir(&dir).unwrap();
        for (at, bytes) in [&b""[..], b"no end", b"x\n0123", &[b'\n'; 40]]
            .into_iter()
            .enumerate()
        {
            let path = dir.join(file_name([at as u8; 16]));
            crate::publish(&path, |file| io::Write::write_all(file, bytes)).unwrap();
        }
        assert!(stock.pins().all().unwrap().is_empty());
    }
}
