//! What can go wrong, each with the file it went wrong on.

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

/// A reason not to have a frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not a scene", path.display())]
    SceneSyntax {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{}: {reason}", path.display())]
    SceneMeaning { path: PathBuf, reason: String },
    #[error("cannot decode texture {}", path.display())]
    Decode {
        path: PathBuf,
        #[source]
        source: png::DecodingError,
    },
    #[error("cannot encode {}", path.display())]
    Encode {
        path: PathBuf,
        #[source]
        source: png::EncodingError,
    },
    #[error("frame {frame} was asked for, but the scene has {frames}")]
    NoSuchFrame { frame: u32, frames: u32 },
}

/// The error and what led to it, on one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
