//! GET and HEAD of objects.

use std::ops::Range;
use std::sync::Arc;

use attachfs_store::{ObjectPart, Reach, StoreError};
use bytes::Bytes;

use crate::S3Store;
use crate::direct::{Answer, Request};
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
        let first = range.start;
        let wanted = match range.end {
            u64::MAX => format!("bytes={first}-"),
            end => format!("bytes={first}-{}", end - 1),
        };
        let request = Request {
            method: "GET",
            key,
            query: "",
            headers: vec![("range", wanted)],
            body: Bytes::new(),
            most: (range.end - range.start).max(SLACK),
            doing: "reading",
            name: &self.url(key),
        };
        match self.direct.send(&request).await {
            Ok(answer) => self.part_of(key, &range, answer),
            // The range begins at the end or after it; an empty object has no other.
            Err(Failure {
                status: Some(416), ..
            }) => self.nothing_of(key).await,
            Err(failure) => Err(failure.error),
        }
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
        let (start, object_len) = match answer.header("content-range") {
            Some(text) => content_range(text)
                .ok_or_else(|| self.strange(key, "the answer's Content-Range is none"))?,
            // A server that does not know ranges sends everything.
            None => (0, len),
        };
        let version = answer.header("etag").map(Into::into);
        let mut bytes = answer.body;
        let skip = range
            .start
            .checked_sub(start)
            .ok_or_else(|| self.strange(key, "the answer is another range"))?;
        bytes = bytes.split_off(skip.min(len) as usize);
        bytes.truncate(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        let wanted = range.end.min(object_len).saturating_sub(range.start);
        if bytes.len() as u64 != wanted {
            return Err(self.strange(key, "the answer is not all of the range"));
        }
        Ok(ObjectPart {
            bytes,
            object_len,
            version,
        })
    }

    fn len_of(&self, key: &str, answer: &Answer) -> Result<u64, StoreError> {
        answer
            .len
            .ok_or_else(|| self.strange(key, "the answer has no length"))
    }

    /// An answer that S3 would not give.
    fn strange(&self, key: &str, what: &'static str) -> StoreError {
        StoreError::Other {
            what: format!("reading {}", self.url(key)),
            source: Box::new(NoAnswer::new(what)),
        }
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
