//! An object's bytes as they arrive.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use crate::{ObjectPart, StoreError};

/// A range of an object on its way, and what the store said of the whole before the first byte.
pub struct ObjectStream {
    /// The length of the whole object in bytes.
    pub object_len: u64,
    /// Changes when the object is replaced (the ETag in S3), if the store has such a thing.
    pub version: Option<Arc<str>>,
    /// The bytes asked for, in order, in pieces of any length. An error says that the rest does not come; what came
    /// before it is good. Without an error, fewer bytes come than were asked for only where the object ends.
    pub pieces: BoxStream<'static, Result<Bytes, StoreError>>,
}

impl fmt::Debug for ObjectStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStream")
            .field("object_len", &self.object_len)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl From<ObjectPart> for ObjectStream {
    fn from(part: ObjectPart) -> Self {
        Self {
            object_len: part.object_len,
            version: part.version,
            pieces: stream::iter([Ok(part.bytes)]).boxed(),
        }
    }
}
