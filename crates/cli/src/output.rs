//! Standard output: sentences for people, one JSON object for programs.

mod amounts;
mod commits;

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use attachfs::{
    Counters, EndedSession, Ending, EscapedBytes, Fetched, LastError, PrefetchStats,
    SnapshotReport, StatusReport, Summary, Tally,
};
use indicatif::HumanDuration;
use serde::Serialize;

pub(crate) use self::amounts::{bytes, count};
use self::amounts::{sent_early, there_already};
pub(crate) use self::commits::{commit, how_to_commit, rehearsal, shown_changes};

/// Writes to standard output. A reader that has gone away is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Writes to standard error, where standard output has something else.
pub(crate) fn print_beside(text: &str) -> anyhow::Result<()> {
    match std::io::stderr().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard error"),
    }
}

/// A path of the command line, of a mount or of a session, safe to show on a terminal.
pub(crate) fn shown(path: &Path) -> impl Display {
    line_of(&path.to_string_lossy())
}

/// A text that has names from outside in it as one line that is safe to show: control characters and characters that change the
/// direction of text are escaped. A backslash stays what it is, on Windows it is in every path.
pub(crate) fn line_of(text: &str) -> String {
    let parts: Vec<String> = text
        .split('\\')
        .map(|part| EscapedBytes(part.as_bytes()).to_string())
        .collect();
    parts.join("\\")
}

/// Prints a remark that is no failure, as one line.
pub(crate) fn remark(text: &str) {
    // Nobody reads it where it cannot be written.
    let _ = writeln!(std::io::stderr(), "attachfs: {}", line_of(text));
}

/// Prints each line as a remark.
pub(crate) fn remark_lines(text: &str) {
    for line in text.lines() {
        remark(line);
    }
}

/// One JSON object on one line.
pub(crate) fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string(value)?))
}

/// The first of a list, a line each, and how many more there are.
pub(crate) fn listed<T>(all: &[T], line: impl Fn(&T) -> String) -> String {
    const SHOWN: usize = 20;
    let mut text: String = all.iter().take(SHOWN).map(line).collect();
    if let Some(more @ 1..) = all.len().checked_sub(SHOWN) {
        text += &format!("           and {more} more; --json lists them\n");
    }
    text
}

/// A transfer's account: the files that are done (`fetched`, `uploaded`), and those that failed.
pub(crate) fn summary(done: &str, summary: &Summary) -> String {
    let tally = |tally: Tally| format!("{}, {}", count(tally.count, "file"), bytes(tally.bytes));
    let mut text = format!(
        "{done:<10} {} in {:.1} s, {}/s\n",
        tally(summary.processed),
        summary.elapsed.as_secs_f64(),
        bytes(summary.rate() as u64)
    );
    if summary.skipped.count > 0 {
        text += &format!("skipped    {}\n", tally(summary.skipped));
    }
    text += &format!("of         {}\n", tally(summary.total));
    for failed in &summary.errors {
        text += &format!("failed     {}: {}\n", failed.path, failed.error);
    }
    text
}

pub(crate) fn snapshot(report: &SnapshotReport) -> String {
    let mut text = format!(
        "snapshot   {}, {}; manifest {}\n",
        count(report.files, "file"),
        bytes(report.bytes),
        report.manifest_hash
    );
    if report.uploaded_objects + report.present_objects > 0 {
        text += &format!(
            "stored     {}, {}{}\n",
            count(report.uploaded_objects, "object"),
            bytes(report.uploaded_bytes),
            there_already(report.present_objects, None)
        );
    }
    for skipped in &report.skipped {
        text += &format!("left out   {}: {}\n", skipped.path, skipped.reason);
    }
    text
}

/// Where a manifest was published, if it was.
pub(crate) fn published(address: Option<&str>) -> String {
    address.map_or_else(String::new, |address| format!("published  {address}\n"))
}

/// What was fetched: from the store, from the cache, and what could not be.
fn from_store(fetched: Fetched) -> String {
    let requests = count(fetched.requests, "request");
    let mut text = format!("{} from the store in {requests}", bytes(fetched.bytes));
    if fetched.disk_bytes > 0 {
        text += &format!(", {} from the cache", bytes(fetched.disk_bytes));
    }
    if fetched.damaged + fetched.missing > 0 {
        let Fetched {
            damaged, missing, ..
        } = fetched;
        text += &format!("; {damaged} damaged, {missing} missing");
    }
    if fetched.failed > 0 {
        text += &format!("; {} failed", count(fetched.failed, "request"));
    }
    text
}

