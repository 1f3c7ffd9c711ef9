//! Joined files as readers ask for them: whole, for the kernel, or a chunk in one.

use std::fs::File;
use std::io;

use attachfs_durable::{Chunk, ChunkList, Facts, read_range};
use attachfs_manifest::ContentHash;

use super::joining::Wanted;
use super::large::is_stamped;
use super::open_cache::{Duty, OpenCache};
use super::{DiskCache, Read, Serving};

impl DiskCache {
    /// The joined file of these chunks, open for reading, if it is there and was verified in this start of the machine, and nothing
    /// changed it since. Else has it made or verified some time, if all chunks are there. It is not removed as long as it is open.
    /// Blocks for local files at most.
    pub fn joined(&self, chunks: &[(ContentHash, u64)]) -> Option<File> {
        let chunk = |&(hash, len): &(ContentHash, u64)| Chunk {
            object: *hash.as_bytes(),
            len,
        };
        let list = ChunkList::new(chunks.iter().map(chunk).collect())?;
        let cache = &self.cache;
        match cache.objects.open_joined(list.name()) {
            Ok(Some(joined)) if is_stamped(&joined.data, &joined.about) => {
                use_now(cache, &joined.about);
                return Some(joined.data);
            }
            Ok(_) => {}
            Err(error) => {
                cache.read_failed(ContentHash::from_bytes(list.name()), &error);
                return None;
            }
        }
        if cache.begin_joining(list.name()) {
            let all = self.large.lock();
            let open = chunks
                .iter()
                .map(|key| all.open.get(key).cloned().unwrap_or_default());
            let open = open.collect();
            drop(all);
            cache.duty(Duty::Join(Wanted { list, open }));
        }
        None
    }

    /// As [`joined`](Self::joined), on a thread that serves requests. `None` also if a chunk is known to be wrong, or the disk is
    /// asked for much already.
    pub(crate) fn joined_at_once(&self, chunks: &[(ContentHash, u64)]) -> Option<File> {
        let is_wrong = |&(hash, _): &(ContentHash, u64)| self.cache.wrong(hash).is_some();
        if chunks.iter().any(is_wrong) || !self.answers() {
            return None;
        }
        let _serving = Serving::begin(&self.serving)?;
        self.joined(chunks)
    }

    /// A chunk that lies in a joined file, for a reader who takes it for a small object.
    pub(super) fn read_of_joined(&self, hash: ContentHash, len: u64) -> io::Result<Read> {
        let found = self.cache.objects.find_joined(*hash.as_bytes(), len);
        let (file, at) = found.ok_or(io::ErrorKind::NotFound)?;
        let bytes = read_range(&file, at..at + len)?;
        Ok(if ContentHash::of(&bytes) == hash {
            Read::Object(bytes)
        } else {
            // Who reads the joined file finds that out.
            Read::Other
        })
    }
}

/// Notes that a joined file is used now.
fn use_now(cache: &OpenCache, about: &File) {
    let used = Facts::of(about).and_then(|facts| cache.objects.use_file(about, &facts));
    if let Err(error) = used {
        tracing::debug!(%error, "a joined file will count as unused");
    }
}
