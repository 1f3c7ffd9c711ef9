//! The files of small objects that this process has hashed and found right, by their stamps: one that is opened again and again
//! is not hashed each time.

use std::collections::HashMap;

use attachfs_durable::FileStamp;
use attachfs_manifest::ContentHash;
use parking_lot::Mutex;

/// So many are remembered, with about 100 bytes each. Then all are forgotten: who needs one hashes it again.
const MOST: usize = 1 << 16;

/// Held for single look-ups and insertions, with no other lock.
#[derive(Debug, Default)]
pub(super) struct RightFiles(Mutex<HashMap<ContentHash, FileStamp>>);

impl RightFiles {
    /// Whether the object's file was right when it had this stamp.
    pub(super) fn has(&self, hash: ContentHash, stamp: &FileStamp) -> bool {
        self.0.lock().get(&hash) == Some(stamp)
    }

    /// Notes that the object's file is right. The stamp is from before its bytes were read, or from after attachfs
    /// noted on the same file that it is used.
    pub(super) fn note(&self, hash: ContentHash, stamp: FileStamp) {
        let mut right = self.0.lock();
        if right.len() >= MOST {
            right.clear();
        }
        right.insert(hash, stamp);
    }
}
