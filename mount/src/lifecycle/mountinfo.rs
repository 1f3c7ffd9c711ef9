//! What is mounted where: `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
//!
//! It is read, and never asked of the mounts themselves: a dead or hanging one would not answer.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

const PATH: &str = "/proc/self/mountinfo";

/// The file's name in a process's directory in `/proc`.
pub(crate) const NAME: &str = "mountinfo";

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountEntry {
    /// The kernel's number of the mount, given again after it has gone.
    pub(crate) id: u64,
    /// The mount that it lies on.
    pub(crate) parent: u64,
    /// The device, as `major:minor`.
    pub(crate) device: String,
    /// Where it is.
    pub(crate) mount_point: PathBuf,
    /// The file system, for FUSE with a subtype (`fuse.attachfs`).
    pub(crate) fs_type: String,
    /// What is mounted.
    pub(crate) source: OsString,
    /// What was said when it was mounted: `rw,user_id=0,group_id=0`.
    pub(crate) options: OsString,
}

impl MountEntry {
    /// Whether a process, not the kernel, serves it.
    pub(crate) fn is_fuse(&self) -> bool {
        self.fs_type == "fuse" || self.fs_type.starts_with("fuse.")
    }

    /// Whether it is this mount, wherever it is now: its path changes when a directory above it is
    /// renamed.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.id == other.id && self.is_copy_of(other)
    }

    /// Whether the same process serves both: one is a bind mount of the other, or its copy in another
    /// mount namespace.
    pub(crate) fn is_copy_of(&self, other: &Self) -> bool {
        self.is_fuse() && self.device == other.device && self.source == other.source
    }

    /// The values of an option: `lowerdir` may be there several times.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let options = self.options.as_bytes().split(|&byte| byte == b',');
        options.filter_map(move |option| option.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }

    /// The user who mounted it, of a FUSE mount. The kernel says so, not whoever chose the source.
    pub(crate) fn user(&self) -> Option<u32> {
        text(self.values("user_id").next()?)?.parse().ok()
    }
}

/// The table, in the order in which things were mounted: what is later covers what is earlier.
pub(crate) fn read() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&std::fs::read(PATH)?))
}

/// What is mounted exactly at `path`, the uppermost if several are.
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

/// Leaves out lines that it does not understand; the kernel writes none.
pub(crate) fn parse(table: &[u8]) -> Vec<MountEntry> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = text(fields.next()?)?.parse().ok()?;
    let parent = text(fields.next()?)?.parse().ok()?;
    let device = text(fields.next()?)?;
    let _root = fields.next()?;
    let mount_point = PathBuf::from(unescape(fields.next()?));
    let _options = fields.next()?;
    // Any number of optional fields, up to a hyphen.
    fields.find(|field| *field == b"-")?;
    let fs_type = text(&unescape(fields.next()?).into_vec())?;
    let source = unescape(fields.next()?);
    let options = unescape(fields.next().unwrap_or_default());
    Some(MountEntry {
        id,
        parent,
        device,
        mount_point,
        fs_type,
        source,
        options,
    })
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// Turns `\ooo` back into the byte it stands for.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'\\')
            .then(|| after.get(..3).and_then(octal))
            .flatten();
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

fn octal(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0u8, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit - b'0'),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_is_understood() {
        let line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw\n";
        let expected = MountEntry {
            id: 36,
            parent: 35,
            device: "98:0".to_owned(),
            mount_point: PathBuf::from("/mnt2"),
            fs_type: "ext3".to_owned(),
            source: OsString::from("/dev/root"),
            options: OsString::from("rw"),
        };
        assert_eq!(parse(line), [expected]);
    }

    #[test]
    fn escaped_bytes_of_a_mount_point_come_back() {
        let line = br"1 2 0:45 / /a\040b\134c\011\012 rw - fuse.attachfs attachfs:ab rw";
        let entry = parse_line(line).unwrap();
        assert_eq!(entry.mount_point, PathBuf::from("/a b\\c\t\n"));
        assert!(entry.is_fuse());
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape(br"a\9\400\1"), OsString::from(r"a\9\400\1"));
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        assert_eq!(
            parse(b"\nx\n1 2 3\n36 35 98:0 / /mnt rw no hyphen here\n"),
            []
        );
    }

    #[test]
    fn this_machines_table_has_the_root() {
        assert!(root(&read().unwrap()).is_some());
    }

    #[test]
    fn the_user_who_mounted_is_an_option() {
        let line = b"1 2 0:45 / /a rw - fuse.attachfs attachfs rw,user_id=1000,group_id=7";
        assert_eq!(parse_line(line).unwrap().user(), Some(1000));
        let line = b"1 2 0:45 / /a rw - ext4 /dev/sda rw,errors=continue";
        assert_eq!(parse_line(line).unwrap().user(), None);
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
