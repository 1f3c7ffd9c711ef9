//! Why a use case failed.
//!
//! ```text
//!     store.get_manifest(key).await.doing(|| format!("cannot fetch the manifest {address}"))?;
//!
//!     cannot fetch the manifest s3://bucket/..          the sentence: what was not done, to what, where
//!     cannot read s3://bucket/..                        its source, and so on down to
//!     connection refused                                the error of the operating system
//! ```
//!
//! The [class](Error::class) says what the caller can do about it, and comes from the cause. [Advice](Error::advice) is
//! kept beside the sentence, because it belongs at the end of what a person reads, behind the causes. Where
//! a caller wants to know more than the class, it asks for the cause by its type ([`Error::cause`]).

mod class;
#[cfg(test)]
mod tests;

use std::error::Error as StdError;
use std::fmt;

use attachfs_session::{Failure, FailureClass};
use attachfs_transfer::{Summary, TransferError};

pub(crate) use self::class::{Classified, classified, not_told, would_stop};

/// A failed use case.
pub struct Error(Box<Parts>);

type Cause = Box<dyn StdError + Send + Sync>;

#[derive(Debug)]
struct Parts {
    class: FailureClass,
    sentence: Sentence,
    advice: Option<String>,
}

#[derive(Debug)]
enum Sentence {
    /// Our own, and why.
    Own(String, Option<Cause>),
    /// That of the cause, which says all that there is to say.
    Of(Cause),
}

impl Error {
    /// A failure of a class, in one sentence without a full stop: what was not done, to what, and where that is.
    pub fn new(class: FailureClass, sentence: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            class,
            sentence: Sentence::Own(sentence.into(), None),
            advice: None,
        }))
    }

    /// The request itself is wrong.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::new(FailureClass::Usage, sentence)
    }

    /// An error of a library whose own sentence names the action and the file.
    pub(crate) fn of(class: FailureClass, cause: impl StdError + Send + Sync + 'static) -> Self {
        Self(Box::new(Parts {
            class,
            sentence: Sentence::Of(Box::new(cause)),
            advice: None,
        }))
    }

    /// With its cause.
    #[must_use]
    pub fn because(mut self, cause: impl StdError + Send + Sync + 'static) -> Self {
        let sentence = self.to_string();
        self.0.sentence = Sentence::Own(sentence, Some(Box::new(cause)));
        self
    }

    /// With what its user can do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// What can be done about it, as scripts tell it apart.
    pub fn class(&self) -> FailureClass {
        self.0.class
    }

    /// What its user can do about it, if there is something to say: half a sentence without a full stop, to be read
    /// after the error and its causes.
    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }

    /// The first error of this type among its causes, such as [`std::io::Error`].
    pub fn cause<T: StdError + 'static>(&self) -> Option<&T> {
        let first: Option<&(dyn StdError + 'static)> = match &self.0.sentence {
            Sentence::Own(_, cause) => cause.as_deref().map(|cause| cause as _),
            Sentence::Of(cause) => Some(&**cause),
        };
        std::iter::successors(first, |&cause| cause.source()).find_map(|cause| {
            let nested = cause
                .downcast_ref::<Self>()
                .and_then(|error| error.cause::<T>());
            cause.downcast_ref().or(nested)
        })
    }

    /// The account of an upload that stored some files and not all.
    pub fn unfinished(&self) -> Option<&Summary> {
        match self.cause::<TransferError>() {
            Some(TransferError::Unfinished(summary)) => Some(summary),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.sentence {
            Sentence::Own(sentence, _) => f.write_str(sentence),
            Sentence::Of(cause) => cause.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.sentence {
            Sentence::Own(_, cause) => cause.as_deref().map(|cause| cause as _),
            Sentence::Of(cause) => cause.source(),
        }
    }
}

/// Says what was being done when something failed.
pub(crate) trait Doing<T> {
    /// The failure as an [`Error`] of its own class, with this sentence: `cannot ...`, with a name and a place.
    fn doing(self, sentence: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Classified> Doing<T> for Result<T, E> {
    fn doing(self, sentence: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::new(error.class(), sentence()).because(error))
    }
}

/// The failure as it travels to another process.
impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            advice: error.0.advice.clone(),
            ..Self::new(error.class(), error)
        }
    }
}

/// The failure of another process, with the causes that it had there.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let Failure {
            class,
            text,
            causes,
            advice,
            details: _,
        } = failure;
        let cause = causes.into_iter().rev().fold(None, |source, text| {
            let source = source.map(Box::new);
            Some(ReportedCause { text, source })
        });
        let mut error = Self::new(class, text);
        if let Some(cause) = cause {
            error = error.because(cause);
        }
        error.0.advice = advice;
        error
    }
}

/// A cause that another process told as text.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct ReportedCause {
    text: String,
    source: Option<Box<ReportedCause>>,
}
