//! Stops the process at a step of a commit, so that a test can kill it just there.

use attachfs::CommitStep;

/// The variable that names the step. Not for people.
const VARIABLE: &str = "ATTACHFS_HALT_AT";

/// Stops here for good if this is the step. The line on standard error says that it is reached.
#[expect(clippy::print_stderr, reason = "a test waits for this line")]
pub(crate) fn halt_at(step: CommitStep) {
    let wanted = std::env::var(VARIABLE);
    if wanted.is_ok_and(|wanted| wanted.eq_ignore_ascii_case(&format!("{step:?}"))) {
        eprintln!("halted at {step:?}");
        loop {
            std::thread::park();
        }
    }
}
