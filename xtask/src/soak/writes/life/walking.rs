//! A life in which processes halt at one place, until one was killed there.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::Summary;
use super::super::events::{Disturbance, Event};
use super::super::halts::Halt;
use super::Life;

/// What goes wrong with the store in a walk, in thousandths: before, in the midst and after a write is done, of chunks and of manifests.
const WALKED_FAULTS: &str = "chunk_internal=100&chunk_cut=60&chunk_close=60&chunk_failed=60&manifest_internal=100&manifest_cut=100&manifest_close=150&manifest_failed=150";

/// A life in which one place is reached.
#[derive(Debug)]
pub(super) struct Walk {
    /// Until a process was there.
    pub(super) wanted: Option<Halt>,
    /// Nobody halts meanwhile.
    pub(super) is_paused: bool,
}

impl Life<'_> {
    /// One of each event, with a store that fails, until a process has halted at the place that is wanted and was killed there. Then all is as it
    /// would have been without. Says whether one came there.
    pub(in super::super) fn walk(&mut self, summary: &mut Summary) -> Result<bool> {
        let wanted = self.walk.as_ref().and_then(|walk| walk.wanted.clone());
        let events = [
            Event::Compared,
            Event::Committed(Disturbance::None),
            Event::Unmounted,
            Event::Committed(Disturbance::Offline(None, wanted)),
            Event::FullDisk(0, false),
            Event::KilledAtRest,
            Event::Committed(Disturbance::None),
        ];
        for event in events {
            self.round += 1;
            let seed = self.random.below(1 << 30);
            self.programs
                .faults(&format!("seed={seed}&{WALKED_FAULTS}"))?;
            let at = format!("round {}, {event:?}", self.round);
            self.round(event, summary).with_context(|| at)?;
            self.programs.faults("")?;
            summary.rounds += 1;
        }
        self.without_halt(summary)?;
        self.commit_at_last(summary).context("at the end")?;
        self.discard(summary)?;
        Ok(self.walk.as_ref().is_some_and(|walk| walk.wanted.is_none()))
    }

    /// Discards the session, whose deletion may be interrupted.
    pub(super) fn discard(&mut self, summary: &mut Summary) -> Result<()> {
        drop(self.mount.take());
        // A directory that was there before the session stays.
        if !self.session.join("session.json").exists() {
            return Ok(());
        }
        let discard = |life: &Self| {
            let mut discard = life.programs.command(["discard", "--yes"]);
            discard.arg(&life.session);
            discard
        };
        if let Some(halt) = self.walk.as_ref().and_then(|walk| walk.wanted.clone()) {
            let mut command = discard(self);
            halt.tell(&mut command);
            let mut running = self.programs.start(command)?;
            while !running.has_ended()? {
                if running.has_said(&halt.said()) {
                    self.reached(&halt, summary);
                    running.child.kill()?;
                    break;
                }
                thread::sleep(Duration::from_millis(2));
            }
            let said = running.wait(Duration::from_mins(1))?;
            if said.code() == Some(0) {
                return Ok(());
            }
            ensure!(said.code().is_none(), "discard said {said:?}");
        }
        if self.session.join("session.json").exists() {
            let said = self.programs.said(discard(self))?;
            // The session may have been all but gone.
            let is_gone = said.code() == Some(0) || !self.session.exists();
            ensure!(is_gone, "cannot discard: {said:?}");
        }
        Ok(())
    }

    pub(super) fn pause_walk(&mut self, is_paused: bool) {
        if let Some(walk) = &mut self.walk {
            walk.is_paused = is_paused;
        }
    }

    /// A process halted there, and is killed.
    pub(super) fn reached(&mut self, halt: &Halt, summary: &mut Summary) {
        summary.halted(halt);
        if let Some(walk) = &mut self.walk {
            walk.wanted = None;
        }
    }
}
