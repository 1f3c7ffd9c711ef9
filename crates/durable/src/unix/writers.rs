//! Who writes to a file: descriptors and mappings of all processes, as `/proc` shows them (`proc_pid_fdinfo(5)`, `proc_pid_maps(5)`).
//! No file is opened or looked at by its path: it may be in a mount that does not answer any more.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Writer, WrittenFile};

const LONGEST_SEARCH: Duration = Duration::from_secs(1);
/// The bits of a file's flags that say how it is open; 0 is for reading.
const ACCESS_MODE: u32 = 0b11;

pub(crate) fn writers_of(file: &WrittenFile<'_>) -> Vec<Writer> {
    let mut mounts = super::mounted().unwrap_or_default();
    mounts.retain(|mount| mount.fs_type.starts_with("fuse"));
    let is_mounted = mounts
        .iter()
        .any(|mount| mount.mount_point == file.mount_point);
    // What is in no mount any more has a path that begins at its root.
    let may_be_in_mount = |path: &Path| {
        if is_mounted {
            path.starts_with(file.mount_point)
        } else {
            !mounts
                .iter()
                .any(|mount| path.starts_with(&mount.mount_point))
        }
    };
    let until = Instant::now() + LONGEST_SEARCH;
    let mut found = Vec::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        if Instant::now() > until {
            break;
        }
        let pid = process.file_name();
        let Some(pid) = pid.to_str().and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        let wanted = |number: Option<u64>, path: &Path| {
            let is_named = path
                .file_name()
                .is_some_and(|name| file.names.contains(&name.as_bytes()));
            let is_it = number.is_some()
                && (number == file.on_disk
                    || number == Some(file.in_mount) && may_be_in_mount(path));
            is_named && is_it
        };
        let process = process.path();
        if pid != std::process::id() && (writes(&process, wanted) || maps(&process, wanted)) {
            let name = fs::read(process.join("comm")).unwrap_or_default();
            let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
            found.push(Writer { pid, name });
        }
    }
    found.sort();
    found
}

fn writes(process: &Path, wanted: impl Fn(Option<u64>, &Path) -> bool) -> bool {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten();
    descriptors.flatten().any(|descriptor| {
        // It was closed, or belongs to someone else.
        let Ok(path) = fs::read_link(descriptor.path()) else {
            return false;
        };
        let about = process.join("fdinfo").join(descriptor.file_name());
        let about = fs::read_to_string(about).unwrap_or_default();
        let field = |name: &str| {
            let line = about.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim)
        };
        let flags = field("flags:").and_then(|flags| u32::from_str_radix(flags, 8).ok());
        flags.is_some_and(|flags| flags & ACCESS_MODE != 0)
            && wanted(field("ino:").and_then(|number| number.parse().ok()), &path)
    })
}

/// `7f..-7f.. rw-s 00000000 00:2d 17    /mnt/a`
fn maps(process: &Path, wanted: impl Fn(Option<u64>, &Path) -> bool) -> bool {
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    maps.split(|&byte| byte == b'\n').any(|line| {
        let line = String::from_utf8_lossy(line);
        let mut fields = line.splitn(6, ' ');
        let can_write = fields
            .nth(1)
            .is_some_and(|how| how.as_bytes().get(1) == Some(&b'w') && how.ends_with('s'));
        let number = fields.nth(2).and_then(|number| number.parse().ok());
        let path = fields.next().unwrap_or_default().trim_start();
        can_write && wanted(number, Path::new(path))
    })
}
