//! Who writes to a file, as far as the system tells: a help for people who wait for it, and no decision.

use std::fmt;
use std::path::Path;

use crate::platform;

/// A process that can write to a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// Its number.
    pub pid: u32,
    /// Its name, as the system keeps it: up to 15 bytes.
    pub name: String,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, process {}", self.name.escape_debug(), self.pid)
    }
}

/// A file that somebody may write to.
#[derive(Debug, Clone, Copy)]
pub struct WrittenFile<'a> {
    /// Its inode number in its mount. Files of other mounts have the same.
    pub in_mount: u64,
    /// The inode number of the local file with its bytes.
    pub on_disk: Option<u64>,
    /// The names that one of them may have.
    pub names: &'a [&'a [u8]],
    /// Where its mount is, or was.
    pub mount_point: &'a Path,
}

/// Other processes that have a file open for writing or mapped so that they can write to it. Looks for a second at most; without root it sees
/// those of the same user only. Nobody on Windows.
pub fn writers_of(file: &WrittenFile<'_>) -> Vec<Writer> {
    platform::writers_of(file)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::FileStamp;

    fn started(redirection: &str, file: &std::path::Path) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec sleep 100 {redirection} \"$0\"")])
            .arg(file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        while std::fs::read_to_string(&comm).unwrap() != "sleep\n" {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        child
    }

    #[test]
    fn who_has_a_file_open_for_writing_is_named_and_readers_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        File::create(&path).unwrap();
        let number = FileStamp::at(&path).unwrap().ino;
        let mut reader = started("3<", &path);
        let found = |name: &[u8]| {
            writers_of(&WrittenFile {
                in_mount: 7,
                on_disk: Some(number),
                names: &[b"other", name],
                mount_point: Path::new("/m"),
            })
        };
        assert_eq!(found(b"file"), []);
        let mut writer = started("3>>", &path);
        let expected = Writer {
            pid: writer.id(),
            name: "sleep".to_owned(),
        };
        assert_eq!(found(b"file"), [expected]);
        assert_eq!(found(b"another"), []);
        for child in [&mut reader, &mut writer] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(found(b"file"), []);
    }
}
