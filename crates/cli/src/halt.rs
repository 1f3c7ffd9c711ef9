//! Stops the process at a step of a commit or at a durable step, so that a test can kill it just there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use attachfs::{CommitStep, DurableStep, When, listen_to_durable_steps};
use tokio::runtime::{Handle, RuntimeFlavor};

/// The variable that names the step. Not for people. `Hashed` is a step of a commit; `JournalAppend:3` is before the third step of that
/// name that the process takes, `JournalAppend:3:after` behind it.
const VARIABLE: &str = "ATTACHFS_HALT_AT";

/// A durable step to stop at.
#[derive(Debug)]
struct Place {
    step: DurableStep,
    number: u32,
    when: When,
    /// How many times the step was reached.
    reached: AtomicU32,
}

static PLACE: OnceLock<Place> = OnceLock::new();

/// Listens to durable steps, if the process is to stop at one.
pub(crate) fn prepare() {
    let Some(place) = std::env::var(VARIABLE).ok().and_then(|text| place(&text)) else {
        return;
    };
    if PLACE.set(place).is_ok() {
        listen_to_durable_steps(halt_at_durable);
    }
}

fn place(text: &str) -> Option<Place> {
    let mut words = text.split(':');
    let name = words.next()?;
    let step = DurableStep::ALL
        .iter()
        .find(|step| format!("{step:?}") == name)?;
    let number = words.next().map_or(Some(1), |text| text.parse().ok())?;
    let when = match words.next() {
        None => When::Before,
        Some("after") => When::After,
        Some(_) => return None,
    };
    Some(Place {
        step: *step,
        number,
        when,
        reached: AtomicU32::new(0),
    })
}

fn halt_at_durable(when: When, step: DurableStep) {
    let place = PLACE.get();
    if let Some(place) = place.filter(|place| place.step == step && place.when == when)
        && place.reached.fetch_add(1, Ordering::Relaxed) + 1 == place.number
    {
        halt(&format!("{step:?}"));
    }
}

/// Stops here for good if this is the step.
pub(crate) fn halt_at(step: CommitStep) {
    let wanted = std::env::var(VARIABLE);
    if wanted.is_ok_and(|wanted| wanted.eq_ignore_ascii_case(&format!("{step:?}"))) {
        halt(&format!("{step:?}"));
    }
}

/// The line on standard error says that it is reached.
#[expect(clippy::print_stderr, reason = "a test waits for this line")]
fn halt(step: &str) -> ! {
    eprintln!("halted at {step}");
    let park = || -> ! {
        loop {
            std::thread::park();
        }
    };
    // A worker of the runtime that stood still would keep the task that it was to run next, such as the answer to another process.
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(park),
        _ => park(),
    }
}
