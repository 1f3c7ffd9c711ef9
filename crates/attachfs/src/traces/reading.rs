//! Reading traces that somebody else may have written.

use std::io::{self, Read};
use std::path::Path;

use attachfs_durable::DurableError;
use attachfs_fetch::{LONGEST_TRACE, Trace, TraceError};
use attachfs_session::FailureClass;

use crate::error::Error;

/// A trace could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadTraceError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is longer than a trace.
    #[error("it is longer than a trace may be, {LONGEST_TRACE} bytes")]
    TooLong,
    /// It is no trace, or damaged.
    #[error("it is no whole trace")]
    Bad(#[from] TraceError),
    /// It cannot be trusted.
    #[error(transparent)]
    Own(#[from] DurableError),
}

/// Reads a trace to its end.
pub(super) fn read(from: impl Read) -> Result<Trace, ReadTraceError> {
    let mut bytes = Vec::new();
    from.take(LONGEST_TRACE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_TRACE {
        return Err(ReadTraceError::TooLong);
    }
    Ok(Trace::decode(&bytes)?)
}

/// Reads the trace that a person named. Never waits for the other end of a pipe.
pub(super) fn read_file(path: &Path) -> Result<Trace, Error> {
    let opened = path
        .canonicalize()
        .and_then(|path| attachfs_durable::open_file(&path));
    let trace = opened.map_err(ReadTraceError::from).and_then(read);
    trace.map_err(|error| {
        let sentence = format!("cannot use the trace {}", path.display());
        Error::new(FailureClass::Usage, sentence).because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_no_trace() {
        let error = read(io::repeat(0)).unwrap_err();
        assert!(matches!(error, ReadTraceError::TooLong), "{error}");
    }

    #[test]
    fn a_bad_trace_is_told_with_its_file_and_its_line() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("t");
        std::fs::write(&path, "attachfs trace 1\nmuch\n").unwrap();
        let error = read_file(&path).unwrap_err();
        assert!(
            error.to_string().contains(&*path.to_string_lossy()),
            "{error}"
        );
        let cause = error.cause::<TraceError>().unwrap();
        assert_eq!(cause.line, 2);
    }
}
