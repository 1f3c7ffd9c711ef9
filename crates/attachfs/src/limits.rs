//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process open as many files as it is allowed to: each file that is open in a mount and was
/// written to is one of the process that serves it. Programs that are started afterwards may too.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the number of open files stays limited");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_that_may_be_open_can_be_opened() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit {
            current: Some(before.maximum.map_or(512, |maximum| maximum.min(512))),
            maximum: before.maximum,
        };
        setrlimit(Resource::Nofile, low).unwrap();
        raise_open_files();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.current, before.maximum);
        assert_eq!(after.maximum, before.maximum);
    }
}
