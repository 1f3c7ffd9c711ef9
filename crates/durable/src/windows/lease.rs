//! Windows has no leases that are asked for without waiting, and no mounts that would need them.

use std::fs::File;
use std::io;

use crate::lease::Leasing;
use crate::{Writer, WrittenFile};

/// A lease, which Windows never grants.
#[derive(Debug)]
pub(crate) struct ReadLease;

impl ReadLease {
    pub(crate) fn new(_file: File) -> Self {
        Self
    }

    #[expect(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "as on other platforms"
    )]
    pub(crate) fn take(&self) -> io::Result<Leasing> {
        Ok(Leasing::Unknown)
    }

    #[expect(clippy::unused_self, reason = "as on other platforms")]
    pub(crate) fn holds(&self) -> bool {
        false
    }

    #[expect(clippy::unused_self, reason = "as on other platforms")]
    pub(crate) fn give_up(&self) {}
}

/// Nobody is looked for.
pub(crate) fn writers_of(_: &WrittenFile<'_>) -> Vec<Writer> {
    Vec::new()
}
