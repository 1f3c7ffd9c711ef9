//! Failures of a store, sorted by what the caller can do about them.

use std::error::Error as StdError;

/// How much a store refuses, as far as its answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every request: there are no credentials, or there is no such bucket.
    Everything,
    /// At least this operation on this object.
    Unknown,
}

/// A store's failure. The message says what was being done, its source says why it failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The object or manifest is not in the store.
    #[error("{what} is not in the store")]
    NotFound {
        /// The full key or path.
        what: String,
    },
    /// The store refused: credentials, permissions, a wrong bucket or owner. Trying again does not
    /// help; the text says what to check.
    #[error("the store refused {what}: {advice}")]
    Denied {
        /// The operation and its key.
        what: String,
        /// What to check.
        advice: String,
        /// How much it refuses.
        reach: Reach,
        /// The store's own answer.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The store could not be reached or did not finish in time, also after retries.
    #[error("the store could not be reached for {what}")]
    Unreachable {
        /// The operation and its key.
        what: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// No space left where the store writes.
    #[error("no space left in the store for {what}")]
    Full {
        /// The operation and its key.
        what: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The file that was being stored has changed since it was hashed.
    #[error("{what} changed while it was being stored")]
    SourceChanged {
        /// The file.
        what: String,
    },
    /// The source file could not be read.
    #[error("cannot read {what}")]
    Source {
        /// The file.
        what: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// An option, an environment variable or a key of a configuration file cannot be used. No request was made.
    #[error("the settings cannot be used")]
    Setting {
        /// Which setting, and what it has to be.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Any other failure.
    #[error("{what} failed")]
    Other {
        /// The operation and its key.
        what: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl StoreError {
    /// Whether the same call may succeed later by itself.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
