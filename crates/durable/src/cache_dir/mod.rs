//! The cache directory of one user: what lies in it, and by which rules.
//!
//! ```text
//!     <dir>/
//!       v1/<partition>/               objects of one store          objects.rs
//!         incoming/                   files that are being written  incoming.rs
//!         00/ .. ff/                  shelves, by the first digits of the hash
//!           <32 hex digits>           the bytes of the object with that hash
//!           <32 hex digits>.part      those of a large one of which some are missing    large.rs
//!           <32 hex digits>.units     what is known of the units of a large one
//!           <32 hex digits>.joined    the chunks of a file, one after the other     joined.rs
//!           <32 hex digits>.chunks    which chunks those are
//!       v1/sums                       how much is on each shelf     sums.rs
//!       v1/keeper                     the lock of who makes room
//!       v1/pins/<32 hex digits>.pin   objects that stay             pins.rs
//!       index/<32 hex digits>.tree    indexes of trees              trees.rs
//!       hashes.db                     hashes of local files         database.rs
//!       seen/aws, seen/<server>/      objects seen in buckets       database.rs
//!       sync/                         scratch space of copies between stores
//! ```
//!
//! Everything in it can be deleted at any time: that costs requests and time, never correctness.
//!
//! Two rules say what is trusted. What is in the directory decides which bytes a mount shows, so whatever is
//! used belongs to this user and no other user may write to it ([`check_own_dir`](crate::check_own_dir)). Objects
//! are opened by path for as long as a mount lives; for them nobody else may be able to replace a directory on
//! the way there either ([`trust`]). Files in the wrong hands are refused, never repaired or removed.
//!
//! A *partition* keeps stores apart that may hold different bytes under one hash: its name is a hash of endpoint,
//! bucket and prefix. Nobody who only looks makes a directory or a thread.

mod database;
mod incoming;
mod joined;
mod large;
mod limits;
mod objects;
mod pins;
mod stock;
mod sums;
mod trees;
mod trust;

use std::path::{Path, PathBuf};

pub use database::check_database;
pub use joined::{Chunk, ChunkList, JoinedFiles, Place, StagedJoined};
pub use large::{InJoined, LargeFiles, LargeForm};
pub use limits::{Bounds, CacheLimits};
pub use objects::{ObjectFiles, ObjectWriter};
pub use pins::{Pin, Pins};
pub use stock::{Completeness, Removal, Stock, Stored};
pub use sums::{SHELVES, Sum, Sums};
pub use trees::TreeFiles;
pub use trust::CacheDirError;

use crate::DurableError;

/// The version of the layout of objects.
const OBJECTS: &str = "v1";
/// The database of hashes of local files.
const HASHES: &str = "hashes.db";

/// A hash, as names of files say it. What it is a hash of, the caller knows.
pub type HashBytes = [u8; 16];

/// The cache directory of one user. Naming it makes and checks nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDir {
    path: PathBuf,
    limits: CacheLimits,
}

impl CacheDir {
    /// The cache directory at this path, with the usual limits.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            limits: CacheLimits::default(),
        }
    }

    /// The same directory with these limits.
    #[must_use]
    pub fn with_limits(self, limits: CacheLimits) -> Self {
        Self { limits, ..self }
    }

    /// How much room its objects may take.
    pub fn limits(&self) -> CacheLimits {
        self.limits
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fails with [`CacheDirError::NotACache`] if files of somebody are there, and no cache. A directory that is missing or empty is
    /// fine, and so is a cache into which somebody put something.
    pub fn require_cache(&self) -> Result<(), CacheDirError> {
        trust::require_cache(&self.path)
    }

    /// The objects of a partition, which is made if it is missing. Refuses a directory that is a symbolic
    /// link, belongs to another user, or can be changed by another user, itself or through one above it.
    pub fn objects(&self, partition: HashBytes) -> Result<ObjectFiles, CacheDirError> {
        ObjectFiles::create(self, partition)
    }

    /// As [`objects`](Self::objects), also where the disk is full, read-only or failing, which is told: whoever writes
    /// tries again.
    pub fn objects_or_later(
        &self,
        partition: HashBytes,
    ) -> Result<(ObjectFiles, Option<DurableError>), CacheDirError> {
        ObjectFiles::create_or_wait(self, partition)
    }

    /// As [`objects`](Self::objects), to look at what is there. `None` if the partition is missing; nothing is
    /// made.
    pub fn objects_there(
        &self,
        partition: HashBytes,
    ) -> Result<Option<ObjectFiles>, CacheDirError> {
        ObjectFiles::there(self, partition)
    }

    /// The saved indexes of trees.
    pub fn trees(&self) -> TreeFiles {
        TreeFiles::new(self.path.join("index"))
    }

    /// The database of hashes of local files.
    pub fn hashes(&self) -> PathBuf {
        self.path.join(HASHES)
    }

    /// The directory of the database of objects that were seen in the buckets of a server; of AWS's own if
    /// none is named.
    pub fn seen_objects(&self, server: Option<HashBytes>) -> PathBuf {
        let name = server.map_or_else(|| "aws".to_owned(), hex);
        self.path.join("seen").join(name)
    }

    /// Where copies between stores keep what they are working on.
    pub fn sync_scratch(&self) -> PathBuf {
        self.path.join("sync")
    }
}

/// The hash that a name says, if it is 32 hexadecimal digits in lower case.
fn parse_hex(name: &str) -> Option<HashBytes> {
    let digits = name.as_bytes();
    let lower = |&digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 32 || !digits.iter().all(lower) {
        return None;
    }
    let mut hash = HashBytes::default();
    for (byte, at) in hash.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&name[at..at + 2], 16).ok()?;
    }
    Some(hash)
}

fn hex(name: HashBytes) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = name.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles
        .map(|nibble| DIGITS[usize::from(nibble)] as char)
        .collect()
}
