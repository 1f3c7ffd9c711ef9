//! Whether a directory is a safe place for objects: what is in a cache is served as a mount's bytes, so
//! nobody else may be able to put something there.

use std::path::{Path, PathBuf};

use crate::error::At as _;
use crate::{DurableError, Kind, Standing, create_private_dir};

const LOOKING: &str = "look at";

/// What a cache has at its top that nothing else is likely to have.
const OF_A_CACHE: [&str; 2] = [super::OBJECTS, super::HASHES];
/// What else a cache may have there, and what a file system puts into its root by itself.
const MAY_BE_THERE: [&str; 4] = ["index", "seen", "sync", "lost+found"];

/// Fails with [`CacheDirError::NotACache`] for a directory that has something in it and was never a cache. A directory
/// that cannot be read is no failure here: opening the cache reports it.
pub(super) fn require_cache(dir: &Path) -> Result<(), CacheDirError> {
    if OF_A_CACHE.iter().any(|name| dir.join(name).exists()) {
        return Ok(());
    }
    let Ok(names) = std::fs::read_dir(dir) else {
        return Ok(());
    };
    // Another process may be making a cache of it at this moment.
    let known = || OF_A_CACHE.iter().chain(&MAY_BE_THERE);
    let is_foreign = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        !known().any(|known| name == **known)
    };
    if names.flatten().any(is_foreign) {
        return Err(CacheDirError::NotACache(dir.to_owned()));
    }
    Ok(())
}

/// Why a directory cannot hold objects. Every text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CacheDirError {
    /// A symbolic link where a directory should be.
    #[error("the cache directory {} is a symbolic link; name the directory itself", .0.display())]
    Symlink(PathBuf),
    /// Something other than a directory.
    #[error("{} is not a directory; choose another place for the cache", .0.display())]
    NotADirectory(PathBuf),
    /// Files of somebody, and nothing of a cache.
    #[error("{} is not empty and is no cache; choose an empty directory for the cache, or one that does not exist", .0.display())]
    NotACache(PathBuf),
    /// Belongs to another user.
    #[error(
        "{} belongs to user {owner}, who could change the cache; choose a directory of your own",
        path.display()
    )]
    ForeignOwner {
        /// The cache's directory, or one above it.
        path: PathBuf,
        /// The user.
        owner: String,
    },
    /// Others may create, rename or delete in it.
    #[error(
        "others could change the cache: they may write to {} {writers}; \
         choose another directory if they have to",
        path.display()
    )]
    WritableByOthers {
        /// The cache's directory, or one above it.
        path: PathBuf,
        /// Who they are, and what can be done about it.
        writers: String,
    },
    /// The system refused.
    #[error(transparent)]
    Io(#[from] DurableError),
}

/// Creates `dir` (0700, also what is missing above it) if it is not there, and checks it.
pub(super) fn own(dir: &Path) -> Result<(), CacheDirError> {
    create_private_dir(dir)?;
    check(dir)
}

/// Checks that only this user and root can change what is in `dir`.
pub(super) fn check(dir: &Path) -> Result<(), CacheDirError> {
    let look = |path: &Path| Standing::at(path).at(LOOKING, path);
    let dir = std::path::absolute(dir).at(LOOKING, dir)?;

    let standing = look(&dir)?;
    if standing.kind() == Kind::Link {
        return Err(CacheDirError::Symlink(dir));
    }
    if standing.kind() != Kind::Dir {
        return Err(CacheDirError::NotADirectory(dir));
    }
    if !standing.is_mine() {
        return Err(CacheDirError::ForeignOwner {
            owner: standing.owner(),
            path: dir,
        });
    }
    check_writers(&dir, &standing)?;

    let Some(parent) = dir.parent() else {
        return Ok(());
    };
    // On the way there: a link of somebody else could be turned elsewhere.
    for above in parent.ancestors() {
        let standing = look(above)?;
        if standing.kind() == Kind::Link {
            check_owner(above, &standing)?;
        }
    }
    // The place itself: whoever can write to a directory can replace what is in it.
    let parent = parent.canonicalize().at(LOOKING, parent)?;
    for above in parent.ancestors() {
        let standing = look(above)?;
        check_owner(above, &standing)?;
        if !standing.keeps_names() {
            check_writers(above, &standing)?;
        }
    }
    Ok(())
}

