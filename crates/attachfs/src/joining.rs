//! Who asked for the end of a mount first: who asks for the same while it is being done is told.

use std::sync::atomic::{AtomicU32, Ordering};

use attachfs_mount::Process;

/// The process that asked for the end which is under way; 0 if none is, or it is not known.
#[derive(Debug, Default)]
pub(crate) struct EndAsked(AtomicU32);

/// The end that somebody asked for is under way for as long as this is there.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a EndAsked);

impl EndAsked {
    /// Notes that a process asks for the end. Fails with the process that asked before, if that is still being done.
    pub(crate) fn by(&self, process: Option<u32>) -> Result<UnderWay<'_>, Process> {
        let process = process.unwrap_or_default();
        match self
            .0
            .compare_exchange(0, process, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => Ok(UnderWay(self)),
            Err(first) => Err(Process::of(first)),
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.0.store(0, Ordering::Relaxed);
    }
}

/// What who joins is told.
pub(crate) fn sentence(session: &str, first: &Process) -> String {
    let id = session.get(..8).unwrap_or(session);
    format!(
        "another unmount of session {id} is at work, which {first} asked for; this one waits for it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_who_asks_is_named_until_it_is_done() {
        let asked = EndAsked::default();
        let first = asked.by(Some(7)).unwrap();
        assert_eq!(asked.by(Some(8)).unwrap_err().pid, 7);
        assert_eq!(asked.by(None).unwrap_err().pid, 7);
        drop(first);
        assert!(asked.by(Some(8)).is_ok());
    }
}
