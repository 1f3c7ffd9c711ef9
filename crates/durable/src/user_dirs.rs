//! Where a platform keeps what programs remember for a user.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::platform;

/// A directory of one program for one user, found by environment variables.
#[derive(Debug, Clone, Copy)]
pub struct UserDir {
    /// Variables that name a directory, the first choice first, each with the place of this one below that directory.
    pub(crate) choices: &'static [(&'static str, &'static str)],
    /// Where it is for a user who has none of these, as services are.
    pub(crate) system: &'static str,
}

/// What must not be lost: sessions, and the lists of them.
pub const STATE_DIR: UserDir = platform::STATE_DIR;

/// What costs only time if it is lost.
pub const CACHE_DIR: UserDir = platform::CACHE_DIR;

/// What the user wants to keep: the embedded store.
pub const DATA_DIR: UserDir = platform::DATA_DIR;

impl UserDir {
    /// Its path, given what says which value a variable has. A value that is not an absolute path does not count.
    pub fn path(&self, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
        let mut choices = self.choices.iter();
        let chosen = choices.find_map(|(name, below)| {
            let named = PathBuf::from(variable(name)?);
            named.is_absolute().then(|| named.join(below))
        });
        chosen.unwrap_or_else(|| self.system.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_names_an_absolute_path_counts() {
        let here = std::env::temp_dir();
        for dir in [STATE_DIR, CACHE_DIR, DATA_DIR] {
            for (chosen, (name, below)) in dir.choices.iter().enumerate() {
                let path = dir.path(|asked| {
                    let at = dir.choices.iter().position(|(name, _)| *name == asked);
                    match at {
                        Some(at) if at == chosen => Some(here.clone().into()),
                        Some(at) if at < chosen => Some("relative".into()),
                        _ => Some("/never/asked".into()),
                    }
                });
                assert_eq!(path, here.join(below), "{name}");
            }
            let system = dir.path(|_| None);
            assert_eq!(system, PathBuf::from(dir.system));
            assert!(system.is_absolute());
        }
    }
}
