//! Making a session.
//!
//! ```text
//!     begin         the directory, its lock, base/
//!     next_manifest base/.staged-...  ->  base/0, base/1 ...        each when it is whole
//!     finish        the other directories, and the description last: only now it is a session
//! ```
//!
//! The manifests come first, because what they say decides whether there is anything to mount. A process that is killed before the end leaves a
//! directory that nobody takes for a session, with nothing in it that is needed: the next one that is to make a session there clears it, and
//! `list --prune` removes it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use attachfs_durable::{
    BeforeClaim, FileLock, Filling, Mapped, OwnDir, create_private_dir, is_staged_name,
};

use super::discard::{Layout, SurveyedDir, delete};
use super::layout::{BASE, COMMITS, DESCRIPTION, LAYERS, LOCK, SCRATCH, UNFINISHED};
use super::{Session, SessionError, SessionMeta};

/// A session that is being made. Dropping it leaves everything as it was before.
#[derive(Debug)]
pub struct NewSession {
    /// `None` once it is a session.
    made: Option<Made>,
}

#[derive(Debug)]
struct Made {
    dir: OwnDir,
    base: OwnDir,
    lock: Arc<FileLock>,
    found_mode: Option<u32>,
    /// How many manifests were begun.
    manifests: usize,
}

impl Session {
    /// Begins a new session in `dir`, which is made too, or is an empty directory of this user, or one in which another process was killed
    /// before it had made a session.
    pub fn begin(dir: &Path) -> Result<NewSession, SessionError> {
        let (dir, lock, found_mode) = claim(dir)?;
        let lock = Arc::new(lock);
        let base = dir.create_file(UNFINISHED);
        let base = match base.and_then(|_| dir.create_dir(BASE)) {
            Ok(base) => base,
            Err(error) => {
                undo(&dir, found_mode);
                return Err(error.into());
            }
        };
        let made = Some(Made {
            dir,
            base,
            lock,
            found_mode,
            manifests: 0,
        });
        Ok(NewSession { made })
    }

    /// Makes a new session of manifests that are in memory, see [`begin`](Self::begin). The manifests are kept in it, so that it can be resumed
    /// when the files that they came from are gone. After an error everything is as it was.
    pub fn create(
        dir: &Path,
        meta: SessionMeta,
        manifests: &[Vec<u8>],
    ) -> Result<Self, SessionError> {
        let mut new = Self::begin(dir)?;
        for bytes in manifests {
            let mut manifest = new.next_manifest()?;
            manifest.write(bytes)?;
            manifest.publish()?;
        }
        new.finish(meta)
    }

    fn make_rest(&self) -> Result<(), SessionError> {
        // Nothing is ever committed of jobs, or laid over them.
        if self.meta.browses.is_none() {
            self.dir.create_dir(COMMITS)?;
            self.dir.create_dir(LAYERS)?;
        }
        if !self.meta.read_only {
            match &self.meta.scratch_dir {
                Some(elsewhere) => {
                    create_private_dir(elsewhere)?;
                    let own = elsewhere.join(self.meta.id.as_str());
                    if OwnDir::claim(&own)?.is_none() {
                        return Err(not_empty(&own)?);
                    }
                }
                None => drop(self.dir.create_dir(SCRATCH)?),
            }
        }
        self.describe()?;
        Ok(self.dir.remove_file(UNFINISHED)?)
    }
}

impl NewSession {
    /// The file of the next manifest, the lowest first, which is published when it has all its bytes.
    pub fn next_manifest(&mut self) -> Result<Filling<'_>, SessionError> {
        let made = self.made_mut();
        let name = made.manifests.to_string();
        made.manifests += 1;
        Ok(made.base.fill(&name)?)
    }

    /// The manifests that were published, mapped.
    pub fn map_manifests(&self) -> Result<Vec<Mapped>, SessionError> {
        let made = self.made();
        let numbers = 0..made.manifests;
        let mapped = numbers.map(|number| made.base.map(&number.to_string()));
        Ok(mapped.collect::<Result<_, _>>()?)
    }

    /// Makes it a session. `meta` describes the manifests in the order in which they were published. After an error everything is as it was.
    pub fn finish(mut self, meta: SessionMeta) -> Result<Session, SessionError> {
        let Made {
            dir,
            lock,
            found_mode,
            ..
        } = self.made.take().expect(NOT_FINISHED);
        let session = Session {
            dir,
            meta,
            found_mode,
            lock,
        };
        match session.make_rest() {
            Ok(()) => Ok(session),
            Err(error) => {
                if let Err(failure) = session.discard() {
                    stays_behind(&failure);
                }
                Err(error)
            }
        }
    }

    fn made(&self) -> &Made {
        self.made.as_ref().expect(NOT_FINISHED)
    }

    fn made_mut(&mut self) -> &mut Made {
        self.made.as_mut().expect(NOT_FINISHED)
    }
}

