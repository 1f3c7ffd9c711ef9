//! The one account of every transfer: what there was, what was done, what went wrong.

use std::fmt;
use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

/// A number of things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// How long together.
    pub bytes: u64,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A file that was not transferred. The others were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The file, as text for people and JSON.
    pub path: String,
    /// Why, with all causes, in one line.
    pub error: String,
}

/// What a transfer did. Serialized with the names that the Python client's summaries have
/// (`deadline-job-attachments` 0.1.5, `SummaryStatistics`), and `errors`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Everything that was asked for. What is in neither of the next two failed, or was not come to.
    pub total: Tally,
    /// What was sent or fetched.
    pub processed: Tally,
    /// What was there already.
    pub skipped: Tally,
    /// How long it took.
    pub elapsed: Duration,
    /// What failed, in the order of paths.
    pub errors: Vec<Failed>,
}

impl Summary {
    /// Processed bytes a second; 0 if it took no time.
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 {
            self.processed.bytes as f64 / seconds
        } else {
            0.0
        }
    }

    /// Whether nothing failed.
    pub fn is_complete(&self) -> bool {
        self.errors.is_empty()
    }

    /// The account of several transfers that ran in the time of this one.
    pub fn add(&mut self, part: &Self) {
        self.total += part.total;
        self.processed += part.processed;
        self.skipped += part.skipped;
        self.errors.extend(part.errors.iter().cloned());
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_struct("Summary", 9)?;
        fields.serialize_field("total_time", &self.elapsed.as_secs_f64())?;
        fields.serialize_field("total_files", &self.total.count)?;
        fields.serialize_field("total_bytes", &self.total.bytes)?;
        fields.serialize_field("processed_files", &self.processed.count)?;
        fields.serialize_field("processed_bytes", &self.processed.bytes)?;
        fields.serialize_field("skipped_files", &self.skipped.count)?;
        fields.serialize_field("skipped_bytes", &self.skipped.bytes)?;
        fields.serialize_field("transfer_rate", &self.rate())?;
        fields.serialize_field("errors", &self.errors)?;
        fields.end()
    }
}

/// An error and its causes in one line. A cause that its error already tells is not told again.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        if !text.ends_with(&told) {
            let _ = fmt::Write::write_fmt(&mut text, format_args!(": {told}"));
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_names_of_the_python_clients() {
        let tally = |count, bytes| Tally { count, bytes };
        let summary = Summary {
            total: tally(4, 400),
            processed: tally(2, 300),
            skipped: tally(1, 50),
            elapsed: Duration::from_millis(1500),
            errors: vec![Failed {
                path: "a".into(),
                error: "no".into(),
            }],
        };
        assert_eq!(
            serde_json::to_value(&summary).unwrap(),
            serde_json::json!({
                "total_time": 1.5, "total_files": 4, "total_bytes": 400,
                "processed_files": 2, "processed_bytes": 300,
                "skipped_files": 1, "skipped_bytes": 50,
                "transfer_rate": 200.0,
                "errors": [{"path": "a", "error": "no"}],
            })
        );
    }

    #[test]
    fn a_summary_of_no_time_has_no_rate() {
        assert_eq!(Summary::default().rate().to_bits(), 0.0_f64.to_bits());
    }
}
