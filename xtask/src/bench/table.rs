//! The figures as a table in Markdown, ready for `docs/benchmarks.md`.

use super::harness::{Amount, Measured, Verdict};

const HEAD: &str = "\
| work | compared with | ours, s | other, s | ratio (least to most) | bar | memory, MiB | other's | bar |
|---|---|---|---|---|---|---|---|---|
";

/// A ratio below 1 means that ours took less time.
pub(super) fn markdown(results: &[Measured]) -> String {
    HEAD.to_owned() + &results.iter().map(line).collect::<String>()
}

/// A row of the table.
pub(super) fn line(result: &Measured) -> String {
    let bar = result.bar.map_or("-".to_owned(), |bar| {
        format!("{} {}", ratio(bar), word(result.time_verdict()))
    });
    let amount = result.memory.amount;
    let memory_bar = result.memory.bar.map_or("-".to_owned(), |bar| {
        let shown = memory(bar as f64, amount);
        format!("{shown} {}", word(result.memory_verdict()))
    });
    format!(
        "| {} | {} | {} | {} | {} ({} to {}) | {bar} | {}{} | {} | {memory_bar} |\n",
        result.name,
        result.compared,
        seconds(result.ours),
        seconds(result.other),
        ratio(result.ratio.median),
        ratio(result.ratio.least),
        ratio(result.ratio.most),
        memory(result.our_memory.most, amount),
        of_what(amount),
        memory(result.other_memory.most, amount),
    )
}

/// What takes less than a few milliseconds needs more digits.
fn seconds(seconds: f64) -> String {
    let digits = if seconds < 0.01 { 6 } else { 3 };
    format!("{seconds:.digits$}")
}

/// At least two digits that say something.
fn ratio(ratio: f64) -> String {
    let digits = match ratio {
        0.1.. => 2,
        0.01.. => 3,
        _ => 5,
    };
    format!("{ratio:.digits$}")
}

fn memory(bytes: f64, amount: Amount) -> String {
    match amount {
        Amount::Peak | Amount::OverText | Amount::Sent => {
            format!("{:.1}", bytes / f64::from(1 << 20))
        }
        Amount::EachEntry => format!("{bytes:.0} B"),
    }
}

/// The column's head says the rest.
fn of_what(amount: Amount) -> &'static str {
    match amount {
        Amount::Peak => "",
        Amount::OverText => " over the text",
        Amount::EachEntry => " kept an entry",
        Amount::Sent => " sent",
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NoBar => "",
        Verdict::Held => "held",
        Verdict::WithinSpread => "within its spread",
        Verdict::Missed => "MISSED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::harness::{Memory, Spread};

    const MIB: f64 = 1_048_576.0;

    fn even(figure: f64) -> Spread {
        Spread {
            median: figure,
            least: figure,
            most: figure,
        }
    }

    fn last_line(amount: Amount, bar: Option<u64>) -> String {
        let table = markdown(&[Measured {
            name: "cold read".to_owned(),
            compared: "local disk".to_owned(),
            ours: 1.5,
            other: 1.0,
            ratio: Spread {
                median: 1.5,
                least: 1.25,
                most: 1.75,
            },
            bar: Some(1.2),
            our_memory: even(3.0 * MIB),
            other_memory: even(MIB),
            memory: Memory { amount, bar },
        }]);
        table.lines().last().unwrap().to_owned()
    }

    #[test]
    fn a_row_shows_figures_spread_and_verdict() {
        assert_eq!(
            last_line(Amount::Peak, None),
            "| cold read | local disk | 1.500 | 1.000 | 1.50 (1.25 to 1.75) | 1.20 MISSED | 3.0 | 1.0 | - |"
        );
    }

    #[test]
    fn memory_has_a_verdict_of_its_own() {
        let line = last_line(Amount::OverText, Some(3 << 20));
        assert!(
            line.ends_with("| 1.20 MISSED | 3.0 over the text | 1.0 | 3.0 held |"),
            "{line}"
        );
        let line = last_line(Amount::EachEntry, Some(100));
        assert!(
            line.ends_with("| 3145728 B kept an entry | 1048576 B | 100 B MISSED |"),
            "{line}"
        );
    }

    #[test]
    fn a_ratio_near_nothing_keeps_two_digits() {
        assert_eq!(
            [1.5, 0.25, 0.0833, 0.0042].map(ratio),
            ["1.50", "0.25", "0.083", "0.00420"]
        );
    }
}
