//! The counts of a mount as plain text.

use std::time::Duration;

use attachfs::{OpenFileStats, OperationStats, PassthroughStats, StatsReport};
use indicatif::{HumanCount, HumanDuration};

use crate::output::{
    bytes, count, listed, not_cached, prefetched, read_by_kernel, shown, written_by_kernel,
};

/// Operations that are shown, if there were any: those that programs wait for.
const SHOWN: [&str; 9] = [
    "lookup",
    "getattr",
    "open",
    "read",
    "readdirplus",
    "create",
    "write",
    "fsync",
    "rename",
];

pub(super) fn of(report: &StatsReport) -> String {
    let age = Duration::from_millis(report.mounted_ms);
    // Whole seconds.
    let ago = HumanDuration(Duration::from_secs(age.as_secs()));
    let mut text = format!(
        "session    {}\nmounted    {} by process {}, {ago} ago\n",
        report.session,
        shown(&report.mount_point),
        report.pid
    );
    if let Some(metrics) = &report.metrics {
        text += &format!("metrics    {metrics}\n");
    }
    text += &traffic(report, age);
    text += &not_cached(report.cache.dropped_bytes);
    text += &prefetched(report.prefetch);
    text += &requests(report);
    let shown = |of: &&OperationStats| SHOWN.contains(&of.operation.as_str());
    text += &operations(report.operations.iter().filter(shown));
    text += &failures(report);
    text + &open_files(report)
}

fn traffic(report: &StatsReport, age: Duration) -> String {
    let sums = &report.bytes;
    let rate = sums.read as f64 / age.as_secs_f64().max(0.001);
    format!(
        "read       {}, {}/s since the mount\nwritten    {}\n\
         from       {} memory, {} disk cache, {} store; what is fetched ahead included\n",
        bytes(sums.read),
        bytes(rate as u64),
        bytes(sums.written),
        bytes(sums.from_memory),
        bytes(sums.from_disk),
        bytes(sums.from_store),
    ) + &passthrough(report)
}

/// Files that the kernel reads by itself.
fn passthrough(report: &StatsReport) -> String {
    if report.no_open {
        return "kernel     opens files by itself: only first reads are counted\n".to_owned();
    }
    let PassthroughStats {
        used,
        opens,
        scratch_opens,
        refused,
    } = report.passthrough;
    if !used && opens + scratch_opens + refused == 0 {
        return "kernel     reads no files of the cache by itself\n".to_owned();
    }
    let mut text = read_by_kernel(opens);
    if scratch_opens > 0 {
        text += &written_by_kernel(scratch_opens);
    }
    if refused > 0 {
        let refused = count(refused, "file");
        text += &format!("           {refused} that it did not take\n");
    }
    text
}

fn requests(report: &StatsReport) -> String {
    let requests = &report.requests;
    let made = requests.made.iter();
    let made: Vec<String> = made
        .map(|(kind, made)| format!("{} {kind}", HumanCount(*made)))
        .collect();
    let made = if made.is_empty() {
        "none".to_owned()
    } else {
        made.join(", ")
    };
    let mut text = format!("requests   {made}; {}\n", count(requests.retries, "retry"));
    if requests.first_byte.max_us > 0 {
        text += &format!(
            "answers    begin after {} (p50), {} (p99), {} at most\n",
            time(requests.first_byte.p50_us),
            time(requests.first_byte.p99_us),
            time(requests.first_byte.max_us)
        );
    }
    text + &format!(
        "fetches    {} under way, {} waiting\n",
        HumanCount(report.fetches.in_flight),
        HumanCount(report.fetches.waiting)
    )
}

fn operations<'a>(shown: impl Iterator<Item = &'a OperationStats>) -> String {
    let mut text = format!(
        "\n{:<12} {:>11} {:>9} {:>9} {:>9} {:>9}\n",
        "operation", "count", "failed", "p50", "p99", "max"
    );
    for of in shown {
        text += &format!(
            "{:<12} {:>11} {:>9} {:>9} {:>9} {:>9}\n",
            of.operation,
            HumanCount(of.count).to_string(),
            HumanCount(of.failed.values().sum()).to_string(),
            time(of.took.p50_us),
            time(of.took.p99_us),
            time(of.took.max_us)
        );
    }
    text
}

/// Failed operations by the kind of their error, and failed fetches.
fn failures(report: &StatsReport) -> String {
    let operations = report.operations.iter().flat_map(|of| {
        let failed = of.failed.iter();
        failed.map(|(kind, number)| {
            let kind = kind.replace('_', " ");
            format!("{} {}: {kind}", HumanCount(*number), of.operation)
        })
    });
    let requests = &report.requests;
    let fetches = [
        ("damaged", requests.damaged),
        ("missing", requests.missing),
        ("failed", requests.failed),
        ("timed out", requests.timed_out),
    ];
    let fetches = fetches.into_iter().filter(|(_, number)| *number > 0);
    let fetches = fetches.map(|(why, number)| format!("{} fetch: {why}", HumanCount(number)));
    let all: Vec<String> = operations.chain(fetches).collect();
    if all.is_empty() {
        return String::new();
    }
    format!("\nerrors     {}\n", all.join(", "))
}

fn open_files(report: &StatsReport) -> String {
    if report.open_file_count == 0 {
        return "\nopen       no files\n".to_owned();
    }
    let number = count(report.open_file_count, "file");
    let line = |file: &OpenFileStats| format!("           {}\n", open_file(file));
    format!("\nopen       {number}\n") + &listed(&report.open_files, line)
}

/// `textures/a.tex, to write, by render (33)`
pub(super) fn open_file(file: &OpenFileStats) -> String {
    let mut text = file.path.clone();
    if file.writers > 0 {
        text += ", to write";
    }
    let by: Vec<String> = file
        .processes
        .iter()
        .map(|process| format!("{} ({})", process.name.escape_debug(), process.pid))
        .collect();
    if by.is_empty() {
        text += ", by a process that cannot be seen";
    } else {
        text += ", by ";
        text += &by.join(", ");
    }
    text
}

/// A time in microseconds with three digits.
pub(super) fn time(micros: u64) -> String {
    let (number, unit) = match micros {
        0..1000 => return format!("{micros} µs"),
        1000..1_000_000 => (micros as f64 / 1e3, "ms"),
        _ => (micros as f64 / 1e6, "s"),
    };
    let digits = match number {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let shown = [7, 999, 1000, 12_345, 123_456, 1_500_000, 60_000_000].map(time);
        let expected = [
            "7 µs", "999 µs", "1.00 ms", "12.3 ms", "123 ms", "1.50 s", "60.0 s",
        ];
        assert_eq!(shown, expected);
    }
}
