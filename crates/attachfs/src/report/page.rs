//! The report as one HTML page: no script, and nothing from elsewhere.
//!
//! What comes from outside (names, addresses) goes through [`Html`], or through [`shown`], which also makes control characters visible. Paths
//! of reports have had that done.

use std::fmt::{self, Display, Write as _};

use attachfs_manifest::EscapedBytes;

use super::charts;
use super::content::{MissingFile, ReadFile, UnreadFile, UseReport};
use super::money::Money;

/// How a page begins: a file is known by it.
pub(super) const BEGIN: &str = "<!doctype html>\n<!-- attachfs report -->\n";
const STYLE: &str = include_str!("page.css");
/// Rows of each table.
const ROWS: usize = 200;

/// Text as HTML shows it, also within quotes.
struct Html<T>(T);

impl<T: Display> Display for Html<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Escaping<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for c in text.chars() {
                    match c {
                        '&' => self.0.write_str("&amp;")?,
                        '<' => self.0.write_str("&lt;")?,
                        '>' => self.0.write_str("&gt;")?,
                        '"' => self.0.write_str("&quot;")?,
                        '\'' => self.0.write_str("&#39;")?,
                        c => self.0.write_char(c)?,
                    }
                }
                Ok(())
            }
        }
        write!(Escaping(f), "{}", self.0)
    }
}

/// Text from outside.
fn shown(text: &str) -> Html<EscapedBytes<'_>> {
    Html(EscapedBytes(text.as_bytes()))
}

/// The report as one HTML page that needs nothing else.
pub fn report_page(report: &UseReport) -> String {
    let mount_point = attachfs_durable::path_bytes(&report.mount_point);
    let mount_point = Html(EscapedBytes(mount_point)).to_string();
    let mut page = format!(
        "{BEGIN}<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>attachfs report: {mount_point}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>What was used of {mount_point}</h1>\n"
    );
    page += &about(report);
    page += &figures(report);
    page += &sums(report);
    page += &timeline(report);
    page += &missing(report);
    page += &read(report);
    page += &never_read(report);
    page + "</main>\n</body>\n</html>\n"
}

fn about(report: &UseReport) -> String {
    let when = if report.ended {
        "when the mount ended"
    } else {
        "while it was mounted"
    };
    let manifests = report.manifests.iter().map(|manifest| {
        let at = manifest.at.as_deref();
        let at = at.map(|at| format!(" in {}", Html(at))).unwrap_or_default();
        format!("{}{at}", shown(&manifest.source))
    });
    let manifests = manifests.collect::<Vec<_>>().join("<br>");
    format!(
        "<p class=\"quiet small\">Counted are first reads: what the kernel answered from its page cache, from names that it \
         remembered, or from a local file did not reach attachfs. A file that was opened counts as used.</p>\n\
         <dl class=\"about\"><dt>Session</dt><dd>{}</dd><dt>Store</dt><dd>{}</dd><dt>Manifests</dt><dd>{manifests}</dd>\
         <dt>Mounted for</dt><dd>{}; reported {when}</dd></dl>\n",
        shown(&report.session),
        shown(&report.store),
        time(report.mounted_ms)
    )
}

fn figure(value: &str, bad: bool, of: &str) -> String {
    let class = if bad { " class=\"bad\"" } else { "" };
    format!("<div class=\"figure\"><b{class}>{value}</b><span>{of}</span></div>\n")
}

