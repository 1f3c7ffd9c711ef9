//! PUT, in one request or in parts.

use std::future::Future;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use attachfs_store::{Payload, RequestKind, StoreError, run_blocking};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;

use crate::S3Store;
use crate::buffers::{self, Buffers};
use crate::direct::{Answer, Crc32, Request, crc32};
use crate::endpoint::query_value;
use crate::error::{Failure, NoAnswer};
use crate::via_sdk::Purpose;

/// The largest object that is sent in one request.
const LARGEST_SINGLE: u64 = 16 << 20;

/// The size of a part, which is also what AWS's own clients use.
const PART: u64 = buffers::LEN as u64;

/// What is read of a part at a time, in bytes: so much is still in the processor's cache when its checksum is made.
const PIECE: usize = 256 << 10;

/// S3 takes no more parts of one object.
const MOST_PARTS: u64 = 10_000;

/// How much longer than other requests the last one of an upload in parts may take.
const COMPLETE_TIME: Duration = Duration::from_mins(5);

/// Parts of one object that are on their way at a time. Memory for bodies is shared by all objects.
const PARTS_AT_ONCE: usize = 8;

impl S3Store {
    pub(crate) async fn put_payload(&self, key: &str, payload: Payload) -> Result<(), StoreError> {
        let len = payload.len();
        if len > LARGEST_SINGLE {
            return self.put_parts(key, payload).await;
        }
        let _memory = self.direct.memory.take(len).await;
        let part = self.read(&payload, 0..len).await?;
        // The bytes that were read are those that will be sent.
        check_unchanged(&payload).await?;
        self.put_part(key, "", part).await?;
        Ok(())
    }

    /// Reads a part of a payload; files are read on threads that may block.
    async fn read(&self, payload: &Payload, range: Range<u64>) -> Result<Part, StoreError> {
        let has_checksum = self.direct.checksums;
        match payload {
            Payload::Bytes(_) => Ok(Part::of(payload.read(range)?, has_checksum)),
            Payload::File { .. } => {
                let (payload, buffers) = (payload.clone(), self.direct.buffers.clone());
                run_blocking(move || Part::read(&payload, range, &buffers, has_checksum)).await
            }
        }
    }

    /// Sends bytes with their checksum, which the server checks and keeps; without checksums the signature
    /// covers the bytes.
    async fn put_part(&self, key: &str, query: &str, part: Part) -> Result<Answer, StoreError> {
        let Part { bytes, checksum } = part;
        let request = Request {
            method: "PUT",
            key,
            query,
            headers: checksum.map_or_else(Vec::new, |checksum| {
                vec![
                    ("x-amz-sdk-checksum-algorithm", "CRC32".to_owned()),
                    ("x-amz-checksum-crc32", checksum),
                ]
            }),
            body: bytes,
            bandwidth: Some(&self.putting),
            most: 0,
            doing: "storing",
            name: &self.url(key),
        };
        let sent = self.direct.send(&request).await;
        sent.map_err(|failure| failure.error)
    }

    async fn put_parts(&self, key: &str, payload: Payload) -> Result<(), StoreError> {
        let upload = Upload::begin(self, key).await?;
        let sent = async {
            let mut parts: Vec<CompletedPart> = stream::iter(parts_of(payload.len()).zip(1..))
                .map(|(range, number)| upload.send_part(&payload, range, number))
                .buffer_unordered(PARTS_AT_ONCE)
                .try_collect()
                .await?;
            check_unchanged(&payload).await?;
            parts.sort_by_key(CompletedPart::part_number);
            upload.complete(parts, payload.len()).await
        };
        match sent.await {
            Ok(()) => {
                upload.close();
                Ok(())
            }
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }
}

/// The bytes of one request, and the checksum that goes with them, if one does.
struct Part {
    bytes: Bytes,
    checksum: Option<String>,
}

impl Part {
    fn of(bytes: Bytes, has_checksum: bool) -> Self {
        let checksum = has_checksum.then(|| crc32(&bytes));
        Self { bytes, checksum }
    }

