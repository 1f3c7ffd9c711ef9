//! The ids that Deadline Cloud gives: a word and 32 hexadecimal digits, for parts of things a number as well.
//!
//! Their forms are those of the service's API reference.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the id of a {what}: that is {form}")]
pub struct ParseIdError {
    text: String,
    what: &'static str,
    form: &'static str,
}

fn is_hex(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A number as these ids have it: no sign, no leading zero, at most ten digits.
fn is_number(text: &str) -> bool {
    let digits = text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
    digits && (text == "0" || !(text.is_empty() || text.starts_with('0')))
}

fn is_numbered(text: &str) -> bool {
    text.split_once('-')
        .is_some_and(|(hex, number)| is_hex(hex) && is_number(number))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $start:literal, $form:literal, $is:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if text.strip_prefix($start).is_some_and($is) {
                    return Ok(Self(text.to_owned()));
                }
                Err(ParseIdError {
                    text: text.to_owned(),
                    what: $what,
                    form: $form,
                })
            }
        }
    };
}

id!(
    /// A farm: `farm-` and 32 digits.
    FarmId, "farm", "farm-", "farm- and 32 hexadecimal digits", is_hex
);
id!(
    /// A queue: `queue-` and 32 digits.
    QueueId, "queue", "queue-", "queue- and 32 hexadecimal digits", is_hex
);
id!(
    /// A job: `job-` and 32 digits.
    JobId, "job", "job-", "job- and 32 hexadecimal digits", is_hex
);
id!(
    /// A step: `step-` and 32 digits.
    StepId, "step", "step-", "step- and 32 hexadecimal digits", is_hex
);
id!(
    /// A task: `task-`, 32 digits and a number.
    TaskId, "task", "task-", "task-, 32 hexadecimal digits, - and a number", is_numbered
);
id!(
    /// A session action: `sessionaction-`, 32 digits and a number.
    SessionActionId,
    "session action",
    "sessionaction-",
    "sessionaction-, 32 hexadecimal digits, - and a number",
    is_numbered
);
id!(
    /// What tells one submission's input manifest of one root from others: a random UUID without dashes.
    SubmissionId, "submission", "", "32 hexadecimal digits", is_hex
);

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn an_id_has_its_own_form_and_no_other() {
        format!("farm-{HEX}").parse::<FarmId>().unwrap();
        format!("queue-{HEX}").parse::<QueueId>().unwrap();
        format!("task-{HEX}-0").parse::<TaskId>().unwrap();
        format!("sessionaction-{HEX}-12")
            .parse::<SessionActionId>()
            .unwrap();
        for bad in [
            HEX.to_owned(),
            format!("farm-{HEX}0"),
            format!("farm-{}", HEX.to_uppercase()),
            format!("queue-{HEX}"),
            format!("farm-{HEX}/.."),
        ] {
            bad.parse::<FarmId>().unwrap_err();
        }
        for bad in ["", "-", "-01", "--1", "-12345678901", "-1/x"] {
            format!("task-{HEX}{bad}").parse::<TaskId>().unwrap_err();
        }
    }
}