fn figures(report: &UseReport) -> String {
    let sums = &report.inputs;
    let mut text = "<div class=\"figures\">\n".to_owned();
    text += &figure(
        &format!("{} of {}", count(sums.used_files), count(sums.shown.files)),
        false,
        "files were used",
    );
    text += &figure(
        &bytes(sums.never_read.bytes),
        false,
        &format!("never read, in {}", some(sums.never_read.files, "file")),
    );
    text += &figure(
        &bytes(report.fetched.bytes),
        false,
        &format!("fetched in {}", some(report.fetched.requests, "request")),
    );
    let (saved, more) = (report.saved.bytes, report.saved.bytes.unsigned_abs());
    let than = format!(
        "than a full download of {}, {}",
        bytes(report.full_download.bytes),
        requests_saved(report.saved.requests)
    );
    let less = if saved < 0 { "more" } else { "less" };
    text += &figure(&format!("{} {less}", bytes(more)), false, &than);
    if let Some(money) = &report.money {
        text += &figure(
            &amount(money.spent),
            false,
            &format!("spent; {}", money_saved(money)),
        );
    }
    let missing = report.missing.names;
    text += &figure(&count(missing), missing > 0, "names looked up in vain");
    let unverified = sums.bytes_unverified;
    text += &figure(&bytes(unverified), false, "given out and not verified");
    let failed = report.reads_failed;
    text += &figure(&count(failed), failed > 0, "reads failed");
    let wrong = report.requests.missing + report.requests.damaged;
    if wrong > 0 {
        let of = "times an object was missing or damaged";
        text += &figure(&count(wrong), true, of);
    }
    text + "</div>\n"
}

fn requests_saved(saved: i64) -> String {
    match saved {
        0 => "with as many requests".to_owned(),
        1.. => format!("with {} fewer", some(saved.unsigned_abs(), "request")),
        ..0 => format!("with {} more", some(saved.unsigned_abs(), "request")),
    }
}

fn money_saved(money: &Money) -> String {
    format!("a full download costs {}", amount(money.full_download))
}

/// The colours of parts, what they are, and how much.
fn legend(parts: &[(&str, &str, u64)]) -> String {
    let mut text = "<ul class=\"legend\">".to_owned();
    for (class, what, number) in parts {
        text += &format!(
            "<li><svg viewBox=\"0 0 1 1\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"1\" height=\"1\"/></svg>{what} {}</li>",
            bytes(*number)
        );
    }
    text + "</ul>\n"
}

fn sums(report: &UseReport) -> String {
    let sums = &report.inputs;
    let opened = sums.shown.bytes.saturating_sub(sums.never_read.bytes);
    let inputs = [
        ("one", "read", sums.bytes_read),
        (
            "two",
            "the rest of used files",
            opened.saturating_sub(sums.bytes_read),
        ),
        ("ground", "files never read", sums.never_read.bytes),
    ];
    let sources = [
        ("one", "memory", report.bytes.from_memory),
        ("two", "disk cache", report.bytes.from_disk),
        ("three", "store", report.bytes.from_store),
    ];
    let bar = |parts: &[(&str, &str, u64)], what: &str| {
        let plain: Vec<_> = parts
            .iter()
            .map(|(class, _, part)| (*class, *part))
            .collect();
        charts::parts(&plain, what) + &legend(parts)
    };
    format!(
        "<section>\n<h2>What of the inputs was read</h2>\n{}<h2>Where bytes came from</h2>\n{}</section>\n",
        bar(&inputs, "bytes read, and not"),
        bar(&sources, "bytes from memory, disk cache and store")
    )
}

fn timeline(report: &UseReport) -> String {
    let line = &report.timeline;
    let end = line.step_ms.saturating_mul(line.first_uses.len() as u64);
    let most = line.first_uses.iter().copied().max().unwrap_or(0);
    format!(
        "<section>\n<h2>When files were used first</h2>\n{}<div class=\"axis\"><span>0</span><span>{}</span><span>{}</span></div>\n\
         <p class=\"quiet small\">A column is {}; the highest is {}.</p>\n</section>\n",
        charts::columns(&line.first_uses, "files used first over time"),
        time(end / 2),
        time(end),
        time(line.step_ms),
        some(most, "file")
    )
}

