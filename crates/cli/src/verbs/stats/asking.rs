//! Asks for the counts, once or each second.

use std::time::Duration;

use attachfs::{CancellationToken, FailureClass, Places, SessionEntry, StatsReport};
use tokio::time::{Interval, MissedTickBehavior};

/// How long a view is shown before the next.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn ask(found: &SessionEntry) -> Result<StatsReport, attachfs::Error> {
    attachfs::stats(found, &CancellationToken::new()).await
}

/// The next counts; nothing if the mount has ended.
pub(super) async fn ask_again(
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

/// Ticks at each interval from now on; what comes late makes none come sooner.
pub(super) async fn clock() -> Interval {
    let mut clock = tokio::time::interval(INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick().await;
    clock
}
