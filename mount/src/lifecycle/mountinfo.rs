//! What is mounted where: `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
//!
//! It is read, and never asked of the mounts themselves: a dead or hanging one would not answer.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

const PATH: &str = "/proc/self/mountinfo";

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountEntry {
    /// The kernel's number of the mount, given again after it has gone.
    pub(crate) id: u64,
    /// The device, as `major:minor`.
    pub(crate) device: String,
    /// Where it is.
    pub(crate) mount_point: PathBuf,
    /// The file system, for FUSE with a subtype (`fuse.attachfs`).
    pub(crate) fs_type: String,
    /// What is mounted.
    pub(crate) source: OsString,
}

impl MountEntry {
    /// Whether a process, not the kernel, serves it.
    pub(crate) fn is_fuse(&self) -> bool {
        self.fs_type == "fuse" || self.fs_type.starts_with("fuse.")
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

/// Leaves out lines that it does not understand; the kernel writes none.
fn parse(table: &[u8]) -> Vec<MountEntry> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = text(fields.next()?)?.parse().ok()?;
    let _parent = fields.next()?;
    let device = text(fields.next()?)?;
    let _root = fields.next()?;
    let mount_point = PathBuf::from(unescape(fields.next()?));
    let _options = fields.next()?;
    // Any number of optional fields, up to a hyphen.
    fields.find(|field| *field == b"-")?;
    let fs_type = text(&unescape(fields.next()?).into_vec())?;
    let source = unescape(fields.next()?);
    Some(MountEntry {
        id,
        device,
        mount_point,
        fs_type,
        source,
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
            device: "98:0".to_owned(),
            mount_point: PathBuf::from("/mnt2"),
            fs_type: "ext3".to_owned(),
            source: OsString::from("/dev/root"),
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
        assert!(at(Path::new("/")).unwrap().is_some());
    }
}