/// A table of the first rows of a list, and how many more there are.
fn table<T>(heads: &str, list: &[T], all: u64, row: impl Fn(&T) -> String) -> String {
    if list.is_empty() {
        return "<p class=\"quiet\">None.</p>\n".to_owned();
    }
    let rows: String = list.iter().take(ROWS).map(row).collect();
    let mut text = format!(
        "<div class=\"scroll\"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    );
    let more = all.saturating_sub(list.len().min(ROWS) as u64);
    if more > 0 {
        text += &format!("<p class=\"quiet small\">And {} more.</p>\n", count(more));
    }
    text
}

fn missing(report: &UseReport) -> String {
    let heads = "<th>Path</th><th class=\"number\">Look-ups</th><th>First by</th><th class=\"number wide\">First</th>";
    let row = |file: &MissingFile| {
        let process = file.process.as_ref();
        let process = process.map_or_else(
            || "unknown".to_owned(),
            |process| format!("{} ({})", shown(&process.name), process.pid),
        );
        format!(
            "<tr><td class=\"path\">{}</td><td class=\"number\">{}</td><td>{process}</td><td class=\"number wide\">{}</td></tr>\n",
            Html(&file.path),
            count(file.lookups),
            time(file.first_ms)
        )
    };
    let mut table = table(heads, &report.missing.listed, report.missing.names, row);
    let others = report.missing.other_lookups;
    if others > 0 {
        table += &format!(
            "<p class=\"quiet small\">And {} look-ups of further names.</p>\n",
            count(others)
        );
    }
    format!("<section>\n<h2>Names that were looked up and are not there</h2>\n{table}</section>\n")
}

fn read(report: &UseReport) -> String {
    let heads = "<th>Path</th><th class=\"number\">Read</th><th class=\"number\">of</th><th class=\"strip\">Parts</th>\
                 <th class=\"number wide\">Opened</th><th class=\"number wide\">First</th>";
    let row = |file: &ReadFile| {
        let read = match (file.bytes_asked, file.bytes_read) {
            (0, _) if file.opens > 0 => "only opened".to_owned(),
            (1.., 0) => "failed".to_owned(),
            (_, read) => bytes(read),
        };
        format!(
            "<tr><td class=\"path\">{}</td><td class=\"number\">{read}</td><td class=\"number\">{}</td><td class=\"strip\">{}</td>\
             <td class=\"number wide\">{}</td><td class=\"number wide\">{}</td></tr>\n",
            Html(&file.path),
            bytes(file.size),
            charts::ranges(&file.ranges, file.size),
            count(file.opens),
            time(file.first_ms)
        )
    };
    let table = table(heads, &report.read, report.inputs.used_files, row);
    format!("<section>\n<h2>Files that were used, most read first</h2>\n{table}</section>\n")
}

fn never_read(report: &UseReport) -> String {
    let heads = "<th>Path</th><th class=\"number\">Size</th>";
    let row = |file: &UnreadFile| {
        format!(
            "<tr><td class=\"path\">{}</td><td class=\"number\">{}</td></tr>\n",
            Html(&file.path),
            bytes(file.size)
        )
    };
    let table = table(
        heads,
        &report.never_read,
        report.inputs.never_read.files,
        row,
    );
    format!("<section>\n<h2>Files that were never read, longest first</h2>\n{table}</section>\n")
}

/// A number with a comma after each three digits.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 file`, `2 files`.
fn some(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

/// A number of bytes with three digits.
fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1e3;
    let mut unit = 0;
    // What would be rounded to 1000 is 1 of the next unit.
    while value >= 999.5 {
        value /= 1e3;
        unit += 1;
    }
    let digits = decimals(value);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// How many decimals make three digits.
fn decimals(value: f64) -> usize {
    match value {
        ..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    }
}

/// A time in milliseconds.
fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => {
            let value = ms as f64 / 1e3;
            format!("{value:.*} s", decimals(value))
        }
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// An amount of money: with cents, and three digits of small amounts.
fn amount(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 2,
        size => (2.0 - size.log10().floor()).clamp(2.0, 9.0) as usize,
    };
    format!("{value:.digits$}")
}
