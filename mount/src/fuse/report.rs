//! Failed operations, in the log: what was asked of which file, and the whole chain of causes.
//!
//! Every failure is told here. What they have in common is said in `about`: whoever writes the log
//! tells a failure of the same thing once, and counts the others.

use attachfs_vfs::{Blame, FsError, FsErrorKind, NodeId};
use tracing::Level;

use super::errno::level;
use crate::chain::chain;

/// Logs an error that has a cause; one without is the answer to what was asked.
pub(super) fn failed(operation: &'static str, node: NodeId, error: &FsError) {
    let level = level(error.kind());
    if !error.has_cause() || (level == Level::DEBUG && !tracing::enabled!(Level::DEBUG)) {
        return;
    }
    let (path, cause) = (error.path(), chain(error));
    let about = about(error);
    let about = about.as_deref();
    match level {
        Level::ERROR => tracing::error!(operation, inode = %node, path, about, "{cause}"),
        Level::WARN => tracing::warn!(operation, inode = %node, path, about, "{cause}"),
        _ => tracing::debug!(operation, inode = %node, path, about, "{cause}"),
    }
}

/// What failures of the same cause have in common; `None` if that is their path.
fn about(error: &FsError) -> Option<String> {
    match error.kind() {
        FsErrorKind::NoSpace => Some("space for what is written".to_owned()),
        FsErrorKind::TooManyOpenFiles => Some("open files".to_owned()),
        _ => error.blame().map(Blame::to_string),
    }
}

/// Logs a panic, which is a bug here; the caller was answered EIO.
pub(super) fn panicked(operation: &'static str, node: NodeId, panic: &(dyn std::any::Any + Send)) {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(operation, inode = %node, "the operation panicked: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_error_names_its_causes() {
        let inner = std::io::Error::other("the disk is gone");
        let error = FsError::io("read a scratch file", inner);
        assert_eq!(chain(&error), "read a scratch file: the disk is gone");
    }

    #[test]
    fn failures_of_one_cause_are_about_the_same_and_others_about_their_paths() {
        let of_object = |key: &str| {
            FsError::caused(FsErrorKind::Io, "read \"a\"", "it is missing")
                .blaming(Blame::Object(key.into()))
        };
        assert_eq!(about(&of_object("Data/1")), about(&of_object("Data/1")));
        assert_ne!(about(&of_object("Data/1")), about(&of_object("Data/2")));
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let writes = [
            FsError::io("write a scratch file", full()),
            FsError::io("create one", full()),
        ];
        assert!(about(&writes[0]).is_some());
        assert_eq!(about(&writes[0]), about(&writes[1]));
        let other = FsError::io("read a scratch file", std::io::Error::other("broken"));
        assert_eq!(about(&other), None);
    }
}
