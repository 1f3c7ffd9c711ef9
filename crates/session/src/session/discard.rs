//! Deleting a session: the files that its layout names, and nothing else.
//!
//! First everything is looked at, through directories that are held open. If the session holds one file that no
//! session makes, or one of another type than a session makes under that name, nothing is
//! deleted. No link is followed, and no name is deleted that was not looked at.

use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::{Kind, OwnDir, SOCKET_KIND, is_staged_name};
use attachfs_tree::Ino;

use super::SessionId;
use super::error::SessionError;
use super::layout::{
    BASE, COMMITS, CUT, DESCRIPTION, ENDING, JOURNAL, LAYERS, LOCK, LOG, MOUNT, RESERVE, SCRATCH,
    SOCKET, TAINTED, UNFINISHED, WORK, is_journal_aside, is_of_a_stack,
};

/// How many unknown names an error lists.
const LISTED: usize = 8;

/// A directory of a session, with the files in it that are to be deleted.
#[derive(Debug)]
pub(super) struct SurveyedDir {
    dir: OwnDir,
    files: Vec<String>,
    dirs: Vec<(String, SurveyedDir)>,
}

/// A directory that a session makes, which decides the names in it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    Session,
    Base,
    Layers,
    LayersAside,
    Commits,
    Work,
    Scratch,
    Aside,
}

/// The type of file that a session makes under a name.
#[derive(Debug, Clone, Copy)]
enum Known {
    File,
    Socket,
    Dir(Layout),
    /// Empty, or something is mounted there: only removing it tells.
    MountPoint,
}

impl Layout {
    fn known(self, name: &str) -> Option<Known> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let is_file = match self {
            Self::Session => match name {
                BASE => return Some(Known::Dir(Self::Base)),
                COMMITS => return Some(Known::Dir(Self::Commits)),
                LAYERS => return Some(Known::Dir(Self::Layers)),
                SCRATCH => return Some(Known::Dir(Self::Scratch)),
                MOUNT => return Some(Known::MountPoint),
                SOCKET => return Some(Known::Socket),
                DESCRIPTION | UNFINISHED | ENDING | LOCK | JOURNAL | RESERVE | LOG | TAINTED
                | CUT => true,
                // The log's older half.
                _ => name.strip_prefix("log.").is_some_and(is_number),
            },
            Self::Base => is_number(name),
            Self::Layers if name == OwnDir::ASIDE => {
                return Some(Known::Dir(Self::LayersAside));
            }
            Self::Layers => is_number(name) || is_of_a_stack(name),
            Self::LayersAside => {
                let is_known = |name: &str| is_number(name) || is_of_a_stack(name);
                let numbered = name.rsplit_once('.');
                let first = numbered.filter(|(_, number)| is_number(number));
                is_known(name) || first.is_some_and(|(first, _)| is_known(first))
            }
            Self::Commits => {
                if name == WORK {
                    return Some(Known::Dir(Self::Work));
                }
                let of = |ending| name.strip_suffix(ending).is_some_and(is_number);
                of(".manifest") || of(".total")
            }
            Self::Scratch if name == OwnDir::ASIDE => return Some(Known::Dir(Self::Aside)),
            Self::Work | Self::Scratch => is_of_an_inode(name),
            Self::Aside => {
                // A damaged journal, too.
                is_journal_aside(name)
                    || match name.split_once('.') {
                        Some((name, number)) => is_of_an_inode(name) && is_number(number),
                        None => is_of_an_inode(name),
                    }
            }
        };
        (is_file || is_staged_name(name)).then_some(Known::File)
    }
}

/// Whether a name is that of a scratch file.
fn is_of_an_inode(name: &str) -> bool {
    Ino::from_digits(name).is_some()
}

impl SurveyedDir {
    /// Looks at all that is in a directory, and below it. What no session makes is added to `unknown`.
    pub(super) fn survey(
        dir: OwnDir,
        layout: Layout,
        unknown: &mut Vec<PathBuf>,
    ) -> Result<Self, SessionError> {
        let (mut files, mut dirs) = (Vec::new(), Vec::new());
        for name in dir.names()? {
            let known = name
                .to_str()
                .and_then(|text| Some((text.to_owned(), layout.known(text)?)));
            let Some((text, known)) = known else {
                unknown.push(dir.path().join(name));
                continue;
            };
            if matches!(known, Known::MountPoint) {
                // Asking for its type may ask the process that serves the mount.
                continue;
            }
            match (known, dir.kind(&name)?) {
                (_, None) => {}
                (Known::File, Some(Kind::File)) | (Known::Socket, Some(SOCKET_KIND)) => {
                    files.push(text);
                }
                (Known::Dir(layout), Some(Kind::Dir)) => {
                    let below = Self::survey(dir.dir(&text)?, layout, unknown)?;
                    dirs.push((text, below));
                }
                _ => unknown.push(dir.path().join(name)),
            }
        }
        Ok(Self { dir, files, dirs })
    }

    /// Deletes what was found, but for the files in `last`.
    pub(super) fn delete(&self, last: &[&str]) -> Result<(), SessionError> {
        for (name, below) in &self.dirs {
            below.delete(&[])?;
            self.dir.remove_dir(name)?;
        }
        for name in &self.files {
            if !last.contains(&name.as_str()) {
                self.dir.remove_file(name)?;
            }
        }
        Ok(())
    }

    /// The directory.
    pub(super) fn dir(&self) -> &OwnDir {
        &self.dir
    }
}

/// Deletes a session whose scratch files may lie in a directory elsewhere, see [`Session::discard`](super::Session::discard).
pub(super) fn delete(
    dir: &OwnDir,
    elsewhere: Option<(&Path, &SessionId)>,
    found_mode: Option<u32>,
) -> Result<(), SessionError> {
    let mut unknown = Vec::new();
    let session = SurveyedDir::survey(dir.again()?, Layout::Session, &mut unknown)?;
    let elsewhere = match elsewhere {
        Some((place, id)) => match OwnDir::open(&place.join(id.as_str())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound || !place.is_dir() => None,
            dir => Some(SurveyedDir::survey(dir?, Layout::Scratch, &mut unknown)?),
        },
        None => None,
    };
    nothing(unknown, dir.path().to_owned())?;
    // It goes only if it is empty and nothing is mounted on it.
    session.dir().remove_dir(MOUNT)?;

    // From here on no process takes the remaining files for a session with changes in it.
    if let Err(error) = session.dir().publish(ENDING, b"") {
        // A full disk is no reason to keep a session whose deletion would make room.
        tracing::warn!(%error, "a session is deleted without a mark");
    }

    session.dir().remove_file(JOURNAL)?;
    if let Some(scratch) = elsewhere {
        scratch.delete(&[])?;
        scratch.dir().remove()?;
    }
    session.delete(&[DESCRIPTION, LOCK, ENDING])?;
    session.dir().remove_file(DESCRIPTION)?;
    session.dir().remove_file(LOCK)?;
    session.dir().remove_file(ENDING)?;
    match found_mode {
        Some(mode) => session.dir().set_mode(mode)?,
        None => session.dir().remove()?,
    }
    Ok(())
}

/// Fails if there is something that no session makes.
fn nothing(unknown: Vec<PathBuf>, dir: PathBuf) -> Result<(), SessionError> {
    if unknown.is_empty() {
        return Ok(());
    }
    Err(SessionError::Foreign {
        dir,
        more: unknown.len().saturating_sub(LISTED),
        names: unknown.into_iter().take(LISTED).collect(),
    })
}
