//! `report`.

use std::time::Duration;

use attachfs::{
    CancellationToken, MissingFile, Money, ReadFile, UnreadFile, UseReport, WrittenReport,
};
use indicatif::{HumanCount, HumanDuration};

use super::committing::is_piped;
use super::stores::require_used;
use crate::args::Globals;
use crate::args::report::Report;
use crate::exit::Failure;
use crate::output::{self, bytes, count, remark};
use crate::places::places;

/// Lines of each list: all of them together fit a terminal.
const SHOWN: usize = 8;

pub(super) async fn report(globals: &Globals, args: Report) -> Result<(), Failure> {
    let found = attachfs::find(&places(), &args.session)?;
    require_used(globals, &found).await?;
    let is_piped = is_piped(args.html.as_deref());
    let file = args.html.filter(|_| !is_piped);
    if let Some(file) = &file {
        attachfs::check_place_of_page(file)?;
    }
    let mut report = attachfs::report(&found, &CancellationToken::new()).await?;
    report.price(args.prices.into());
    if is_piped {
        return Ok(output::print(&attachfs::report_page(&report))?);
    }
    if let Some(file) = &file {
        attachfs::check_page_is_elsewhere(file, &report)?;
        attachfs::write_report_page(file, &report)?;
    }
    if globals.json {
        return Ok(output::print_json(&report)?);
    }
    let mut text = text(&report);
    if let Some(file) = &file {
        text += &format!("\nwritten    {}\n", output::shown(file));
    }
    Ok(output::print(&text)?)
}

/// Says that a report was written, or remarks that it was not.
pub(super) fn written(reports: &[WrittenReport]) -> String {
    let mut text = String::new();
    for report in reports {
        let file = output::shown(&report.file);
        match &report.failure {
            None => text += &format!("report     {file}\n"),
            Some(why) => remark(&format!("the report {file} was not written: {why}")),
        }
    }
    text
}

fn text(report: &UseReport) -> String {
    let sums = &report.inputs;
    // Whole seconds.
    let ago = HumanDuration(Duration::from_secs(report.mounted_ms / 1000));
    let mut text = format!(
        "session    {}\nmounted    {}, {ago} ago\n",
        report.session,
        output::shown(&report.mount_point)
    );
    text += &format!(
        "inputs     {} of {} used; {} never read, {}\n",
        HumanCount(sums.used_files),
        count(sums.shown.files, "file"),
        HumanCount(sums.never_read.files),
        bytes(sums.never_read.bytes)
    );
    text += &format!(
        "read       {} of {}; {} not verified\n",
        bytes(sums.bytes_read),
        bytes(sums.shown.bytes),
        bytes(sums.bytes_unverified)
    );
    text += &format!(
        "from       {} memory, {} disk cache, {} store; what is fetched ahead included\n",
        bytes(report.bytes.from_memory),
        bytes(report.bytes.from_disk),
        bytes(report.bytes.from_store)
    );
    text += &failures(report);
    text += &cost(report);
    text += &listing("most read", &report.read, sums.used_files, read_file);
    let never_read = &report.never_read;
    text += &listing("never read", never_read, sums.never_read.files, unread_file);
    let missing = &report.missing;
    text += &listing("missing", &missing.listed, missing.names, missing_file);
    text + "\nfirst reads are counted: what the kernel answers by itself is not seen\n"
}

/// Reads that failed, and objects that were to blame. Nothing if all went well.
fn failures(report: &UseReport) -> String {
    let (reads, requests) = (report.reads_failed, &report.requests);
    let mut what = Vec::new();
    if reads > 0 {
        what.push(count(reads, "read"));
    }
    for (times, found) in [
        (requests.missing, "an object was missing"),
        (requests.damaged, "an object was damaged"),
    ] {
        if times > 0 {
            what.push(format!("{found} {}", count(times, "time")));
        }
    }
    if what.is_empty() {
        return String::new();
    }
    format!("failed     {}\n", what.join("; "))
}

/// What was fetched, and what that saved.
fn cost(report: &UseReport) -> String {
    let (fetched, full, saved) = (report.fetched, report.full_download, report.saved);
    let mut text = format!(
        "fetched    {} in {}; a full download: {} in {}\n",
        bytes(fetched.bytes),
        count(fetched.requests, "request"),
        bytes(full.bytes),
        count(full.requests, "request")
    );
    // More requests than a full download are usual where only parts of objects are read.
    let more = |saved: i64| if saved < 0 { " more than that" } else { "" };
    text += &format!(
        "saved      {}{}, {}{}\n",
        bytes(saved.bytes.unsigned_abs()),
        more(saved.bytes),
        count(saved.requests.unsigned_abs(), "request"),
        more(saved.requests)
    );
    if let Some(Money {
        spent,
        full_download,
        saved,
        ..
    }) = report.money
    {
        text += &format!(
            "money      {spent:.6} spent; a full download: {full_download:.6}, saved {saved:.6}\n"
        );
    }
    text
}

fn listing<T>(name: &str, list: &[T], all: u64, line: impl Fn(&T) -> String) -> String {
    if list.is_empty() {
        return String::new();
    }
    let lines: String = list.iter().take(SHOWN).map(line).collect();
    let more = all.saturating_sub(list.len().min(SHOWN) as u64);
    let more = match more {
        0 => String::new(),
        more => format!(
            "{:>12}and {} more; --json has up to 2,000\n",
            "",
            HumanCount(more)
        ),
    };
    format!("\n{name:<10} {}\n{lines}{more}", HumanCount(all))
}

fn read_file(file: &ReadFile) -> String {
    let part = match (file.bytes_asked, file.bytes_read) {
        (0, _) if file.size > 0 => "only opened".to_owned(),
        (1.., 0) => "failed".to_owned(),
        (_, read) => bytes(read),
    };
    format!("{part:>12} of {:>10}  {}\n", bytes(file.size), file.path)
}

fn unread_file(file: &UnreadFile) -> String {
    format!("{:>12}  {}\n", bytes(file.size), file.path)
}

fn missing_file(file: &MissingFile) -> String {
    let by = file.process.as_ref();
    let by = by.map(|by| format!(", by {} ({})", by.name.escape_debug(), by.pid));
    let times = HumanCount(file.lookups).to_string();
    format!("{times:>11}x  {}{}\n", file.path, by.unwrap_or_default())
}
