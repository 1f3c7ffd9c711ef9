//! The operations, one family a file.

mod allocate;
pub(crate) mod attributes;
pub(crate) mod directory;
mod names;
pub(crate) mod open;
pub(crate) mod origin;
pub(crate) mod read;
pub(crate) mod seek;
mod sync;
pub(crate) mod walk;
mod write;
pub(crate) mod xattrs;
