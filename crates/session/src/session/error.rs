//! Why a session cannot be made, used or deleted.

use std::path::PathBuf;

use attachfs_durable::DurableError;
use attachfs_manifest::ContentHash;

use super::layout::FORMAT;

/// How many names an error lists.
const LISTED: usize = 4;

/// Why a session's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Another process has the session.
    #[error("the session {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The directory for a new session is not empty.
    #[error(
        "{} is not empty ({}): a session is made only in a directory that is empty or not there yet; \
         name another one, or move away what is in it", dir.display(), listed(names)
    )]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// Some of the names in it.
        names: Vec<String>,
    },
    /// A directory of a session holds files that no session makes.
    #[error(
        "nothing was deleted: {} holds what attachfs did not make there: {}; move that away and \
         discard the session again", dir.display(), foreign(names, *more)
    )]
    Foreign {
        /// The session.
        dir: PathBuf,
        /// The first of these files.
        names: Vec<PathBuf>,
        /// How many more there are.
        more: usize,
    },
    /// The directory for a new session holds a session already.
    #[error("there is a session in {} already; commit or discard it, or name another directory", .0.display())]
    Exists(PathBuf),
    /// A process that was deleting the session was interrupted.
    #[error(
        "the session {} has ended, and its deletion was interrupted: nothing in it is needed any more, and `attachfs discard` \
         deletes the rest", .0.display()
    )]
    Ending(PathBuf),
    /// The directory holds no session.
    #[error("there is no session in {}", .0.display())]
    Missing(PathBuf),
    /// The description cannot be understood.
    #[error("the description of the session {} cannot be read", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The session was made by a program of another time.
    #[error(
        "the session {} has format {found}, this program reads {FORMAT}: commit or discard it with \
         the attachfs {} that made it", path.display(), program.as_deref().unwrap_or("version")
    )]
    Format {
        /// The session.
        path: PathBuf,
        /// The version in the description.
        found: u32,
        /// The version of the program that made it, if it says so.
        program: Option<String>,
    },
    /// A manifest of the session has been altered.
    #[error("the manifest {} of the session is damaged: its hash is {found}, not {expected}", path.display())]
    DamagedBase {
        /// The file.
        path: PathBuf,
        /// The hash in the description.
        expected: ContentHash,
        /// The hash of the bytes.
        found: ContentHash,
    },
    /// A manifest is to be added that nobody handed in.
    #[error("{} is no manifest that was handed in", .0.display())]
    NotHandedIn(PathBuf),
    /// A file of the session cannot be used: the operating system refused, or others could change the file.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

fn listed(names: &[String]) -> String {
    let mut text = names[..names.len().min(LISTED)].join(", ");
    if names.len() > LISTED {
        text += &format!(" and {} more", names.len() - LISTED);
    }
    text
}

fn foreign(names: &[PathBuf], more: usize) -> String {
    let names: Vec<_> = names
        .iter()
        .map(|name| name.display().to_string())
        .collect();
    let mut text = names.join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}
