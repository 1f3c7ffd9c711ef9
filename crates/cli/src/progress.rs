//! Progress on a terminal, nothing elsewhere, and signals as a cancel.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use attachfs::{
    CancellationToken, CommitStep, Observer, Phase, Progress, ProgressEvent, Stop, StopSignal,
};
use indicatif::{ProgressBar, ProgressStyle};

/// The signals by which somebody says that the work is not wanted any more.
struct Signals {
    interrupt: StopSignal,
    terminate: StopSignal,
    hang_up: StopSignal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: StopSignal::listen(Stop::Interrupt)?,
            terminate: StopSignal::listen(Stop::Terminate)?,
            hang_up: StopSignal::listen(Stop::HangUp)?,
        })
    }

    /// Waits for any of them.
    async fn recv(&mut self) {
        tokio::select! {
            () = self.interrupt.recv() => {}
            () = self.terminate.recv() => {}
            () = self.hang_up.recv() => {}
        }
    }
}

/// Shows the progress of a use case, and cancels it when its user says so.
#[derive(Debug)]
pub(crate) struct Shown {
    bar: Mutex<Option<(Phase, ProgressBar)>>,
    show: bool,
    cancel: CancellationToken,
}

impl Shown {
    /// On a terminal, unless programs read along. The first signal cancels: Ctrl-C, SIGTERM, with which farms cancel, or SIGHUP. The
    /// second ends the program, which leaves nothing that the same command could not go on from.
    pub(crate) fn cancellable(json: bool) -> Self {
        let shown = Self::new(json);
        // Registered here and not in the task: until then a signal ends the program at once.
        let Ok(mut signals) = Signals::listen() else {
            return shown;
        };
        let cancel = shown.cancel.clone();
        tokio::spawn(async move {
            signals.recv().await;
            cancel.cancel();
            // What hangs does not look.
            signals.recv().await;
            std::process::exit(crate::exit::CANCELLED.into());
        });
        shown
    }

    /// A display that does not cancel the work at Ctrl-C.
    pub(crate) fn new(json: bool) -> Self {
        let show = !json && std::io::IsTerminal::is_terminal(&std::io::stderr());
        Self {
            bar: Mutex::new(None),
            show,
            cancel: CancellationToken::new(),
        }
    }

    /// The token that cancels the work that is shown.
    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Some((_, bar)) = self
            .bar
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            bar.finish_and_clear();
        }
    }

    fn draw(&self, event: &ProgressEvent) {
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if bar.as_ref().is_none_or(|(phase, _)| *phase != event.phase)
            && let Some((_, old)) = bar.replace((event.phase, new_bar(event)))
        {
            old.finish_and_clear();
        }
        let Some((_, bar)) = &*bar else { return };
        let items = match event.items_total {
            Some(total) => format!("{} of {total}", event.items_done),
            None => event.items_done.to_string(),
        };
        match event.bytes_total.filter(|&total| total > 0) {
            Some(total) => {
                bar.set_length(total);
                bar.set_position(event.bytes_done);
            }
            None => {
                bar.set_length(event.items_total.unwrap_or(event.items_done));
                bar.set_position(event.items_done);
            }
        }
        bar.set_prefix(items);
        if let Some(item) = &event.item {
            bar.set_message(item.clone());
        }
    }
}

fn new_bar(event: &ProgressEvent) -> ProgressBar {
    let (verb, with_bytes) = match event.phase {
        Phase::Scan => ("scanning", false),
        Phase::Hash => ("hashing", event.bytes_total.is_some()),
        Phase::Check => ("checking", false),
        Phase::Upload => ("uploading", event.bytes_total.is_some()),
        Phase::Download => ("fetching", event.bytes_total.is_some()),
        Phase::Commit => ("committing", false),
    };
    let template = if with_bytes {
        format!(
            "{verb:>9} {{prefix}} files, {{bytes}} of {{total_bytes}} {{wide_bar}} {{bytes_per_sec}} {{eta}}"
        )
    } else {
        format!("{verb:>9} {{prefix}} {{wide_msg}}")
    };
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

impl Progress for Shown {
    fn update(&self, event: &ProgressEvent) -> ControlFlow<()> {
        if self.show {
            self.draw(event);
        }
        ControlFlow::Continue(())
    }
}

impl Observer for Shown {
    fn step(&self, step: CommitStep) {
        if step == CommitStep::Published {
            self.clear();
        }
        crate::halt::halt_at(step);
    }

    fn note(&self, text: &str) {
        self.clear();
        crate::output::remark(text);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.clear();
    }
}
