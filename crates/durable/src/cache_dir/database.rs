//! Databases in a cache directory: files that a library opens by name, with companions that it makes itself.

use std::path::{Path, PathBuf};

use crate::{DurableError, check_own_dir, check_own_file};

/// What SQLite keeps beside a database: its write-ahead log, the index of that, and its rollback journal.
const COMPANIONS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Fails if another user could say what is in a database. SQLite opens the file and its companions by name, so
/// nobody else may be able to put anything into the directory either, a link or a log of their own for
/// example. What is missing is trusted.
pub fn check_database(path: &Path) -> Result<(), DurableError> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        check_own_dir(dir)?;
    }
    COMPANIONS
        .iter()
        .try_for_each(|ending| check_own_file(&with_ending(path, ending)))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
