//! Completion objects: where an answer goes.

use super::types::{Listed, ListedName};
use crate::FsError;

/// Takes the answer to one request. An adapter makes one for each request; the file system calls one of the two methods,
/// on any thread. If it is dropped instead, the request is answered with an I/O error.
pub trait Reply<T>: Send + 'static {
    /// The request succeeded.
    fn ok(self, value: T);

    /// The request failed.
    fn fail(self, error: FsError);

    /// Answers with a result.
    fn done(self, result: Result<T, FsError>)
    where
        Self: Sized,
    {
        match result {
            Ok(value) => self.ok(value),
            Err(error) => self.fail(error),
        }
    }
}

/// Takes bytes, which are borrowed from wherever they are kept, so that nothing is copied on the way
/// to the adapter.
pub trait DataReply: for<'a> Reply<&'a [u8]> {}

impl<R: for<'a> Reply<&'a [u8]>> DataReply for R {}

/// Takes the entries of a directory into a buffer of the adapter's, until it is full. `ok(())` sends what is in it.
pub trait ListReply<E>: Reply<()> {
    /// Adds an entry, and the offset at which reading continues after it. `false` if the buffer has no room for it:
    /// then neither this entry nor a later one is part of the answer.
    #[must_use]
    fn add(&mut self, entry: E, next: u64) -> bool;
}

/// Takes names.
pub trait NameReply: for<'a> ListReply<ListedName<'a>> {}

impl<R: for<'a> ListReply<ListedName<'a>>> NameReply for R {}

/// Takes names with nodes and attributes.
pub trait ListedReply: for<'a> ListReply<Listed<'a>> {}

impl<R: for<'a> ListReply<Listed<'a>>> ListedReply for R {}
