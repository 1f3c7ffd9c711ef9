//! The bytes of a file without reading them into memory.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::OwnDir;
use crate::error::At as _;
use crate::{DurableError, platform};

/// The bytes of a file, mapped: they are in the page cache, which gives them up where memory is short, and not in the memory of
/// this process.
///
/// What is in the file shows at each moment, and a file that is cut off kills the process that looks behind its end. So this is for files in
/// directories of this user's own alone, which were written whole and which nobody has a reason to change, and for the moments in which a failing disk
/// may end the process: not while it serves a mount.
#[derive(Debug)]
pub struct Mapped(platform::Mapping);

/// How often pages that were looked at are given back.
const GIVEN_BACK_EVERY: Duration = Duration::from_millis(10);

impl Mapped {
    /// Does work that looks at mapped files, mostly once at each place, and gives their pages back meanwhile: they stay in the page cache, and
    /// do not count as memory of this process, however long the files are.
    pub fn sparingly<T>(files: &[Self], work: impl FnOnce() -> T) -> T {
        let (done, is_done) = channel::<()>();
        std::thread::scope(|scope| {
            let give_back = move || {
                while is_done.recv_timeout(GIVEN_BACK_EVERY) == Err(RecvTimeoutError::Timeout) {
                    for file in files {
                        platform::give_back(&file.0);
                    }
                }
            };
            let thread = std::thread::Builder::new().name("attachfs-mapped".to_owned());
            if let Err(error) = thread.spawn_scoped(scope, give_back) {
                tracing::debug!(%error, "mapped pages are kept");
            }
            let result = work();
            drop(done);
            result
        })
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl OwnDir {
    /// Maps a file that is this user's alone.
    pub fn map(&self, name: &str) -> Result<Mapped, DurableError> {
        let file = self.open_file(name)?;
        let mapping = platform::map(&file).at("read", &self.at(name))?;
        Ok(Mapped(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_has_the_bytes_of_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let dir = OwnDir::create(&temp.path().join("dir")).unwrap();
        for bytes in [Vec::new(), vec![1], vec![7; 100_000]] {
            dir.publish("f", &bytes).unwrap();
            let mapped = dir.map("f").unwrap();
            assert_eq!(mapped.as_ref(), bytes);
            // Another file takes its name: these are still the bytes of this one. Windows refuses that.
            if cfg!(unix) {
                dir.publish("f", b"another").unwrap();
                assert_eq!(mapped.as_ref(), bytes);
            }
        }
        assert!(dir.map("none").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn who_looks_at_a_long_file_sparingly_does_not_keep_its_pages() {
        const LEN: usize = 64 << 20;
        let temp = tempfile::tempdir().unwrap();
        let dir = OwnDir::create(&temp.path().join("dir")).unwrap();
        let bytes: Vec<u8> = (0..LEN as u32).map(|at| (at / 4096) as u8).collect();
        dir.publish("f", &bytes).unwrap();
        let mapped = [dir.map("f").unwrap()];
        let resident = || {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let own = temp.path().join("dir/f").display().to_string();
            let at = maps.find(&own).expect("it is mapped");
            let line = maps[at..]
                .lines()
                .find(|line| line.starts_with("Rss:"))
                .unwrap();
            let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            kib << 10
        };
        assert_eq!(mapped[0].as_ref(), bytes);
        assert!(resident() > LEN / 2, "looking at it takes pages");
        Mapped::sparingly(&mapped, || {
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            while resident() > LEN / 8 {
                assert!(std::time::Instant::now() < deadline, "they are given back");
                std::thread::sleep(GIVEN_BACK_EVERY);
            }
            assert_eq!(mapped[0].as_ref(), bytes);
        });
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_write_to_is_not_mapped() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let temp = tempfile::tempdir().unwrap();
        let dir = OwnDir::create(&temp.path().join("dir")).unwrap();
        dir.publish("f", b"bytes").unwrap();
        symlink("f", dir.path().join("link")).unwrap();
        assert!(dir.map("link").is_err());
        let others = std::fs::Permissions::from_mode(0o620);
        std::fs::set_permissions(dir.path().join("f"), others).unwrap();
        let error = dir.map("f").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    }
}
