//! Options of `report`, and of the reports of `mount` and `run`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::paths::absolute;

/// Show what was used of a mount's inputs: files read and never read, names looked up in vain, what was fetched and saved.
///
/// Counted are first reads: what the kernel answers from its page cache, from names that it remembers, or from a local file never
/// reaches attachfs. A file that was opened counts as used: one that the kernel reads from the cache by itself is among those that
/// were only opened, unless it is mounted with --no-passthrough. What is saved is held against a download of everything that is
/// mounted: each object once, with one request. A mount writes the same when it ends with `mount --report`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  attachfs report /mnt/scene
  attachfs report --html scene.html /mnt/scene
  attachfs report --json --price-per-1000-gets 0.0004 --price-per-gb 0.09 /mnt/scene")]
pub(crate) struct Report {
    /// The mount point, a path in the mount, or the session's id (four digits of it will do) or directory.
    #[arg(value_name = "MOUNTPOINT|SESSION")]
    pub(crate) session: PathBuf,
    /// Write the report to this file, too, as one HTML page with charts that needs nothing else, in place of a report there; `-` is
    /// standard output, which has nothing else then.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) prices: Prices,
}

/// Prices for reports. Without any, no money is shown.
#[derive(Debug, Clone, Copy, ClapArgs)]
#[command(next_help_heading = "Reports")]
pub(crate) struct Prices {
    /// What 1,000 GET requests to the store cost, in any currency: the report says what was spent and saved.
    #[arg(
        long,
        value_name = "PRICE",
        env = "ATTACHFS_PRICE_PER_1000_GETS",
        value_parser = parse_price
    )]
    price_per_1000_gets: Option<f64>,
    /// What a GB (10^9 bytes) from the store costs.
    #[arg(long, value_name = "PRICE", env = "ATTACHFS_PRICE_PER_GB", value_parser = parse_price)]
    price_per_gb: Option<f64>,
}

/// Reports that are written at the end of a mount.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Reports")]
pub(crate) struct ReportFiles {
    /// When the mount ends, write to FILE what was used of its inputs: as JSON if its name ends in .json, as one HTML page if it
    /// ends in .html. May be given more than once. The file takes the place of another report, and of nothing else; if it cannot be written then, that
    /// is a warning. A mount in the background writes it for its own user alone. `attachfs report` shows the same while it is mounted.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Vec<PathBuf>,
    #[command(flatten)]
    prices: Prices,
}

impl From<Prices> for attachfs::Prices {
    fn from(said: Prices) -> Self {
        Self {
            per_1000_gets: said.price_per_1000_gets,
            per_gb: said.price_per_gb,
        }
    }
}

impl ReportFiles {
    /// What they mean, from this working directory.
    pub(crate) fn wanted(self) -> anyhow::Result<attachfs::Reports> {
        let files = self.report.into_iter().map(absolute);
        Ok(attachfs::Reports {
            files: files.collect::<anyhow::Result<_>>()?,
            prices: self.prices.into(),
        })
    }
}

/// In any currency: more is a slip, and sums of it would be no numbers.
const MOST: f64 = 1e6;

fn parse_price(text: &str) -> Result<f64, String> {
    let price = text.parse::<f64>().ok();
    let price = price.filter(|price| (0.0..=MOST).contains(price));
    price.ok_or_else(|| format!("not a price from 0 to {MOST}, such as 0.0004"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_price_is_refused() {
        for bad in ["-1", "inf", "NaN", "0,09", "cheap", "1e300", ""] {
            parse_price(bad).unwrap_err();
        }
        assert_eq!(parse_price("0.0004").map(|price| price * 1e4), Ok(4.0));
    }
}
