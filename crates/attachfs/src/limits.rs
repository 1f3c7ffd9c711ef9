//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many files this process may have open, by the limit that it was started with.
#[derive(Debug, Clone, Copy)]
pub struct OpenFiles {
    given: Rlimit,
}

/// Lets this process open as many files as it is allowed to: each file that is open in a mount and was
/// written to is one of the process that serves it, and a transfer has files and connections in flight. Programs
/// that are started afterwards may too, but for those to which the limit
/// is given that this process had (`OpenFiles::as_given`).
pub fn raise_open_files() -> OpenFiles {
    let given = getrlimit(Resource::Nofile);
    if given.current != given.maximum {
        set(Rlimit {
            current: given.maximum,
            maximum: given.maximum,
        });
    }
    OpenFiles { given }
}

impl OpenFiles {
    /// Starts a program, which has the limit that this process was given.
    pub(crate) fn as_given<T>(&self, start: impl FnOnce() -> T) -> T {
        let raised = getrlimit(Resource::Nofile);
        set(self.given);
        let started = start();
        set(raised);
        started
    }
}

fn set(limit: Rlimit) {
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the number of open files stays what it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_that_may_be_open_can_be_opened_but_by_what_is_started_as_given() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit {
            current: Some(before.maximum.map_or(512, |maximum| maximum.min(512))),
            maximum: before.maximum,
        };
        setrlimit(Resource::Nofile, low).unwrap();
        let open_files = raise_open_files();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.current, before.maximum);
        assert_eq!(after.maximum, before.maximum);
        let started = open_files.as_given(|| getrlimit(Resource::Nofile));
        assert_eq!(started.current, low.current);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
