//! The figures as a table in Markdown, ready for `docs/benchmarks.md`.

use super::harness::{Measured, Verdict};

const HEAD: &str = "\
| work | compared with | ours, s | other, s | ratio (least to most) | bar | peak memory, MiB |
|---|---|---|---|---|---|---|
";

/// A ratio below 1 means that ours took less time.
pub(super) fn markdown(results: &[Measured]) -> String {
    HEAD.to_owned() + &results.iter().map(line).collect::<String>()
}

fn line(result: &Measured) -> String {
    let bar = result.bar.map_or("-".to_owned(), |bar| {
        format!("{bar:.2} {}", word(result.verdict()))
    });
    format!(
        "| {} | {} | {:.3} | {:.3} | {:.2} ({:.2} to {:.2}) | {bar} | {:.1} |\n",
        result.name,
        result.compared,
        result.ours,
        result.other,
        result.ratio.median,
        result.ratio.least,
        result.ratio.most,
        result.peak as f64 / f64::from(1 << 20),
    )
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
    use crate::bench::harness::Spread;

    #[test]
    fn a_row_shows_figures_spread_and_verdict() {
        let table = markdown(&[Measured {
            name: "cold read".to_owned(),
            compared: "local disk".to_owned(),
            ours: 1.5,
            other: 1.0,
            peak: 3 << 20,
            ratio: Spread {
                median: 1.5,
                least: 1.25,
                most: 1.75,
            },
            bar: Some(1.2),
        }]);
        assert_eq!(
            table.lines().last().unwrap(),
            "| cold read | local disk | 1.500 | 1.000 | 1.50 (1.25 to 1.75) | 1.20 MISSED | 3.0 |"
        );
    }
}
