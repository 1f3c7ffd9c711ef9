//! What can go wrong in a store, by what the caller can do about it.

use std::error::Error as StdError;

/// What a refusal is about, as far as the answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Whatever is asked: there are no credentials, or there is no such bucket.
    Everything,
    /// This operation on this object, or more.
    Unknown,
}

/// A store's failure. The text says what was being done, the source says why it failed.
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
        /// What else it refuses.
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
    /// The file that was being stored is not what it was when it was hashed.
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
    /// An option, a variable of the environment or a key of a configuration file that cannot be used. The store
    /// was asked for nothing.
    #[error("the settings cannot be used")]
    Setting {
        /// Which one, and what it has to be.
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
    /// Whether the same call may succeed later without anyone doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