pub(crate) fn read(counters: Counters, fetched: Option<Fetched>) -> String {
    let mut text = format!(
        "read       {}, {}",
        count(counters.files_read, "file"),
        bytes(counters.bytes_read)
    );
    if let Some(fetched) = fetched {
        text += &format!("; {}", from_store(fetched));
    }
    text += "\n";
    if counters.passthrough_opens > 0 {
        text += &read_by_kernel(counters.passthrough_opens);
    }
    if counters.passthrough_scratch_opens > 0 {
        text += &written_by_kernel(counters.passthrough_scratch_opens);
    }
    text + &not_cached(fetched.map_or(0, |fetched| fetched.not_cached))
}

/// Bytes that the disk cache did not keep; nothing if they are too few to be worth a line.
pub(crate) fn not_cached(number: u64) -> String {
    const WORTH_NAMING: u64 = 1_000_000;
    if number < WORTH_NAMING {
        return String::new();
    }
    format!(
        "not kept   {} in the cache: its disk was too slow, full or failing; they are fetched again when they are read\n",
        bytes(number)
    )
}

/// What was fetched ahead of all reads; nothing if there was nothing.
pub(crate) fn prefetched(of: PrefetchStats) -> String {
    if of.bytes == 0 {
        return String::new();
    }
    format!(
        "prefetched {}: {} read, {} not read\n",
        bytes(of.bytes),
        bytes(of.read),
        bytes(of.unread)
    )
}

/// How often a file was opened that the kernel reads by itself.
pub(crate) fn read_by_kernel(opens: u64) -> String {
    let opens = count(opens, "file");
    format!("kernel     {opens} opened that it reads from the cache by itself, not counted above\n")
}

/// How often files were opened that the kernel writes by itself.
pub(crate) fn written_by_kernel(opens: u64) -> String {
    let opens = count(opens, "file");
    format!("kernel     {opens} opened that it writes to scratch by itself, not counted above\n")
}

/// How long ago a time in seconds since 1970 is.
pub(crate) fn ago(seconds: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let ago = at.elapsed().unwrap_or_default();
    // Whole seconds, because the time is known in seconds.
    format!("{} ago", HumanDuration(Duration::from_secs(ago.as_secs())))
}

/// Reads that failed, and the last of them with its time; nothing if there was none.
pub(crate) fn failed_reads(failed: u64, last: Option<&LastError>) -> String {
    if failed == 0 {
        return String::new();
    }
    let mut text = format!("failed     {}\n", count(failed, "read"));
    if let Some(last) = last {
        text += &format!("           the last {}\n", last_error(last));
    }
    text
}

/// `2 minutes ago: read "a": ...`
pub(crate) fn last_error(last: &LastError) -> String {
    let ago = ago(i64::try_from(last.at).unwrap_or_default());
    format!("{ago}: {}", EscapedBytes(last.text.as_bytes()))
}

/// A time in seconds since 1970 as text.
fn utc(seconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    Some(time.to_string())
}

/// A session that is gone, and what it published.
pub(crate) fn ended(ended: &EndedSession) -> String {
    let mut text = format!(
        "session    {}, ended; it was mounted at {}\nstore      {}\n",
        ended.session,
        shown(&ended.mount_point),
        line_of(&ended.store)
    );
    for commit in &ended.commits {
        text += &format!(
            "commit {:<3} {}; manifest {}\n",
            commit.generation, commit.address, commit.hash
        );
    }
    text
}

