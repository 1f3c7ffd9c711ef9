//! `stats`.

mod table;
mod view;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use attachfs::{CancellationToken, FailureClass, Places, SessionEntry, StatsReport};
use tokio::time::{Interval, MissedTickBehavior};

use crate::args::Globals;
use crate::args::stats::Stats;
use crate::exit::Failure;
use crate::output;
use crate::places::places;

/// How long a view is shown before the next.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn stats(globals: &Globals, args: Stats) -> Result<(), Failure> {
    let places = places(None);
    let found = attachfs::find(&places, &args.session.session)?;
    let first = ask(&found).await?;
    if !args.watch {
        return Ok(output::print(&text_of(globals, &first)?)?);
    }
    if io::stdout().is_terminal() && !globals.json {
        return view::show(&found, &places, first).await;
    }
    print_again_and_again(globals, &found, &places, first).await
}

async fn ask(found: &SessionEntry) -> Result<StatsReport, attachfs::Error> {
    attachfs::stats(found, &CancellationToken::new()).await
}

/// The next counts; nothing if the mount has ended.
async fn ask_again(
    found: &SessionEntry,
    places: &Places,
) -> Result<Option<StatsReport>, attachfs::Error> {
    match ask(found).await {
        Ok(report) => Ok(Some(report)),
        Err(error) if error.class() == FailureClass::Usage => Ok(None),
        // It may have ended while it was asked.
        Err(error) => match attachfs::find(places, found.meta.id.as_str().as_ref()) {
            Ok(now) if now.state == attachfs::SessionState::InUse => Err(error),
            _ => Ok(None),
        },
    }
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

/// Ticks at each interval from now on; what comes late makes none come sooner.
async fn clock() -> Interval {
    let mut clock = tokio::time::interval(INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick().await;
    clock
}
