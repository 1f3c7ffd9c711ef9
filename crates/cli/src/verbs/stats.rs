//! `stats`.

mod asking;
mod table;
mod view;

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;
use attachfs::{Places, SessionEntry, StatsReport};

use self::asking::{ask, ask_again, clock};
use super::stores::require_used;
use crate::args::Globals;
use crate::args::stats::Stats;
use crate::exit::Failure;
use crate::output;
use crate::places::places;

pub(super) async fn stats(globals: &Globals, args: Stats) -> Result<(), Failure> {
    let places = places();
    let found = attachfs::find(&places, &args.session)?;
    require_used(globals, &found).await?;
    let first = ask(&found).await?;
    if !args.watch {
        return Ok(output::print(&text_of(globals, &first)?)?);
    }
    if io::stdout().is_terminal() && !globals.json {
        return view::show(&found, &places, first).await;
    }
    print_again_and_again(globals, &found, &places, first).await
}

fn text_of(globals: &Globals, report: &StatsReport) -> anyhow::Result<String> {
    if globals.json {
        return Ok(format!("{}\n", serde_json::to_string(report)?));
    }
    Ok(table::of(report))
}

/// For a file, or a program that reads: until the mount ends or nobody reads any more.
async fn print_again_and_again(
    globals: &Globals,
    found: &SessionEntry,
    places: &Places,
    first: StatsReport,
) -> Result<(), Failure> {
    let mut report = first;
    let mut clock = clock().await;
    loop {
        let mut text = text_of(globals, &report)?;
        if !globals.json {
            text.push('\n');
        }
        match write(&text) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("cannot write to standard output")?,
        }
        clock.tick().await;
        report = match ask_again(found, places).await? {
            Some(report) => report,
            None => return Ok(()),
        };
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
