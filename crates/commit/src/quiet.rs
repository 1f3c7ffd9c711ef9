//! How a scratch file comes to be hashed, by a commit or before one: when nobody writes to it, and its times would show the next write.

use std::time::{Duration, Instant, SystemTime};

use attachfs_durable::FileStamp;
use attachfs_transfer::{FileToStore, SourceFile};
use attachfs_tree::Ino;
use attachfs_vfs::{NotQuiescent, Quiescent, Vfs};

/// A write this soon after another one may not change a file's times: kernels count them in ticks
/// of up to 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// How long a file may be found open in another process before that is believed.
const GRACE: Duration = Duration::from_millis(100);

/// Makes sure that nobody writes to a file, and that its times tell whether somebody did since.
pub(crate) async fn quiesce(vfs: &Vfs, ino: Ino) -> Result<Quiescent<'_>, NotQuiescent> {
    let quiescent = settled(vfs, ino).await?;
    if !is_recent(&quiescent.stamp(), SystemTime::now()) {
        return Ok(quiescent);
    }
    drop(quiescent);
    tokio::time::sleep(TICK).await;
    settled(vfs, ino).await
}

/// Makes sure that nobody writes to a file. A process that is just ending still has what it had open.
async fn settled(vfs: &Vfs, ino: Ino) -> Result<Quiescent<'_>, NotQuiescent> {
    let since = Instant::now();
    loop {
        match vfs.quiesce(ino) {
            Err(NotQuiescent::Elsewhere) if since.elapsed() < GRACE => {
                tokio::time::sleep(TICK).await;
            }
            quiescent => return quiescent,
        }
    }
}

/// All of a scratch file, to be hashed and sent as it is now.
pub(crate) fn whole(quiescent: &Quiescent<'_>) -> FileToStore {
    let stamp = quiescent.stamp();
    FileToStore {
        path: quiescent.path().clone(),
        file: SourceFile::AtPath,
        stamp,
        size: stamp.size,
    }
}

/// Whether a file changed so recently that its times may not show the next change. A time far in
/// the future was set before the clock was set back.
fn is_recent(stamp: &FileStamp, now: SystemTime) -> bool {
    let tick = TICK.as_nanos() as i128;
    match now.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(now) => (-tick..tick).contains(&(now.as_nanos() as i128 - stamp.ctime_ns)),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stamp of a file that was just written, and the present time.
    fn written() -> (FileStamp, SystemTime) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        std::fs::write(&path, "output").unwrap();
        let stamp = FileStamp::at(&path).unwrap();
        let since = Duration::from_nanos(stamp.ctime_ns as u64);
        (stamp, SystemTime::UNIX_EPOCH + since)
    }

    #[test]
    fn a_file_that_just_changed_is_waited_for_also_if_the_clock_was_set_back_a_little() {
        let (stamp, then) = written();
        assert!(is_recent(&stamp, then));
        assert!(is_recent(&stamp, then + TICK / 2));
        assert!(is_recent(&stamp, then - TICK / 2));
        assert!(!is_recent(&stamp, then + TICK));
    }

    #[test]
    fn a_clock_that_jumps_makes_no_commit_wait() {
        let (stamp, then) = written();
        let hour = Duration::from_hours(1);
        // Forward, back, and to before 1970: one wait would not make it older.
        for now in [
            then + hour,
            then - hour,
            SystemTime::UNIX_EPOCH - Duration::from_secs(1),
        ] {
            assert!(!is_recent(&stamp, now));
        }
    }
}
