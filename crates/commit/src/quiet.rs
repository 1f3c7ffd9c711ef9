//! How a scratch file comes to be hashed, by a commit or before one: when nobody writes to it, and its times would show the next write.

use std::time::{Duration, Instant, SystemTime};

use attachfs_durable::FileStamp;
use attachfs_transfer::{FileToStore, SourceFile};
use attachfs_tree::Ino;
use attachfs_vfs::{NotQuiescent, Quiescent, Vfs};

/// A write this soon after another one may not change a file's times: kernels count them in ticks
/// of up to 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// The same on disks that keep whole seconds (ext3, ext4 with small inodes), or every second one of them (FAT).
const COARSE_TICK: Duration = Duration::from_secs(3);

/// So often a file is looked at that changes each time, before it counts as open.
const LOOKED_AT: u32 = 10;

/// How long a file may be found open in another process before that is believed.
const GRACE: Duration = Duration::from_millis(100);

/// Makes sure that nobody writes to a file, and that its times tell whether somebody did since.
pub(crate) async fn quiesce(vfs: &Vfs, ino: Ino) -> Result<Quiescent<'_>, NotQuiescent> {
    for _ in 0..LOOKED_AT {
        let quiescent = settled(vfs, ino).await?;
        let Some(rest) = until_told(&quiescent.stamp(), SystemTime::now()) else {
            return Ok(quiescent);
        };
        drop(quiescent);
        tokio::time::sleep(rest).await;
    }
    Err(NotQuiescent::Elsewhere)
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

/// How long it takes until the file's times show the next change for certain; `None` if they do now. A time far in
/// the future was set before the clock was set back.
fn until_told(stamp: &FileStamp, now: SystemTime) -> Option<Duration> {
    let tick = match stamp.ctime_ns % 1_000_000_000 {
        0 => COARSE_TICK,
        _ => TICK,
    };
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let age = now.as_nanos() as i128 - stamp.ctime_ns;
    let tick_ns = tick.as_nanos() as i128;
    (-tick_ns..tick_ns).contains(&age).then(|| {
        let rest = (tick_ns - age).clamp(0, tick_ns);
        Duration::from_nanos(rest as u64).max(Duration::from_millis(1))
    })
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
        assert!(until_told(&stamp, then).is_some());
        assert!(until_told(&stamp, then + TICK / 2).is_some());
        assert!(until_told(&stamp, then - TICK / 2).is_some());
        assert_eq!(until_told(&stamp, then + TICK), None);
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
            assert_eq!(until_told(&stamp, now), None);
        }
    }

    #[test]
    fn times_of_whole_seconds_show_the_next_change_some_seconds_later() {
        let second = Duration::from_secs(1);
        let then = SystemTime::UNIX_EPOCH + 1_800_000_000 * second;
        let stamp = FileStamp {
            ctime_ns: 1_800_000_000_000_000_000,
            ..written().0
        };
        assert!(until_told(&stamp, then + second / 2) > Some(second));
        assert_eq!(until_told(&stamp, then + 4 * second), None);
    }
}
