//! What a store promises of objects.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::FileStamp;
use attachfs_manifest::ContentHash;
use futures::future::join_all;

use super::{LARGE, Suite};
use crate::{Payload, SourceStamp, StoreError};

impl Suite<'_> {
    pub(super) async fn what_was_put_is_read_by_ranges(&self) {
        let (hash, bytes) = self.content("ranges", 1000);
        self.put_bytes(hash, &bytes).await;
        self.check_whole(hash, &bytes).await;
        for range in [0..1_usize, 0..999, 1..1000, 500..501, 999..1000] {
            let want = &bytes[range.clone()];
            let range = range.start as u64..range.end as u64;
            self.check_read(hash, range, want, 1000).await;
        }
        self.check_read(hash, 990..2000, &bytes[990..], 1000).await;
        self.check_read(hash, 0..u64::MAX, &bytes, 1000).await;
        self.check_read(hash, 1000..1001, b"", 1000).await;
        self.check_read(hash, 5000..6000, b"", 1000).await;
        self.check_read(hash, 0..0, b"", 1000).await;
    }

    pub(super) async fn an_empty_object_is_an_object(&self) {
        let (hash, bytes) = self.content("empty", 0);
        self.put_bytes(hash, &bytes).await;
        self.check_whole(hash, &bytes).await;
        self.check_read(hash, 0..1, b"", 0).await;
        self.check_read(hash, 7..9, b"", 0).await;
    }

    pub(super) async fn a_large_object_comes_back_whole(&self) {
        let (hash, bytes) = self.content("large", LARGE + 1);
        self.put_bytes(hash, &bytes).await;
        self.check_whole(hash, &bytes).await;
        let last = LARGE as u64..LARGE as u64 + 1;
        self.check_read(hash, last.clone(), &bytes[LARGE..], last.end)
            .await;

        let (hash, bytes) = self.content("large file", LARGE);
        let (_file, payload) = file_payload(&bytes, 0..LARGE as u64);
        self.put(hash, payload).await;
        self.check_whole(hash, &bytes).await;
    }

    pub(super) async fn putting_again_replaces(&self) {
        let (hash, bytes) = self.content("twice", 5000);
        self.put_bytes(hash, &bytes.slice(..10)).await;
        self.put_bytes(hash, &bytes).await;
        self.check_whole(hash, &bytes).await;
        self.put_bytes(hash, &bytes).await;
        self.check_whole(hash, &bytes).await;
    }

    pub(super) async fn a_range_of_a_file_is_put(&self) {
        let (_, bytes) = self.content("a file", 100_000);
        for range in [0..100_000_usize, 0..4096, 4096..100_000, 17..18, 50..50] {
            let part = bytes.slice(range.clone());
            let hash = ContentHash::of(&part);
            let (_file, payload) = file_payload(&bytes, range.start as u64..range.end as u64);
            self.put(hash, payload).await;
            self.check_whole(hash, &part).await;
        }
    }

    pub(super) async fn a_file_that_changed_is_not_put(&self) {
        for len in [1000, LARGE] {
            let (hash, bytes) = self.content("changing", len);
            let (mut file, payload) = file_payload(&bytes, 0..len as u64);
            // A file's times have the resolution of the kernel's clock, so a change may need
            // several writes to show.
            loop {
                file.seek(SeekFrom::Start(0)).expect("a file can seek");
                file.write_all(b"other")
                    .expect("a temporary file is written");
                if payload.check_unchanged().is_err() {
                    break;
                }
            }
            let put = self.store.put(hash, payload).await;
            assert!(
                matches!(put, Err(StoreError::SourceChanged { .. })),
                "put of a changed file gives {put:?}"
            );
            self.check_missing(hash, "after the put of a changed file")
                .await;
        }
    }

    pub(super) async fn a_file_that_became_shorter_is_not_put(&self) {
        for len in [1000, LARGE] {
            let (hash, bytes) = self.content("shrinking", len);
            let (file, payload) = file_payload(&bytes, 0..len as u64);
            file.set_len(len as u64 / 2).expect("a file can be cut");
            let put = self.store.put(hash, payload).await;
            assert!(
                matches!(put, Err(StoreError::SourceChanged { .. })),
                "put of a shortened file gives {put:?}"
            );
            self.check_missing(hash, "after the put of a shortened file")
                .await;
        }
    }

    pub(super) async fn many_puts_of_one_object_at_once_leave_one_whole_object(&self) {
        let (hash, bytes) = self.content("at once", 200_000);
        join_all((0..8).map(|_| self.put_bytes(hash, &bytes))).await;
        self.check_whole(hash, &bytes).await;
    }

    pub(super) async fn a_cancelled_put_leaves_all_or_nothing(&self) {
        for polls in [1_usize, 2, 5] {
            let (hash, bytes) = self.content(&format!("cancelled {polls}"), LARGE);
            let mut put = self.store.put(hash, Payload::Bytes(bytes.clone()));
            for _ in 0..polls {
                if futures::poll!(&mut put).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(put);
            match self.store.get(hash, 0..u64::MAX).await {
                Ok(part) => assert!(part.bytes == bytes, "a cancelled put left other bytes"),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => panic!("get after a cancelled put failed: {error:?}"),
            }
            self.put_bytes(hash, &bytes).await;
            self.check_whole(hash, &bytes).await;
        }
    }
}

/// A file with these bytes, and the payload that is `range` of it.
fn file_payload(bytes: &[u8], range: Range<u64>) -> (File, Payload) {
    let made = || -> std::io::Result<(File, File, FileStamp)> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        let reading = file.try_clone()?;
        let stamp = FileStamp::of(&file)?;
        Ok((file, reading, stamp))
    };
    let (file, reading, stamp) = made().expect("a temporary file can be made");
    let payload = Payload::File {
        file: Arc::new(reading),
        range,
        stamp: SourceStamp {
            path: PathBuf::from("(temporary file)"),
            stamp,
        },
    };
    (file, payload)
}