/// `finish` takes the session, and nothing can be asked of it after that.
const NOT_FINISHED: &str = "it is not finished";

impl Drop for NewSession {
    fn drop(&mut self) {
        if let Some(made) = self.made.take() {
            // Windows removes no directory that is open.
            drop(made.base);
            undo(&made.dir, made.found_mode);
        }
    }
}

/// Removes what was made of a session.
fn undo(dir: &OwnDir, found_mode: Option<u32>) {
    if let Err(failure) = delete(dir, None, found_mode) {
        stays_behind(&failure);
    }
}

fn stays_behind(error: &SessionError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, "what was made of a session stays behind");
}

/// Takes a directory for a new session, which no other process takes then. Gives its lock, and the permission bits that it had if it was there.
fn claim(dir: &Path) -> Result<(OwnDir, FileLock, Option<u32>), SessionError> {
    let Some((claimed, found)) = OwnDir::claim(dir)? else {
        return match clear_unfinished(dir)? {
            // If no session is made, the directory stays: somebody else may have made it.
            Some((dir, lock)) => Ok((dir, lock, Some(0o700))),
            None => Err(not_empty(dir)?),
        };
    };
    // Of several processes that found the directory empty, one makes this file; the others find that it is there.
    match claimed.create_file(LOCK) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(not_empty(dir)?);
        }
        Err(error) => {
            let undone = match found {
                BeforeClaim::Nothing => claimed.remove(),
                BeforeClaim::EmptyDir { mode } => claimed.set_mode(mode),
            };
            if let Err(failure) = undone {
                stays_behind(&failure.into());
            }
            return Err(error.into());
        }
    }
    let lock = Session::take_lock(&claimed)?;
    let found_mode = match found {
        BeforeClaim::Nothing => None,
        BeforeClaim::EmptyDir { mode } => Some(mode),
    };
    Ok((claimed, lock, found_mode))
}

/// Clears a directory in which another process was killed before it had made a session: one that is this user's alone, with the lock, which
/// nobody holds, the mark that it is unfinished and the directory of manifests, without a description, and with nothing in it that no session makes. Fails with
/// [`SessionError::InUse`] if a process is at it.
fn clear_unfinished(dir: &Path) -> Result<Option<(OwnDir, FileLock)>, SessionError> {
    let opened = OwnDir::open(dir)?;
    let names = opened.names()?;
    let has = |name: &str| names.iter().any(|found| found == name);
    let is_unfinished = has(LOCK) && has(UNFINISHED) && !has(DESCRIPTION);
    let known = [LOCK, UNFINISHED, BASE, COMMITS, LAYERS, SCRATCH];
    // The description is written last, under another name.
    let is_known = |found: &str| known.contains(&found) || is_staged_name(found);
    let mut names = names.iter();
    if !is_unfinished || !names.all(|name| name.to_str().is_some_and(is_known)) {
        return Ok(None);
    }
    let lock = Session::take_lock(&opened)?;
    // The process that had the lock before may have made a session here, and ended.
    if opened.names()?.iter().any(|name| name == DESCRIPTION) {
        return Ok(None);
    }
    let mut unknown = Vec::new();
    let found = SurveyedDir::survey(opened.again()?, Layout::Session, &mut unknown)?;
    if !unknown.is_empty() || !opened.read(LOCK)?.is_empty() {
        return Ok(None);
    }
    found.delete(&[LOCK])?;
    Ok(Some((opened, lock)))
}