fn check_owner(path: &Path, standing: &Standing) -> Result<(), CacheDirError> {
    if standing.is_mine() || standing.is_of_system() {
        return Ok(());
    }
    Err(CacheDirError::ForeignOwner {
        path: path.to_owned(),
        owner: standing.owner(),
    })
}

fn check_writers(path: &Path, standing: &Standing) -> Result<(), CacheDirError> {
    match standing.writers() {
        None => Ok(()),
        Some(writers) => Err(CacheDirError::WritableByOthers {
            path: path.to_owned(),
            writers: writers.to_owned(),
        }),
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use tempfile::TempDir;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_missing_place_is_made_for_its_owner_alone() {
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("a/b");
        own(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        own(&dir).unwrap();
    }

    #[test]
    fn a_directory_of_somebodys_files_is_no_cache_and_one_with_a_cache_in_it_is() {
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("dir");
        require_cache(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        require_cache(&dir).unwrap();
        fs::create_dir(dir.join("lost+found")).unwrap();
        require_cache(&dir).unwrap();
        fs::write(dir.join("scene.blend"), "of an artist").unwrap();
        let error = require_cache(&dir).unwrap_err();
        assert!(matches!(error, CacheDirError::NotACache(_)), "{error}");
        // What somebody put into a cache later is counted, and left alone.
        fs::create_dir(dir.join("v1")).unwrap();
        require_cache(&dir).unwrap();
    }

    #[test]
    fn a_link_is_refused() {
        let temp = TempDir::new().unwrap();
        fs::create_dir(temp.path().join("real")).unwrap();
        symlink("real", temp.path().join("link")).unwrap();
        let error = own(&temp.path().join("link")).unwrap_err();
        assert!(matches!(error, CacheDirError::Symlink(_)), "{error}");
    }

    #[test]
    fn a_file_is_refused() {
        let temp = TempDir::new().unwrap();
        fs::write(temp.path().join("file"), "").unwrap();
        assert!(own(&temp.path().join("file")).is_err());
    }

    #[test]
    fn a_place_that_others_may_write_to_is_refused() {
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("cache");
        own(&dir).unwrap();
        set_mode(&dir, 0o770);
        let error = own(&dir).unwrap_err();
        assert!(
            matches!(&error, CacheDirError::WritableByOthers { path, .. } if *path == dir),
            "{error}"
        );
    }

    #[test]
    fn a_parent_that_others_may_write_to_is_refused_unless_it_is_sticky() {
        let temp = TempDir::new().unwrap();
        let above = temp.path().join("above");
        own(&above.join("x/cache")).unwrap();
        set_mode(&above, 0o775);
        let error = own(&above.join("x/cache")).unwrap_err();
        assert!(error.to_string().contains("chmod go-w"), "{error}");
        set_mode(&above, 0o1777);
        own(&above.join("x/cache")).unwrap();
    }

    #[test]
    fn a_place_of_another_user_is_refused() {
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("cache");
        fs::create_dir(&dir).unwrap();
        // Only root can give a directory away.
        if std::os::unix::fs::chown(&dir, Some(12345), None).is_err() {
            return;
        }
        let error = own(&dir).unwrap_err();
        assert!(
            matches!(&error, CacheDirError::ForeignOwner { owner, .. } if owner == "12345"),
            "{error}"
        );
        let error = own(&dir.join("below")).unwrap_err();
        assert!(
            matches!(&error, CacheDirError::ForeignOwner { owner, .. } if owner == "12345"),
            "{error}"
        );
    }
}
