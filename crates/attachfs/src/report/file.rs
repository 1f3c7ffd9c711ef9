//! The files of reports: `NAME.json` or `NAME.html`. One that is written takes the place of another report and of an empty file, and of
//! nothing else.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::content::UseReport;
use super::page::{BEGIN, report_page};
use crate::error::{Doing as _, Error};
use crate::output_file::{OutputFile, check_is_elsewhere};

const OUTPUT: OutputFile = OutputFile {
    what: "report",
    instead: "name a file",
    is_one: is_report,
};

/// How a JSON report begins.
const JSON: &[u8] = b"{\"attachfs_report\":";

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Page,
}

impl Form {
    /// The form that a file's name asks for.
    fn of(path: &Path) -> Result<Self, Error> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("json") => Ok(Self::Json),
            Some("html" | "htm") => Ok(Self::Page),
            _ => {
                let sentence = format!("{} is no name for a report", path.display());
                Err(Error::usage(sentence).advise("its name has to end in .json or .html"))
            }
        }
    }
}

/// Fails if no report can be written to `path`: its name does not end in `.json` or `.html`, its directory is not there, or something
/// else is in its place. To be asked before the work that the report is of.
pub fn check_place_of_report(path: &Path) -> Result<(), Error> {
    Form::of(path)?;
    check_place_of_page(path)
}

/// As [`check_place_of_report`], for a page whatever the file is called.
pub fn check_place_of_page(path: &Path) -> Result<(), Error> {
    OUTPUT.check_place(path)
}

/// Fails if the page would lie in the mount that it reports on: it would be an output of the job.
pub fn check_page_is_elsewhere(path: &Path, report: &UseReport) -> Result<(), Error> {
    let (Some(name), Some(dir)) = (path.file_name(), path.parent()) else {
        return Ok(());
    };
    let dir = if dir == Path::new("") {
        Path::new(".")
    } else {
        dir
    };
    let found = std::fs::canonicalize(dir).map_err(|source| {
        let sentence = format!("cannot write the report to a file in {}", dir.display());
        Error::usage(sentence).because(source)
    })?;
    let mount_point = &report.mount_point;
    check_is_elsewhere("report", &found.join(name), mount_point, mount_point)
}

/// Writes a report as its name says, durably; nobody ever sees half of it.
pub(super) fn write(path: &Path, report: &UseReport) -> Result<(), Error> {
    match Form::of(path)? {
        Form::Page => write_report_page(path, report),
        Form::Json => {
            let json = serde_json::to_vec(report);
            let mut json = json.doing(|| "cannot write a report as JSON".to_owned())?;
            json.push(b'\n');
            OUTPUT.write(path, &json)
        }
    }
}

/// Writes a report as an HTML page, whatever the file is called. It takes the place of another report and of an empty file, and of nothing
/// else.
pub fn write_report_page(path: &Path, report: &UseReport) -> Result<(), Error> {
    OUTPUT.write(path, report_page(report).as_bytes())
}

fn is_report(path: &Path, _len: u64) -> io::Result<bool> {
    let mut begin = Vec::new();
    let longest = JSON.len().max(BEGIN.len()) as u64;
    File::open(path)?.take(longest).read_to_end(&mut begin)?;
    Ok(begin.starts_with(JSON) || begin.starts_with(BEGIN.as_bytes()))
}
