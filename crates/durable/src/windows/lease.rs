//! Windows has no leases that are asked for without waiting, and no mounts that would need them.

use std::fs::File;
use std::io;

use crate::lease::Leasing;
use crate::{Writer, WrittenFile};

/// A lease, which Windows never grants: a type without a value.
#[derive(Debug)]
pub(crate) enum ReadLease {}

impl ReadLease {
    #[expect(clippy::unnecessary_wraps, reason = "other systems may fail")]
    pub(crate) fn take(_file: File) -> io::Result<Leasing> {
        Ok(Leasing::Unknown)
    }

    pub(crate) fn holds(&self) -> bool {
        match *self {}
    }

    pub(crate) fn give_up(&self) {
        match *self {}
    }
}

/// Nobody is looked for.
pub(crate) fn writers_of(_: &WrittenFile<'_>) -> Vec<Writer> {
    Vec::new()
}
