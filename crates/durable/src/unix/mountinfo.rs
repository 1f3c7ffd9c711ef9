//! The kernel's table of mounts: `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
//!
//! Read by hand, since the libraries that read it take its lines for UTF-8 text and leave `\040` in the names: one odd
//! mount point would hide all the others.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use crate::Mounted;

pub(crate) fn mounted() -> io::Result<Vec<Mounted>> {
    Ok(mounts_of_table(&std::fs::read("/proc/self/mountinfo")?))
}

/// Leaves out lines that it does not understand; the kernel writes none.
pub(crate) fn mounts_of_table(table: &[u8]) -> Vec<Mounted> {
    let lines = table.split(|&byte| byte == b'\n');
    lines.filter_map(mount_of_line).collect()
}

fn mount_of_line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = text(fields.next()?);
    let _root = fields.next()?;
    let mount_point = PathBuf::from(unescaped(fields.next()?));
    let _options = fields.next()?;
    // Any number of optional fields, up to a hyphen.
    fields.find(|field| *field == b"-")?;
    let fs_type = text(unescaped(fields.next()?).as_bytes());
    let source = unescaped(fields.next()?);
    let options = unescaped(fields.next().unwrap_or_default());
    Some(Mounted {
        id,
        parent,
        device,
        mount_point,
        fs_type,
        source,
        options,
    })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> String {
    OsStr::from_bytes(field).to_string_lossy().into_owned()
}

/// Turns `\ooo` back into the byte that it stands for.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| first == b'\\');
        let byte = digits.and_then(octal);
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes)
}

fn octal(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit - b'0'),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_line_with_optional_fields_is_understood() {
        let line =
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - fuse.sshfs me@host: rw,a=b\n";
        let expected = Mounted {
            id: 36,
            parent: 35,
            device: "98:0".to_owned(),
            mount_point: PathBuf::from("/mnt2"),
            fs_type: "fuse.sshfs".to_owned(),
            source: OsString::from("me@host:"),
            options: OsString::from("rw,a=b"),
        };
        assert_eq!(mounts_of_table(line), [expected]);
    }

    #[test]
    fn odd_bytes_of_a_mount_point_come_back_and_hide_no_other_mount() {
        let table = b"1 2 0:45 / /a\\040b\\134c\\011\\012\xff rw - ext4 /dev/a rw\n3 1 0:46 / /d rw - tmpfs none rw";
        let mounts = mounts_of_table(table);
        let points: Vec<_> = mounts
            .iter()
            .map(|mount| mount.mount_point.as_path())
            .collect();
        let odd = OsStr::from_bytes(b"/a b\\c\t\n\xff");
        assert_eq!(points, [Path::new(odd), Path::new("/d")]);
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescaped(br"a\9\400\1"), OsString::from(r"a\9\400\1"));
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        let table = b"\nx\n1 2 3\n36 35 98:0 / /mnt rw no hyphen here\n";
        assert_eq!(mounts_of_table(table), []);
    }

    #[test]
    fn the_mount_table_has_the_root() {
        let all = mounted().unwrap();
        assert!(all.iter().any(|one| one.mount_point == Path::new("/")));
    }

    #[test]
    fn the_user_who_mounted_is_an_option() {
        let table = b"1 2 0:45 / /a rw - fuse.attachfs attachfs rw,user_id=1000,group_id=7\n\
            1 2 0:45 / /a rw - ext4 /dev/sda rw,errors=continue";
        let users = mounts_of_table(table).into_iter().map(|mount| mount.user());
        assert_eq!(users.collect::<Vec<_>>(), [Some(1000), None]);
    }
}
