//! A list of jobs, as programs and people write one.

use attachfs_jobs::{JobsAddress, ParseJobAddressError};
use serde::Deserialize;

/// What a list says of a job: its address, or an object that has one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
    Address(String),
    Object { address: String },
}

/// Why a text is no list of jobs.
#[derive(Debug, thiserror::Error)]
pub enum JobListError {
    /// It is no text.
    #[error("the list of jobs is not UTF-8")]
    NotText(#[source] std::str::Utf8Error),
    /// It begins like JSON, and is no list of addresses.
    #[error("the list of jobs is no JSON list of addresses, or of objects that have an address")]
    Json(#[source] serde_json::Error),
    /// Something in it is no address.
    #[error("entry {number} of the list of jobs")]
    Address {
        /// Which, from 1 on; lines that say nothing do not count.
        number: usize,
        /// Why.
        #[source]
        source: ParseJobAddressError,
    },
}

/// Reads a list of jobs: a JSON list of addresses or of objects that have an `address`, or addresses, one a line. Empty lines, and those
/// that begin with `#`, say nothing.
pub fn parse_job_list(bytes: &[u8]) -> Result<Vec<JobsAddress>, JobListError> {
    let text = std::str::from_utf8(bytes).map_err(JobListError::NotText)?;
    let items: Vec<String> = if text.trim_start().starts_with('[') {
        let items: Vec<Item> = serde_json::from_str(text).map_err(JobListError::Json)?;
        let addresses = items.into_iter().map(|item| match item {
            Item::Address(address) | Item::Object { address } => address,
        });
        addresses.collect()
    } else {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let parsed = items.iter().enumerate().map(|(index, item)| {
        item.parse().map_err(|source| JobListError::Address {
            number: index + 1,
            source,
        })
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "deadline://farm-0123456789abcdef0123456789abcdef/queue-0123456789abcdef0123456789abcdef/job-0123456789abcdef0123456789abcdef";

    #[test]
    fn lists_of_lines_addresses_and_objects_are_read_and_faults_are_named() {
        let job: JobsAddress = JOB.parse().unwrap();
        for text in [
            format!("# the jobs\n\n  {JOB}\r\n{JOB}"),
            format!(" [\"{JOB}\", {{\"address\": \"{JOB}\", \"tasks\": 4}}]"),
        ] {
            let jobs = parse_job_list(text.as_bytes()).unwrap();
            assert_eq!(jobs, [job, job], "{text}");
        }
        assert_eq!(parse_job_list(b"").unwrap(), []);
        let error = parse_job_list(format!("{JOB}\n\nwhat").as_bytes()).unwrap_err();
        assert!(
            matches!(error, JobListError::Address { number: 2, .. }),
            "{error}"
        );
        let error = parse_job_list(b"[{\"job\": 1}]").unwrap_err();
        assert!(matches!(error, JobListError::Json(_)), "{error}");
        let error = parse_job_list(b"\xff").unwrap_err();
        assert!(matches!(error, JobListError::NotText(_)), "{error}");
    }
}
