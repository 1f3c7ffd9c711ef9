//! What is mounted where: `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
//!
//! It is read, and never asked of the mounts themselves: a dead or hanging one would not answer.

#[cfg(unix)]
use std::io;
use std::path::Path;

pub(crate) use attachfs_durable::{
    Mounted as MountEntry, mounted as read, mounts_of_table as parse,
};

/// The table's name in a process's directory in `/proc`.
pub(crate) const NAME: &str = "mountinfo";

/// What is mounted exactly at `path`, the uppermost if several are.
#[cfg(unix)]
pub(crate) fn at(path: &Path) -> io::Result<Option<MountEntry>> {
    Ok(read()?.into_iter().rfind(|entry| entry.mount_point == path))
}

/// The mount that absolute paths begin in.
pub(crate) fn root(table: &[MountEntry]) -> Option<&MountEntry> {
    let is_root = |entry: &&MountEntry| {
        entry.mount_point == Path::new("/") && !table.iter().any(|below| below.id == entry.parent)
    };
    table.iter().find(is_root)
}

/// The mount that whoever comes to `path` in the mount `below` gets into: the uppermost if one is on
/// the other. What an ancestor that was mounted over hides is not there.
pub(crate) fn entered<'a>(
    table: &'a [MountEntry],
    below: &MountEntry,
    path: &Path,
) -> Option<&'a MountEntry> {
    let on = |below: u64| {
        let is_on = |entry: &&MountEntry| entry.parent == below && entry.mount_point == path;
        table.iter().find(is_on)
    };
    let mut uppermost = on(below.id)?;
    while let Some(entry) = on(uppermost.id) {
        uppermost = entry;
    }
    Some(uppermost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_table_has_the_root() {
        assert!(root(&read().unwrap()).is_some());
    }

    #[test]
    fn who_walks_to_a_path_gets_into_the_uppermost_mount_that_is_not_hidden() {
        let table = parse(
            b"1 0 8:1 / / rw - ext4 /dev/sda rw\n\
              2 1 0:40 / /a/m rw - fuse.attachfs attachfs:x rw\n\
              3 1 0:41 / /b rw - tmpfs one rw\n\
              4 3 0:42 / /b rw - tmpfs two rw\n\
              5 1 0:43 / /a rw - tmpfs three rw\n",
        );
        let root = root(&table).unwrap();
        assert_eq!(root.id, 1);
        assert_eq!(entered(&table, root, Path::new("/b")).unwrap().id, 4);
        let over = entered(&table, root, Path::new("/a")).unwrap();
        assert_eq!(over.id, 5);
        assert_eq!(entered(&table, over, Path::new("/a/m")), None);
    }
}
