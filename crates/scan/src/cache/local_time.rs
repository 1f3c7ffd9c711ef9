//! A file's time as Python's client writes it: `str(datetime.fromtimestamp(st_mtime))`.
//!
//! The text depends on three roundings:
//!
//! ```text
//!     sec, nsec      --  sec + 1e-9 * nsec, a double      (Python 3, Modules/posixmodule.c, fill_time)
//!     double         --  whole seconds and microseconds,
//!                        halves to even                   (Python/pytime.c, _PyTime_DoubleToDenominator)
//!     microseconds   --  no fraction at all if it is 0    (datetime.isoformat)
//! ```
//!
//! The day and hour are those of the machine's time zone, without saying which.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The time zone that local times are in.
#[derive(Debug, Clone)]
pub struct LocalZone(TimeZone);

impl LocalZone {
    /// This machine's: `TZ` if it is set, else what `/etc/localtime` says, else UTC.
    pub fn system() -> Self {
        Self(TimeZone::system())
    }

    /// The zone of this name in the system's database, such as `Europe/Berlin`. `None` if it has none.
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// The text that Python makes of a file's modification time. `None` outside of the years 1 to
    /// 9999, where Python fails.
    pub(super) fn python_text(&self, mtime_ns: i128) -> Option<String> {
        let seconds = i64::try_from(mtime_ns.div_euclid(1_000_000_000)).ok()?;
        let nanoseconds = mtime_ns.rem_euclid(1_000_000_000) as u32;
        let (seconds, micros) = rounded(seconds as f64 + 1e-9 * f64::from(nanoseconds));
        let at = self.0.to_datetime(Timestamp::from_second(seconds).ok()?);
        if at.year() < 1 {
            return None;
        }
        let mut text = format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            at.year(),
            at.month(),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        );
        if micros != 0 {
            write!(text, ".{micros:06}").ok()?;
        }
        Some(text)
    }
}

/// A double of seconds as whole seconds and microseconds (0 to 999,999).
fn rounded(time: f64) -> (i64, u32) {
    const MICROS: f64 = 1_000_000.0;
    let mut whole = time.trunc();
    let mut micros = ((time - whole) * MICROS).round_ties_even();
    if micros >= MICROS {
        micros -= MICROS;
        whole += 1.0;
    } else if micros < 0.0 {
        micros += MICROS;
        whole -= 1.0;
    }
    (whole as i64, micros as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(zone: &str, mtime_ns: i128) -> String {
        LocalZone::named(zone)
            .unwrap()
            .python_text(mtime_ns)
            .unwrap()
    }

    #[test]
    fn the_hour_is_the_zones_and_summer_time_counts() {
        assert_eq!(
            text("Europe/Berlin", 1_700_000_000_123_456_789),
            "2023-11-14 23:13:20.123457"
        );
        assert_eq!(
            text("Europe/Berlin", 1_690_000_000_000_000_000),
            "2023-07-22 06:26:40"
        );
        assert_eq!(
            text("Asia/Kathmandu", 1_700_000_000_500_000_000),
            "2023-11-15 03:58:20.500000"
        );
    }

    #[test]
    fn times_before_1970_count_backwards_with_a_positive_fraction() {
        assert_eq!(text("UTC", -1_500_000_000), "1969-12-31 23:59:58.500000");
        assert_eq!(text("UTC", -1), "1970-01-01 00:00:00");
    }

    #[test]
    fn the_first_and_the_last_year_are_pythons() {
        let zone = LocalZone::named("UTC").unwrap();
        let second = 1_000_000_000;
        assert_eq!(
            zone.python_text(-62_135_596_800 * second).unwrap(),
            "0001-01-01 00:00:00"
        );
        assert_eq!(zone.python_text(-62_135_596_801 * second), None);
        assert_eq!(zone.python_text(i128::MAX), None);
    }
}