    /// Reads it from a file. Blocks. Of a long one each piece goes into the checksum while the processor still has it at hand.
    fn read(
        payload: &Payload,
        range: Range<u64>,
        buffers: &Buffers,
        has_checksum: bool,
    ) -> Result<Self, StoreError> {
        if range.end - range.start != PART {
            return Ok(Self::of(payload.read(range)?, has_checksum));
        }
        let mut checksum = has_checksum.then(Crc32::new);
        let mut buffer = buffers.take();
        let starts = range.step_by(PIECE);
        for (start, piece) in starts.zip(buffer.as_mut().chunks_mut(PIECE)) {
            payload.read_into(start, piece)?;
            if let Some(checksum) = &mut checksum {
                checksum.add(piece);
            }
        }
        Ok(Self {
            bytes: buffer.freeze(),
            checksum: checksum.map(Crc32::text),
        })
    }
}

/// The ranges that an object of this length is sent in.
fn parts_of(len: u64) -> impl Iterator<Item = Range<u64>> {
    let size = PART.max(len.div_ceil(MOST_PARTS).next_multiple_of(1 << 20));
    (0..len.div_ceil(size)).map(move |i| i * size..len.min((i + 1) * size))
}

/// How many uploads in parts of this process are neither completed nor aborted. An aborting upload has no
/// store any more, so the count belongs to the process.
static UNDER_WAY: LazyLock<watch::Sender<usize>> = LazyLock::new(watch::Sender::default);

/// Waits until no upload in parts is under way in this process: each was completed, or asked to be aborted
/// and had its answer. For programs that end.
pub async fn uploads_ended() {
    let mut count = UNDER_WAY.subscribe();
    // Fails only if the sender is dropped, which never happens.
    let _ended = count.wait_for(|count| *count == 0).await;
}

/// One of [`UNDER_WAY`].
struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        UNDER_WAY.send_modify(|count| *count += 1);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.send_modify(|count| *count -= 1);
    }
}

/// An upload in parts that the bucket knows of. Its parts cost money until it is completed or
/// aborted; one that is dropped aborts itself.
struct Upload {
    store: S3Store,
    key: String,
    url: String,
    id: String,
    /// Until it is completed or aborted.
    open: Option<UnderWay>,
}

impl Upload {
    async fn begin(store: &S3Store, key: &str) -> Result<Self, StoreError> {
        let url = store.url(key);
        let request = store
            .client
            .create_multipart_upload()
            .bucket(store.bucket.as_str())
            .key(key)
            .set_checksum_algorithm(store.direct.checksums.then_some(ChecksumAlgorithm::Crc32));
        let purpose = Purpose {
            kind: RequestKind::Post,
            doing: "storing",
            url: &url,
        };
        let send = || request.clone().send();
        let begun = store.direct.call(purpose, Duration::ZERO, send).await;
        let begun = begun.map_err(|failure| failure.error)?;
        let id = begun.upload_id.ok_or_else(|| StoreError::Other {
            what: format!("storing {url}"),
            source: Box::new(NoAnswer::new("the answer names no upload")),
        })?;
        Ok(Self {
            store: store.clone(),
            key: key.to_owned(),
            url,
            id,
            open: Some(UnderWay::begin()),
        })
    }

