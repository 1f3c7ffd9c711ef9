//! The operations, one family a file.

pub(crate) mod attributes;
pub(crate) mod directory;
mod names;
pub(crate) mod open;
pub(crate) mod read;
mod sync;
mod write;
