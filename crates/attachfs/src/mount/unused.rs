//! The session of a mount that may come to nothing.

use std::path::PathBuf;

use attachfs_session::{Session, SessionError};

/// The directory of a new session that nothing was written to yet. If nothing comes of it, it is deleted.
#[derive(Debug)]
pub(crate) struct Unused(pub(crate) Option<PathBuf>);

impl Drop for Unused {
    fn drop(&mut self) {
        let Some(dir) = &self.0 else {
            return;
        };
        match Session::open(dir).and_then(|session| session.discard()) {
            Ok(()) | Err(SessionError::Missing(_)) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an unused session stays behind"
            ),
        }
    }
}
