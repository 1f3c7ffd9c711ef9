//! Whether what serves a path answers at all.
//!
//! If the process of a mount is stopped or hangs, every program that uses a path in the mount waits for it. So a caller
//! that was given paths asks once for all of them before it uses one.

use std::path::{Path, PathBuf};
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

/// Fails if a path, or one of this user's own directories, leads into a mount of any program (FUSE) that does not answer within ten seconds. A path that leads
/// nowhere, and one that cannot be looked at, is no failure here: the function that uses it reports it.
pub fn require_answers<'a>(
    paths: impl IntoIterator<Item = &'a Path>,
    places: &'a Places,
) -> Result<(), Error> {
    let mut answered: Vec<FuseMount> = Vec::new();
    let own = [&*places.state, places.cache.path(), &*places.data];
    // First, since what serves another mount is looked up there.
    for path in own.into_iter().chain(paths) {
        let Ok(Place {
            mount: Some(mount), ..
        }) = Place::of(path)
        else {
            continue;
        };
        if answered.contains(&mount) {
            continue;
        }
        require_answer(path, &mount, places)?;
        answered.push(mount);
    }
    Ok(())
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
