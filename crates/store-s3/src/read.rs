//! GET and HEAD of objects.

use std::ops::Range;
use std::sync::Arc;

use attachfs_store::{ObjectPart, ObjectStream, Reach, StoreError};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;

use crate::S3Store;
use crate::body::Incoming;
use crate::direct::{Answer, Request, broken_off};
use crate::error::{Failure, NoAnswer};

/// A server that does not know ranges may send so much of a small object; it counts with no limit of memory.
const SLACK: u64 = 1 << 20;

/// What HEAD tells.
pub(crate) struct Head {
    pub(crate) len: u64,
    version: Option<Arc<str>>,
}

impl S3Store {
    pub(crate) async fn head_object(&self, key: &str) -> Result<Head, StoreError> {
        let request = Request {
            method: "HEAD",
            key,
            query: "",
            headers: Vec::new(),
            body: Bytes::new(),
            bandwidth: None,
            most: 0,
            doing: "looking for",
            name: &self.url(key),
        };
        let answer = match self.direct.send(&request).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.explained(key, failure).await),
        };
        Ok(Head {
            len: self.len_of(key, &answer)?,
            version: answer.header("etag").map(Into::into),
        })
    }

    /// Why HEAD failed. Its answer has no body to say so: an object that is not there looks like a bucket
    /// that is not, and a permission that lacks like keys that nobody knows. So a GET asks, once for a
    /// store that gave no other answer before.
    async fn explained(&self, key: &str, failure: Failure) -> StoreError {
        let Failure { status, error } = failure;
        if !matches!(status, Some(400 | 403 | 404)) {
            return error;
        }
        let ask = async || {
            let request = Request {
                method: "GET",
                key,
                query: "",
                headers: vec![("range", "bytes=0-0".to_owned())],
                body: Bytes::new(),
                bandwidth: None,
                most: SLACK,
                doing: "looking for",
                name: &self.url(key),
            };
            match self.direct.send(&request).await {
                Err(Failure {
                    error:
                        error @ StoreError::Denied {
                            reach: Reach::Everything,
                            ..
                        },
                    ..
                }) => Err(Some(error)),
                Err(Failure {
                    error: StoreError::Unreachable { .. },
                    ..
                }) => Err(None),
                // Whatever this is, it is said of an object.
                _ => Ok(()),
            }
        };
        match self.direct.answered.get_or_try_init(ask).await {
            Err(Some(of_everything)) => of_everything,
            Ok(()) | Err(None) => error,
        }
    }

    /// A range of an object that is under exactly this key.
    pub(crate) async fn get_part(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<ObjectPart, StoreError> {
        if range.is_empty() {
            return self.nothing_of(key).await;
        }
        let name = self.url(key);
        let request = reading(key, &name, &range);
        match self.direct.send(&request).await {
            Ok(answer) => self.part_of(key, &range, answer),
            // The range begins at the end or after it; an empty object has no other.
            Err(Failure {
                status: Some(416), ..
            }) => self.nothing_of(key).await,
            Err(failure) => Err(failure.error),
        }
    }

    /// As [`get_part`](Self::get_part), with the bytes as they come.
    pub(crate) async fn stream_part(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<ObjectStream, StoreError> {
        if range.is_empty() {
            return Ok(self.nothing_of(key).await?.into());
        }
        let name = self.url(key);
        let request = reading(key, &name, &range);
        let answer = match self.direct.open(&request).await {
            Ok(answer) => answer,
            Err(Failure {
                status: Some(416), ..
            }) => return Ok(self.nothing_of(key).await?.into()),
            Err(failure) => return Err(failure.error),
        };
        let len = answer.len.ok_or_else(|| self.without_length(key))?;
        let place = self.place_of(key, &range, len, answer.header("content-range"))?;
        let version = answer.header("etag").map(Into::into);
        let coming = Coming {
            body: answer.body,
            skip: place.skip,
            left: place.wanted,
            what: format!("reading {}", self.url(key)),
        };
        Ok(ObjectStream {
            object_len: place.object_len,
            version,
            pieces: stream::try_unfold(coming, Coming::next).boxed(),
        })
    }

    async fn nothing_of(&self, key: &str) -> Result<ObjectPart, StoreError> {
        let head = self.head_object(key).await?;
        Ok(ObjectPart {
            bytes: Bytes::new(),
            object_len: head.len,
            version: head.version,
        })
    }

    /// Holds an answer against what its headers say and what was asked.
    fn part_of(
        &self,
        key: &str,
        range: &Range<u64>,
        answer: Answer,
    ) -> Result<ObjectPart, StoreError> {
        let len = self.len_of(key, &answer)?;
        let place = self.place_of(key, range, len, answer.header("content-range"))?;
        let version = answer.header("etag").map(Into::into);
        let mut bytes = answer.body;
        bytes = bytes.split_off(place.skip.min(len) as usize);
        bytes.truncate(usize::try_from(place.wanted).unwrap_or(usize::MAX));
        Ok(ObjectPart {
            bytes,
            object_len: place.object_len,
            version,
        })
    }

    /// Where what was asked for is in a body of `len` bytes.
    fn place_of(
        &self,
        key: &str,
        range: &Range<u64>,
        len: u64,
        content_range: Option<&str>,
    ) -> Result<Place, StoreError> {
        let (start, object_len) = match content_range {
            Some(text) => self::content_range(text).ok_or_else(|| {
                self.strange(key, "the answer has an invalid Content-Range header")
            })?,
            // A server that does not know ranges sends everything.
            None => (0, len),
        };
        let skip = range
            .start
            .checked_sub(start)
            .ok_or_else(|| self.strange(key, "the answer is another range"))?;
        let wanted = range.end.min(object_len).saturating_sub(range.start);
        if len.saturating_sub(skip).min(range.end - range.start) != wanted {
            return Err(self.strange(key, "the answer is not all of the range"));
        }
        Ok(Place {
            skip,
            wanted,
            object_len,
        })
    }

    fn len_of(&self, key: &str, answer: &Answer) -> Result<u64, StoreError> {
        answer.len.ok_or_else(|| self.without_length(key))
    }

    fn without_length(&self, key: &str) -> StoreError {
        self.strange(key, "the answer has no length")
    }

    /// An answer that S3 would not give.
    fn strange(&self, key: &str, what: &'static str) -> StoreError {
        StoreError::Other {
            what: format!("reading {}", self.url(key)),
            source: Box::new(NoAnswer::new(what)),
        }
    }
}

/// A request for a range of an object.
fn reading<'a>(key: &'a str, name: &'a str, range: &Range<u64>) -> Request<'a> {
    let wanted = match range.end {
        u64::MAX => format!("bytes={}-", range.start),
        end => format!("bytes={}-{}", range.start, end - 1),
    };
    Request {
        method: "GET",
        key,
        query: "",
        headers: vec![("range", wanted)],
        body: Bytes::new(),
        bandwidth: None,
        most: (range.end - range.start).max(SLACK),
        doing: "reading",
        name,
    }
}

/// Where in a body the bytes are that were asked for.
struct Place {
    skip: u64,
    wanted: u64,
    object_len: u64,
}

/// A body of which some bytes are wanted.
struct Coming {
    body: Incoming,
    /// So many come first that nobody asked for.
    skip: u64,
    left: u64,
    /// For messages.
    what: String,
}

impl Coming {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        while self.left > 0 {
            let next = self.body.next().await;
            let next = next.map_err(|broken| broken_off(&self.what, broken))?;
            let Some(mut bytes) = next else {
                break;
            };
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes = bytes.split_off(skipped as usize);
            bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= bytes.len() as u64;
            if !bytes.is_empty() {
                return Ok(Some((bytes, self)));
            }
        }
        Ok(None)
    }
}

/// Start and total of `bytes 0-99/1000`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_tells_start_and_total() {
        assert_eq!(content_range("bytes 5-9/100"), Some((5, 100)));
        for bad in ["", "bytes */100", "bytes 5-9/*", "5-9/100", "bytes 5/100"] {
            assert_eq!(content_range(bad), None);
        }
    }
}