/// Removes a directory in which another process was killed before it had made a session, if it is one.
pub(crate) fn remove_unfinished(dir: &Path) -> Result<bool, SessionError> {
    let (dir, _lock) = match clear_unfinished(dir) {
        Ok(Some(cleared)) => cleared,
        Ok(None) | Err(SessionError::InUse(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    dir.remove_file(LOCK)?;
    dir.remove()?;
    Ok(true)
}

/// The error that no session can be made in a directory because of the files in it.
fn not_empty(dir: &Path) -> Result<SessionError, SessionError> {
    let opened = OwnDir::open(dir)?;
    let names = opened.names()?;
    if names.iter().any(|name| name == DESCRIPTION) {
        return Ok(SessionError::Exists(dir.to_owned()));
    }
    Ok(SessionError::NotEmpty {
        dir: dir.to_owned(),
        names: names
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::meta;
    use super::*;

    const MANIFEST: &[u8] = b"a manifest";

    fn keep(new: &mut NewSession, bytes: &[u8]) {
        let mut manifest = new.next_manifest().unwrap();
        manifest.write(bytes).unwrap();
        manifest.publish().unwrap();
    }

    /// What a process leaves that is killed while it copies a manifest, after another one. The file stays open, which Windows
    /// would not have removed.
    #[cfg(unix)]
    fn killed(place: &Path) -> String {
        let mut new = Session::begin(place).unwrap();
        keep(&mut new, MANIFEST);
        let mut half = new.next_manifest().unwrap();
        half.write(b"half of ano").unwrap();
        std::mem::forget(half);
        let made = new.made.take().unwrap();
        let staged = made.base.names().unwrap().remove(0);
        staged.into_string().unwrap()
    }

    #[test]
    fn manifests_are_mapped_before_and_after_it_is_a_session() {
        let temp = tempfile::tempdir().unwrap();
        let place = temp.path().join("place");
        let mut new = Session::begin(&place).unwrap();
        keep(&mut new, MANIFEST);
        assert_eq!(new.map_manifests().unwrap()[0].as_ref(), MANIFEST);
        drop(new.finish(meta()).unwrap());
        let mapped = Session::map_manifests(&place, &meta()).unwrap();
        assert_eq!(mapped[0].as_ref(), MANIFEST);
        drop(mapped);
        fs::write(place.join("base/0"), b"A manifest").unwrap();
        let error = Session::map_manifests(&place, &meta()).unwrap_err();
        assert!(matches!(error, SessionError::DamagedBase { .. }), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_session_that_is_not_finished_leaves_everything_as_it_was() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        let place = temp.path().join("place");
        for was_there in [false, true] {
            if was_there {
                fs::create_dir(&place).unwrap();
                fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
            }
            let mut new = Session::begin(&place).unwrap();
            keep(&mut new, MANIFEST);
            new.next_manifest().unwrap().write(b"half").unwrap();
            drop(new);
            assert_eq!(place.exists(), was_there);
        }
        let mode = fs::metadata(&place).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_manifest_that_was_not_copied_whole_is_none_and_its_place_can_be_taken_again() {
        let temp = tempfile::tempdir().unwrap();
        let place = temp.path().join("place");
        let staged = killed(&place);
        assert!(is_staged_name(&staged), "{staged}");
        assert!(!place.join("base/1").exists());
        let nothing = Session::open(&place).unwrap_err();
        assert!(matches!(nothing, SessionError::Missing(_)), "{nothing}");

        let session = Session::create(&place, meta(), &[MANIFEST.to_vec()]).unwrap();
        assert_eq!(session.manifests().unwrap(), [MANIFEST]);
        let names: Vec<_> = fs::read_dir(place.join("base")).unwrap().collect();
        assert_eq!(names.len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_place_whose_description_was_being_written_can_be_taken_again() {
        let temp = tempfile::tempdir().unwrap();
        let place = temp.path().join("place");
        killed(&place);
        let dir = OwnDir::open(&place).unwrap();
        dir.create_file(".staged-abcDEF123456").unwrap();
        assert!(is_staged_name(".staged-abcDEF123456"));
        Session::create(&place, meta(), &[MANIFEST.to_vec()]).unwrap();
        assert!(!place.join(".staged-abcDEF123456").exists());
    }

    #[cfg(unix)]
    #[test]
    fn what_was_made_of_a_session_is_removed_unless_somebody_makes_it() {
        let temp = tempfile::tempdir().unwrap();
        let place = temp.path().join("place");
        killed(&place);
        assert!(remove_unfinished(&place).unwrap());
        assert!(!place.exists());
        let being_made = Session::begin(&place).unwrap();
        assert!(!remove_unfinished(&place).unwrap());
        drop(being_made.finish(meta()).unwrap());
        assert!(!remove_unfinished(&place).unwrap());
        assert_eq!(Session::read_meta(&place).unwrap(), meta());
    }

    #[cfg(unix)]
    #[test]
    fn what_another_process_is_making_or_somebody_put_there_is_not_cleared() {
        let temp = tempfile::tempdir().unwrap();
        let place = temp.path().join("place");
        let is_refused = || match Session::begin(&place) {
            Err(SessionError::NotEmpty { .. }) => {}
            other => panic!("{other:?}"),
        };
        let other = Session::begin(&place).unwrap();
        let in_use = Session::begin(&place).unwrap_err();
        assert!(matches!(in_use, SessionError::InUse(_)), "{in_use}");
        assert!(place.join("base").exists());
        drop(other);
        for precious in ["base/notes", "notes", "layers/notes"] {
            killed(&place);
            let precious = place.join(precious);
            fs::create_dir_all(precious.parent().unwrap()).unwrap();
            fs::write(&precious, "precious").unwrap();
            is_refused();
            assert_eq!(fs::read(&precious).unwrap(), b"precious");
            assert!(place.join("base/0").exists());
            fs::remove_dir_all(&place).unwrap();
        }
        // Somebody's own files, which have the names of a session's.
        killed(&place);
        fs::remove_file(place.join(UNFINISHED)).unwrap();
        is_refused();
        assert!(place.join("base/0").exists());
    }
}
