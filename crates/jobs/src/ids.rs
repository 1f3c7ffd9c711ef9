//! The ids that Deadline Cloud gives: a word and 32 hexadecimal digits, for parts of things a number as well.
//!
//! Their forms are those of the service's API reference. They are held as numbers, so that a job of many thousand
//! tasks takes little memory, and printed as they were read.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the id of a {what}: that is {form}")]
pub struct ParseIdError {
    text: String,
    what: &'static str,
    form: &'static str,
}

/// 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Digits(u128);

impl Digits {
    fn read(text: &str) -> Option<Self> {
        let is_hex =
            text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// 32 digits, `-` and a number as these ids have it: no sign, no leading zero, at most ten digits. In the order of
/// numbers, which is not that of texts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Numbered {
    of: Digits,
    number: u64,
}

impl Numbered {
    fn read(text: &str) -> Option<Self> {
        let (of, number) = text.split_once('-')?;
        let is_number = number.len() <= 10 && number.bytes().all(|b| b.is_ascii_digit());
        if !is_number || (number.starts_with('0') && number != "0") {
            return None;
        }
        Some(Self {
            of: Digits::read(of)?,
            number: number.parse().ok()?,
        })
    }
}

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.of, self.number)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $start:literal, $form:literal, $inner:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($start, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let inner = text.strip_prefix($start).and_then($inner::read);
                inner.map(Self).ok_or_else(|| ParseIdError {
                    text: text.to_owned(),
                    what: $what,
                    form: $form,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

id!(
    /// A farm: `farm-` and 32 digits.
    FarmId, "farm", "farm-", "farm- and 32 hexadecimal digits", Digits
);
id!(
    /// A queue: `queue-` and 32 digits.
    QueueId, "queue", "queue-", "queue- and 32 hexadecimal digits", Digits
);
id!(
    /// A job: `job-` and 32 digits.
    JobId, "job", "job-", "job- and 32 hexadecimal digits", Digits
);
id!(
    /// A step: `step-` and 32 digits.
    StepId, "step", "step-", "step- and 32 hexadecimal digits", Digits
);
id!(
    /// A task: `task-`, 32 digits and a number.
    TaskId, "task", "task-", "task-, 32 hexadecimal digits, - and a number", Numbered
);
id!(
    /// A session action: `sessionaction-`, 32 digits and a number.
    SessionActionId,
    "session action",
    "sessionaction-",
    "sessionaction-, 32 hexadecimal digits, - and a number",
    Numbered
);
id!(
    /// A session: `session-` and 32 digits.
    SessionId, "session", "session-", "session- and 32 hexadecimal digits", Digits
);
id!(
    /// A storage profile: `sp-` and 32 digits.
    StorageProfileId, "storage profile", "sp-", "sp- and 32 hexadecimal digits", Digits
);
id!(
    /// What tells one submission's input manifest of one root from others: a random UUID without dashes.
    SubmissionId, "submission", "", "32 hexadecimal digits", Digits
);

impl TaskId {
    /// The number at its end: tasks of a step are counted from 0.
    pub fn number(&self) -> u64 {
        self.0.number
    }
}

impl SessionActionId {
    /// The session whose action it is: they have the same digits.
    pub fn session(&self) -> SessionId {
        SessionId(self.0.of)
    }

    /// The number at its end: actions of a session are counted from 0.
    pub fn number(&self) -> u64 {
        self.0.number
    }
}

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
            format!("farm-+{}", &HEX[1..]),
            format!("queue-{HEX}"),
            format!("farm-{HEX}/.."),
        ] {
            bad.parse::<FarmId>().unwrap_err();
        }
        for bad in ["", "-", "-01", "-00", "--1", "-+1", "-12345678901", "-1/x"] {
            format!("task-{HEX}{bad}").parse::<TaskId>().unwrap_err();
        }
    }

    #[test]
    fn an_id_is_printed_as_it_was_read() {
        for digits in [HEX, &"0".repeat(32), &"f".repeat(32)] {
            let farm = format!("farm-{digits}");
            assert_eq!(farm.parse::<FarmId>().unwrap().to_string(), farm);
            for number in ["0", "10", "9999999999"] {
                let task = format!("task-{digits}-{number}");
                assert_eq!(task.parse::<TaskId>().unwrap().to_string(), task);
            }
        }
        let text = format!("\"sp-{HEX}\"");
        let profile: StorageProfileId = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&profile).unwrap(), text);
        serde_json::from_str::<StorageProfileId>("\"sp-1\"").unwrap_err();
    }
}
