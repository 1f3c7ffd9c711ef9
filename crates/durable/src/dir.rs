//! Directories: created private or as shared as another one, with their names made durable.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::At as _;
use crate::steps::{Step, perform};
use crate::{DurableError, HeldDir, path_bytes, platform};

/// Who besides its owner may use what is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    pub(crate) dir_mode: u32,
}

impl Sharing {
    /// Nobody: directories 0700, files 0600.
    pub const PRIVATE: Self = Self { dir_mode: 0o700 };

    /// The same users as those of the directory `like`. They can read the files that are created
    /// with this; only the owner can write to them.
    pub fn of_dir(like: &Path) -> Result<Self, DurableError> {
        let dir_mode = platform::dir_mode(like).at("look at", like)? | 0o700;
        Ok(Self { dir_mode })
    }

    pub(crate) fn file_mode(self) -> u32 {
        0o600 | (self.dir_mode & 0o044)
    }
}

/// Creates a directory and its missing parents, for the owner only (0700), and makes their names
/// durable. One that exists already is accepted as it is.
pub fn create_private_dir(path: &Path) -> Result<(), DurableError> {
    create_dir(path, Sharing::PRIVATE)
}

/// Creates one directory for the owner only (0700). Fails with [`io::ErrorKind::AlreadyExists`] if anything has the
/// name. Not made durable: for directories that can be made again.
pub fn make_private_dir(path: &Path) -> Result<(), DurableError> {
    platform::create_dir(path, Sharing::PRIVATE.dir_mode).at("create the directory", path)
}

/// Makes a symbolic link at a free name. Windows has two kinds of links: what `target` is at the moment says which it
/// becomes, and not every user may make one.
pub fn create_link(at: &Path, target: &Path) -> io::Result<()> {
    let name = at.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let dir = HeldDir::open_following_links(parent_of(at))?;
    dir.create_link(name.as_encoded_bytes(), path_bytes(target))
}

/// Where the symbolic link at a path leads; `None` if there is anything else, or nothing.
pub fn read_link(path: &Path) -> io::Result<Option<PathBuf>> {
    match path.read_link() {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if platform::is_of_no_link(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`create_private_dir`], for more than the owner.
pub fn create_dir(path: &Path, sharing: Sharing) -> Result<(), DurableError> {
    const DOING: &str = "create the directory";
    let mut created = platform::create_dir(path, sharing.dir_mode);
    if let (Err(error), Some(parent)) = (&created, path.parent())
        && error.kind() == io::ErrorKind::NotFound
        && !parent.as_os_str().is_empty()
    {
        create_dir(parent, sharing)?;
        created = platform::create_dir(path, sharing.dir_mode);
    }
    match created {
        Ok(()) => sync_parent(path, Step::DirName),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(DurableError::new(DOING, path, error)),
    }
}

/// Makes the names in a directory durable: everything that was created, renamed or removed in it.
pub fn sync_dir(path: &Path, step: Step) -> Result<(), DurableError> {
    let synced = perform(step, || path.to_owned(), || platform::sync_dir(path));
    synced.at("sync the directory", path)
}

/// [`sync_dir`] for the directory that holds `path`.
pub(crate) fn sync_parent(path: &Path, step: Step) -> Result<(), DurableError> {
    sync_dir(parent_of(path), step)
}

/// The directory that holds `path`, as something that can be opened.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        crate::Facts::at(path).unwrap().mode & 0o777
    }

    #[test]
    fn a_private_directory_and_its_new_parents_are_for_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        create_private_dir(&path).unwrap();
        create_private_dir(&path).unwrap();
        for made in [path, dir.path().join("a")] {
            #[cfg(unix)]
            assert_eq!(mode(&made), 0o700);
            crate::check_own_dir(&made).unwrap();
        }
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        assert_eq!(create_private_dir(&path).unwrap_err().path, path);
        create_private_dir(&path.join("below")).unwrap_err();
    }

    #[test]
    fn only_a_link_leads_somewhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        for other in [dir.path(), &file, &dir.path().join("missing")] {
            assert_eq!(read_link(other).unwrap(), None, "{}", other.display());
        }
        // Wine makes no links.
        #[cfg(unix)]
        {
            create_link(&dir.path().join("l"), &file).unwrap();
            assert_eq!(read_link(&dir.path().join("l")).unwrap(), Some(file));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_can_be_shared_like_another_one() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let sharing = Sharing::of_dir(dir.path()).unwrap();
        create_dir(&dir.path().join("d"), sharing).unwrap();
        assert_eq!(mode(&dir.path().join("d")), 0o750);
        assert_eq!(sharing.file_mode(), 0o640);
        assert_eq!(Sharing::PRIVATE.file_mode(), 0o600);
    }
}