pub(crate) fn status(report: &StatusReport) -> String {
    let mut text = format!("session    {}\n", report.session);
    let at = shown(&report.mount_point);
    let state = match (report.mounted, report.pid) {
        (true, Some(pid)) if report.ending == Some(Ending::Detached) => {
            format!("not mounted; was at {at}, and process {pid} has it")
        }
        (true, Some(pid)) => format!("mounted at {at} by process {pid}"),
        (true, None) => format!("mounted at {at}"),
        (false, _) => format!("not mounted; was at {at}"),
    };
    let state = match report.ending {
        Some(Ending::Detached) => {
            format!("{state}; detached, it ends when nobody uses it any more")
        }
        Some(Ending::Unmounting) => format!("{state}; it is being unmounted and committed"),
        None => state,
    };
    text += &format!(
        "state      {state}{}\n",
        if report.read_only { ", read-only" } else { "" }
    );
    if let Some(jobs) = &report.browses {
        text += &format!("shows      {}\n", line_of(jobs));
    }
    text += &format!("store      {}\n", line_of(&report.store));
    for manifest in &report.manifests {
        text += &format!("manifest   {}\n", line_of(manifest));
    }
    if let Some(counters) = report.counters.filter(|_| report.mounted) {
        text += &read(counters, report.fetched);
        text += &failed_reads(counters.reads_failed, report.last_error.as_ref());
    } else if let Some(fetched) = report.fetched {
        // A browse: what is read of its files is not counted.
        text += &format!("read       {}\n", from_store(fetched));
        if let Some(last) = &report.last_error {
            text += &format!("failed     {}\n", last_error(last));
        }
    }
    if let Some(early) = &report.early_upload {
        text += &sent_early(early);
        if let Some(trouble) = &early.trouble {
            let trouble = line_of(trouble);
            text += &format!("           the store takes none now: {trouble}\n");
        }
    }
    if let Some(metrics) = &report.metrics {
        text += &format!("metrics    {metrics}\n");
    }
    if let Some(log) = &report.log {
        text += &format!("log        {}\n", line_of(log));
    }
    if !report.read_only {
        text += &format!(
            "changed    {} not committed\n",
            count(report.uncommitted, "path")
        );
        text += &format!("committed  {}\n", count(report.commits, "time"));
        for manifest in &report.committed {
            let time = manifest.time.and_then(utc);
            let time = time.map_or_else(String::new, |time| format!(" {time}"));
            text += &format!(
                "           {}{time} {}\n           {}\n",
                manifest.generation, manifest.hash, manifest.address
            );
        }
    }
    if report.commit_unfinished {
        text += "           a commit was interrupted: `attachfs commit` finishes it\n";
    }
    for path in &report.open {
        text += &format!("open       {path}\n");
    }
    for path in &report.left_open {
        text += &format!("left open  {path}\n");
    }
    if !report.left_open.is_empty() {
        text += "           their process died, or cut off who wrote to them, or the machine was started again: perhaps half written;\n           \
                 `attachfs commit --accept-open` publishes them, `--skip-open` leaves them out\n";
    }
    for path in &report.special {
        text += &format!("special    {path} (a FIFO or a socket; a commit leaves it out)\n");
    }
    for taint in &report.tainted {
        text += &format!(
            "tainted    {} was read with bytes of the hash {}: {}\n",
            taint.object,
            taint.found,
            taint.files.join(", ")
        );
    }
    if !report.tainted.is_empty() {
        text += "           programs read bytes of these before that was known, so what they wrote may be wrong;\n           \
                 if the store has them wrong (`attachfs store verify`), mend it; then run the job again, or publish with `attachfs commit --accept-tainted`\n";
    }
    if report.cut_off {
        text += "cut off    the journal was damaged and repaired: what was done after the damage is lost;\n           \
                 look at the changes (`attachfs diff`), then `attachfs commit --accept-open` publishes them\n";
    }
    if let Some(dir) = &report.set_aside_in {
        let files = count(report.set_aside, "file");
        let dir = line_of(dir);
        text += &format!("set aside  {files} that no record speaks of, in {dir}\n");
    }
    if let Some(dir) = &report.unknown_in {
        let (files, dir) = (count(report.unknown, "file"), line_of(dir));
        text += &format!(
            "unknown    {files} that no record speaks of, in {dir}:\n           \
             the journal may have lost its end; they are set aside when the session is taken up\n"
        );
    }
    text
}

#[cfg(test)]
mod line_tests {
    use super::*;

    #[test]
    fn names_from_outside_reach_a_terminal_as_one_line_without_control_characters() {
        let path = Path::new("/mnt/a\x1b[2J\nb\u{202e}c\\d");
        assert_eq!(shown(path).to_string(), "/mnt/a\\u{1b}[2J\\nb\\u{202e}c\\d");
        assert_eq!(line_of("a \\n that is escaped"), "a \\n that is escaped");
    }
}
