//! Times from which on something counts.

use std::time::SystemTime;

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};

/// A date or a time, or an age.
pub(crate) fn parse_since(text: &str) -> Result<SystemTime, String> {
    since(text, &ZonedDateTime::now())
}

fn since(text: &str, now: &ZonedDateTime) -> Result<SystemTime, String> {
    const WRONG: &str = "neither a date or time, such as 2025-01-31 or 2025-01-31T12:00:00Z, nor an age, such as 2d or 12h";
    let in_zone = |time: civil::DateTime| {
        let zone: TimeZone = now.time_zone().clone();
        time.to_zoned_datetime(zone).map(|time| time.timestamp())
    };
    let found = text
        .parse::<Timestamp>()
        .or_else(|_| in_zone(text.parse::<civil::DateTime>()?))
        .or_else(|_| {
            let age: Span = text.parse()?;
            now.checked_sub(age.abs()).map(|then| then.timestamp())
        });
    let found = found.and_then(SystemTime::try_from);
    found.map_err(|_| WRONG.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_in_a_zone_or_an_age() {
        let now: ZonedDateTime = "2025-03-31T12:00:00+02:00[+02:00]".parse().unwrap();
        for (text, means) in [
            ("2025-01-31", "2025-01-30T22:00:00Z"),
            ("2025-01-31T12:00", "2025-01-31T10:00:00Z"),
            ("2025-01-31T12:00:00Z", "2025-01-31T12:00:00Z"),
            ("2025-01-31T12:00:00-05:00", "2025-01-31T17:00:00Z"),
            ("2d", "2025-03-29T10:00:00Z"),
            ("1h30m", "2025-03-31T08:30:00Z"),
        ] {
            let means: Timestamp = means.parse().unwrap();
            assert_eq!(since(text, &now), Ok(means.try_into().unwrap()), "{text}");
        }
        for wrong in ["", "soon", "2025-13-01", "12", "9999999y"] {
            since(wrong, &now).unwrap_err();
        }
    }
}
