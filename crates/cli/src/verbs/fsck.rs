//! `fsck`.

use attachfs::FsckReport;

use crate::args::Globals;
use crate::args::fsck::Fsck;
use crate::exit::{Failure, INTEGRITY};
use crate::output::{self, count, line_of, listed};
use crate::places::places;

pub(super) fn fsck(globals: &Globals, args: &Fsck) -> Result<(), Failure> {
    let places = places();
    let found = attachfs::find(&places, &args.session.session)?;
    let report = attachfs::fsck(&found, &places, args.repair)?;
    if globals.json {
        output::print_json(&report)?;
    } else {
        output::print(&told(&report))?;
    }
    if report.sound {
        Ok(())
    } else {
        Err(Failure::Code(INTEGRITY))
    }
}

fn told(report: &FsckReport) -> String {
    let mut text = format!("session    {}\n", report.session);
    text += &format!(
        "checked    {}, {} written, {}\n",
        count(report.records, "record"),
        count(report.written, "file"),
        count(report.commits, "commit")
    );
    let lines =
        |word: &str, all: &[String]| listed(all, |one| format!("{word:10} {}\n", line_of(one)));
    text += &lines("wrong", &report.problems);
    text += &lines("note", &report.notes);
    text += &lines("repaired", &report.repaired);
    text += &lines("left", &report.left);
    text += match (report.sound, report.repairable) {
        (true, _) => "sound      it can be mounted and committed\n",
        (false, true) => {
            "damaged    --repair makes it fit to be used again, as far as that can be\n"
        }
        (false, false) if report.repaired.is_empty() => "damaged    this cannot be repaired here\n",
        (false, false) => "damaged    what is left cannot be repaired here\n",
    };
    text
}