    async fn send_part(
        &self,
        payload: &Payload,
        range: Range<u64>,
        number: i32,
    ) -> Result<CompletedPart, StoreError> {
        let store = &self.store;
        let _memory = store.direct.memory.take(range.end - range.start).await;
        let part = store.read(payload, range).await?;
        let checksum = part.checksum.clone();
        let id = query_value(&self.id);
        let query = format!("partNumber={number}&uploadId={id}");
        let sent = store.put_part(&self.key, &query, part).await?;
        let e_tag = sent.header("etag").map(str::to_owned);
        if e_tag.is_none() {
            return Err(StoreError::Other {
                what: format!("storing {}", self.url),
                source: Box::new(NoAnswer::new("the answer to a part has no ETag")),
            });
        }
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(e_tag)
            .set_checksum_crc32(checksum)
            .build())
    }

    async fn complete(&self, parts: Vec<CompletedPart>, len: u64) -> Result<(), StoreError> {
        let store = &self.store;
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let request = store
            .client
            .complete_multipart_upload()
            .bucket(store.bucket.as_str())
            .key(&self.key)
            .upload_id(&self.id)
            .multipart_upload(parts);
        let send = || {
            let request = request.clone().customize();
            // The server puts the parts together before it answers.
            let request = request.config_override(store.with_more_time(COMPLETE_TIME));
            async move { request.send().await }
        };
        let purpose = Purpose {
            kind: RequestKind::Post,
            doing: "storing",
            url: &self.url,
        };
        let completed = store.direct.call(purpose, COMPLETE_TIME, send).await;
        let Err(Failure { status, error }) = completed else {
            return Ok(());
        };
        // The server may have put the parts together, and its answer have been lost.
        if status == Some(404)
            && let Ok(head) = store.head_object(&self.key).await
            && head.len == len
        {
            return Ok(());
        }
        Err(error)
    }

    /// The upload is completed or aborted.
    fn close(mut self) {
        self.open = None;
    }

    /// Continues if the caller stops waiting.
    async fn abort(mut self) {
        let open = self.open.take();
        let aborting = tokio::spawn(self.request_abort(open));
        // The task logs its own failures.
        let _ended = aborting.await;
    }

    /// Parts that stay behind are no object and only cost money, so a failure is only logged;
    /// lifecycle rules of the bucket can remove them.
    fn request_abort(&self, open: Option<UnderWay>) -> impl Future<Output = ()> + Send + use<> {
        let store = self.store.clone();
        let request = store
            .client
            .abort_multipart_upload()
            .bucket(store.bucket.as_str())
            .key(&self.key)
            .upload_id(&self.id);
        let url = self.url.clone();
        async move {
            let purpose = Purpose {
                kind: RequestKind::Delete,
                doing: "aborting the upload of",
                url: &url,
            };
            let send = || request.clone().send();
            let aborted = store.direct.call(purpose, Duration::ZERO, send).await;
            if let Err(Failure { error, .. }) = aborted {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "parts of an unfinished upload stay in the bucket"
                );
            }
            drop(open);
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.request_abort(Some(open)));
        } else {
            tracing::warn!(
                url = self.url,
                "parts of an unfinished upload stay in the bucket: nothing can be sent any more"
            );
        }
    }
}

async fn check_unchanged(payload: &Payload) -> Result<(), StoreError> {
    match payload {
        Payload::Bytes(_) => Ok(()),
        Payload::File { .. } => {
            let payload = payload.clone();
            run_blocking(move || payload.check_unchanged()).await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use attachfs_durable::FileStamp;
    use attachfs_store::SourceStamp;

    use super::*;

    #[test]
    fn parts_cover_the_object_and_are_as_many_as_s3_takes() {
        for len in [LARGEST_SINGLE + 1, 100 << 20, 1 << 40, (5 << 40) - 1] {
            let parts: Vec<_> = parts_of(len).collect();
            assert!(parts.len() as u64 <= MOST_PARTS);
            assert_eq!(parts[0].start, 0);
            assert_eq!(parts.last().unwrap().end, len);
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(parts.iter().all(|part| !part.is_empty()));
        }
        assert_eq!(parts_of(LARGEST_SINGLE + 1).next(), Some(0..PART));
    }

    #[test]
    fn a_part_that_is_read_from_a_file_has_the_checksum_of_its_bytes() {
        let whole: Vec<u8> = (0..PART + 9).map(|at| ((at * at) >> 7) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&whole).unwrap();
        let payload = Payload::File {
            range: 0..whole.len() as u64,
            stamp: SourceStamp {
                path: "whole".into(),
                stamp: FileStamp::of(&file).unwrap(),
            },
            file: Arc::new(file),
        };
        let buffers = Buffers::default();
        for range in [9..PART + 9, 0..PART, PART..PART + 9, 5..5] {
            let part = Part::read(&payload, range.clone(), &buffers, true).unwrap();
            let bytes = &whole[range.start as usize..range.end as usize];
            assert!(part.bytes == bytes, "{range:?}");
            assert_eq!(part.checksum, Some(crc32(bytes)), "{range:?}");
            let plain = Part::read(&payload, range, &buffers, false).unwrap();
            assert!(plain.bytes == bytes && plain.checksum.is_none());
        }
    }
}
