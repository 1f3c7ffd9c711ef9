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
    if !is_recent(&quiescent.stamp()) {
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
fn is_recent(stamp: &FileStamp) -> bool {
    let tick = TICK.as_nanos() as i128;
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(now) => (-tick..tick).contains(&(now.as_nanos() as i128 - stamp.ctime_ns)),
        Err(_) => false,
    }
}
