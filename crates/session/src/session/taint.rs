//! What makes a session's outputs doubtful: its programs were given bytes that the store had wrong, or its journal was damaged and lost its end.

use std::io;

use attachfs_manifest::ContentHash;
use serde::{Deserialize, Serialize};

use super::error::SessionError;
use super::layout::{CUT, TAINTED};
use super::meta::hex;
use super::{LONGEST_DESCRIPTION, Session};

/// The most that are kept of one session; what comes then makes it no more doubtful.
const MOST: usize = 1000;

/// An object of which programs were given bytes before it was known to be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taint {
    /// The object.
    #[serde(with = "hex")]
    pub object: ContentHash,
    /// The hash of what the store had in its place.
    #[serde(with = "hex")]
    pub found: ContentHash,
    /// Files that it is part of, as messages name them; perhaps not all.
    pub files: Vec<String>,
}

impl Session {
    /// Notes, durably, that programs were given bytes of a wrong object. One thread at a time.
    pub fn taint(&self, taint: Taint) -> Result<(), SessionError> {
        let mut all = self.taints()?;
        if all.len() >= MOST || all.iter().any(|known| known.object == taint.object) {
            return Ok(());
        }
        all.push(taint);
        let bytes = serde_json::to_vec_pretty(&all).map_err(self.unreadable())?;
        Ok(self.dir.publish(TAINTED, &bytes)?)
    }

    /// The wrong objects of which programs were given bytes, in the order in which they were found.
    pub fn taints(&self) -> Result<Vec<Taint>, SessionError> {
        match self.dir.read_at_most(TAINTED, LONGEST_DESCRIPTION) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(self.unreadable()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes, durably, that the journal is about to lose its end.
    pub fn note_cut(&self) -> Result<(), SessionError> {
        Ok(self.dir.publish(CUT, b"")?)
    }

    /// Whether the journal lost its end, and nobody has accepted what is left.
    pub fn is_cut(&self) -> Result<bool, SessionError> {
        Ok(self.dir.kind(CUT.as_ref())?.is_some())
    }

    /// What is left was accepted.
    pub fn forget_cut(&self) -> Result<(), SessionError> {
        Ok(self.dir.remove_file(CUT)?)
    }

    fn unreadable(&self) -> impl Fn(serde_json::Error) -> SessionError {
        let path = self.dir().join(TAINTED);
        move |source| SessionError::Description {
            path: path.clone(),
            source,
        }
    }
}
