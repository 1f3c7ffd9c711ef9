//! Whether what serves a path answers at all.
//!
//! If the process of a mount is stopped or hangs, every program that uses a path in the mount waits for it. So a caller
//! that was given paths asks once for all of them before it uses one, and goes on asking while it uses them ([`Answering::watch`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use attachfs_mount::{FuseMount, Place, Process};
use attachfs_session::FailureClass;

use crate::error::Error;
use crate::holder::{NoAnswer, holder};
use crate::list::own_session;
use crate::places::Places;

/// How long a mount may take to answer. One that is alive answers in milliseconds; one of another program may wait for
/// its network first.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often mounts that answered are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The mounts that answered.
#[derive(Debug)]
pub struct Answering(Vec<(PathBuf, FuseMount)>);

/// Whether mounts are still watched. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<AtomicBool>);

impl Watch {
    /// The paths are not needed any more: whatever their mounts do, nobody hears of it.
    pub fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn has_ended(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Answering {
    /// Goes on asking until `watch` ends, and calls `hangs` if one does not answer within ten seconds. A thread that uses a path in that mount
    /// may not come back before the process ends.
    pub fn watch(
        self,
        watch: Watch,
        places: Places,
        hangs: impl FnOnce(Error) + Send + 'static,
    ) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let ask = move || {
            while !watch.has_ended() {
                std::thread::sleep(ASK_AGAIN);
                let mut asked = self.0.iter();
                let failed =
                    asked.find_map(|(path, mount)| require_answer(path, mount, &places).err());
                if let Some(error) = failed
                    && !watch.has_ended()
                {
                    return hangs(error);
                }
            }
        };
        let thread = std::thread::Builder::new().name("watch mounts".to_owned());
        thread.spawn(ask).map(drop)
    }
}

/// Fails if a path, or one of this user's own directories, leads into a mount of any program (FUSE) that does not answer within ten seconds. A path that leads
/// nowhere, and one that cannot be looked at, is no failure here: the function that uses it reports it.
pub fn require_answers<'a>(
    paths: impl IntoIterator<Item = &'a Path>,
    places: &'a Places,
) -> Result<Answering, Error> {
    let mut answered: Vec<(PathBuf, FuseMount)> = Vec::new();
    let own = [&*places.state, places.cache.path(), &*places.data];
    // First, since what serves another mount is looked up there.
    for path in own.into_iter().chain(paths) {
        let Ok(Place {
            mount: Some(mount), ..
        }) = Place::of(path)
        else {
            continue;
        };
        if answered.iter().any(|(_, asked)| *asked == mount) {
            continue;
        }
        require_answer(path, &mount, places)?;
        answered.push((path.to_owned(), mount));
    }
    Ok(Answering(answered))
}

/// Fails if the mount that a path leads into does not answer within ten seconds.
pub(crate) fn require_answer(path: &Path, mount: &FuseMount, places: &Places) -> Result<(), Error> {
    let holder = holder_of(mount, places);
    let is_stopped = holder.as_ref().is_some_and(|(_, process)| process.stopped);
    if is_stopped || !mount.answers(PATIENCE) {
        return Err(no_answer(path, mount, holder));
    }
    Ok(())
}

/// The process that serves a mount of one of this user's sessions, and the session's directory.
fn holder_of(mount: &FuseMount, places: &Places) -> Option<(PathBuf, Process)> {
    // Sessions that are in the mount itself cannot be looked at before it has answered.
    if Place::of(&places.state).ok()?.mount.as_ref() == Some(mount) {
        return None;
    }
    let dir = places.sessions().entry_of(own_session(mount)?);
    let process = holder(&dir)?;
    Some((dir, process))
}

fn no_answer(path: &Path, mount: &FuseMount, holder: Option<(PathBuf, Process)>) -> Error {
    if let Some((dir, process)) = holder {
        let process = Some(process);
        return NoAnswer { dir, process }.of_mount(true);
    }
    let sentence = format!(
        "{} is in the mount {} ({}), whose process does not answer",
        path.display(),
        mount.mount_point.display(),
        mount.source
    );
    Error::new(FailureClass::Busy, sentence)
}
