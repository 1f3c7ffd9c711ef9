//! The name under which a mount of ours stands in the kernel's table: `attachfs:<session id>`, or
//! `attachfs:read-only:<16 hex digits>` without a session.
//!
//! No two mounts that are there at a time have the same source. The kernel gives the numbers of a mount and of its
//! device again as soon as the mount has gone, so those alone could be another's.

use std::ffi::OsStr;

use attachfs_session::SessionId;

use super::mountinfo::MountEntry;

/// The file system's name, and its FUSE subtype.
pub(super) const NAME: &str = "attachfs";
const READ_ONLY: &str = "read-only:";

/// What a mount of ours is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MountSource {
    /// A session.
    Session(SessionId),
    /// No session, so that nothing can be written. The random number tells it from others.
    ReadOnly(u64),
}

impl MountSource {
    /// Of a mount to be made.
    #[cfg(unix)]
    pub(super) fn new(session: Option<&SessionId>) -> std::io::Result<Self> {
        match session {
            Some(id) => Ok(Self::Session(id.clone())),
            None => attachfs_durable::random_bytes()
                .map(u64::from_ne_bytes)
                .map(Self::ReadOnly),
        }
    }

    /// Of a line of the table; `None` if the mount is not ours.
    pub(super) fn parse(entry: &MountEntry) -> Option<Self> {
        if !entry.is_fuse() {
            return None;
        }
        let of = entry
            .source
            .to_str()?
            .strip_prefix(NAME)?
            .strip_prefix(':')?;
        match of.strip_prefix(READ_ONLY) {
            Some(number) => u64::from_str_radix(number, 16).ok().map(Self::ReadOnly),
            None => of.parse().ok().map(Self::Session),
        }
    }

    /// Any source, fit for a terminal.
    pub(super) fn display(source: &OsStr) -> String {
        source.to_string_lossy().escape_debug().to_string()
    }
}

impl std::fmt::Display for MountSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session(id) => write!(f, "{NAME}:{id}"),
            Self::ReadOnly(number) => write!(f, "{NAME}:{READ_ONLY}{number:016x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fs_type: &str, source: &str) -> MountEntry {
        MountEntry {
            id: 1,
            parent: 0,
            device: "0:1".to_owned(),
            mount_point: "/mnt".into(),
            fs_type: fs_type.to_owned(),
            source: source.into(),
            options: std::ffi::OsString::new(),
        }
    }

    #[test]
    fn a_source_written_is_read_again() {
        for source in [
            MountSource::new(None),
            MountSource::new(Some(&SessionId::from_random([7; 16]))),
        ] {
            let source = source.unwrap();
            let entry = entry("fuse.attachfs", &source.to_string());
            assert_eq!(MountSource::parse(&entry), Some(source));
        }
    }

    #[test]
    fn what_only_looks_like_ours_is_not_ours() {
        for (fs_type, source) in [
            ("ext4", "attachfs:read-only:00000000000000a7"),
            ("fuse", "attachfs:read-only:"),
            ("fuse", "attachfs"),
            ("fuse", "attachfs2"),
            ("fuse", "attachfs:"),
            ("fuse", "sshfs"),
        ] {
            assert_eq!(
                MountSource::parse(&entry(fs_type, source)),
                None,
                "{fs_type} {source}"
            );
        }
    }
}
