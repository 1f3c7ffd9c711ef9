//! This process and those that it starts.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::process::Stop;

pub(crate) fn user_numbers() -> (u32, u32) {
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    (user.as_raw(), group.as_raw())
}

/// glibc keeps freed memory that others have not freed around it.
pub(crate) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "no library offers it as a safe function")]
    // SAFETY: it may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// glibc makes up to eight arenas for each processor, each of which keeps freed memory at its end: more the longer the blocks
/// were that were freed. `malloc_trim` leaves those ends.
pub(crate) fn keep_little_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        /// Threads that fetch and answer are about as many as processors, and seldom meet in an allocation.
        const ARENAS: i32 = 4;
        /// Blocks from this length on are mappings of their own, in bytes. Shorter ones are used again without being filled
        /// with zeros first.
        const MAPPED_FROM: i32 = 4 << 20;
        /// What an arena keeps at its end, in bytes.
        const KEPT_AT_END: i32 = 4 << 20;
        let settings = [
            (libc::M_ARENA_MAX, ARENAS),
            (libc::M_MMAP_THRESHOLD, MAPPED_FROM),
            (libc::M_TRIM_THRESHOLD, KEPT_AT_END),
        ];
        for (setting, value) in settings {
            #[allow(unsafe_code, reason = "no library offers it as a safe function")]
            // SAFETY: it takes the allocator's own locks, and changes what happens to blocks from now on.
            let is_set = unsafe { libc::mallopt(setting, value) } == 1;
            if !is_set {
                tracing::debug!(setting, "the allocator keeps its setting");
            }
        }
    }
}

/// The kernel keeps a priority for each thread.
pub(crate) fn lower_priority() -> io::Result<()> {
    /// As nice(1) does.
    const NICE: i32 = 10;
    let thread = rustix::thread::gettid();
    Ok(rustix::process::setpriority_process(Some(thread), NICE)?)
}

/// Nothing if it is ignored.
#[derive(Debug)]
pub(crate) struct StopSignal(Option<tokio::signal::unix::Signal>);

impl StopSignal {
    pub(crate) fn listen(to: Stop) -> io::Result<Self> {
        let kind = match to {
            Stop::Interrupt => SignalKind::interrupt(),
            Stop::Quit => SignalKind::quit(),
            Stop::Terminate => SignalKind::terminate(),
            Stop::HangUp if ignores_hang_up() => return Ok(Self(None)),
            Stop::HangUp => SignalKind::hangup(),
        };
        signal(kind).map(Some).map(Self)
    }

    pub(crate) async fn recv(&mut self) -> Option<()> {
        self.0.as_mut()?.recv().await
    }
}

/// Whether the program was started with SIGHUP ignored, as nohup(1) does.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status");
    status.is_ok_and(|status| ignores(&status))
}

/// Whether a process with this status ignores SIGHUP, see proc_pid_status(5).
fn ignores(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal 1 is the lowest bit.
    mask.is_some_and(|mask| mask & 1 == 1)
}

pub(crate) fn ask_to_stop(process: u32) -> io::Result<()> {
    let process = Pid::from_raw(process.cast_signed()).ok_or(Errno::SRCH)?;
    Ok(rustix::process::kill_process(process, Signal::TERM)?)
}

pub(crate) fn signal_of(status: ExitStatus) -> Option<i32> {
    status.signal()
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenFiles {
    given: Rlimit,
}

pub(crate) fn raise_open_files() -> OpenFiles {
    let given = getrlimit(Resource::Nofile);
    if given.current != given.maximum {
        set(Rlimit {
            current: given.maximum,
            maximum: given.maximum,
        });
    }
    OpenFiles { given }
}

impl OpenFiles {
    pub(crate) fn as_given<T>(self, start: impl FnOnce() -> T) -> T {
        let raised = getrlimit(Resource::Nofile);
        set(self.given);
        let started = start();
        set(raised);
        started
    }
}

fn set(limit: Rlimit) {
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the number of open files stays what it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_of_what_is_ignored_is_the_end_of_the_terminal() {
        for (line, expected) in [
            ("SigIgn:\t0000000000001001", true),
            ("SigIgn:\t0000000000001000", false),
            ("SigBlk:\t0000000000000001", false),
        ] {
            assert_eq!(ignores(&format!("Name:\tx\n{line}\n")), expected, "{line}");
        }
    }

    #[test]
    fn all_files_that_may_be_open_can_be_opened_but_by_what_is_started_as_given() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit {
            current: Some(before.maximum.map_or(512, |maximum| maximum.min(512))),
            maximum: before.maximum,
        };
        setrlimit(Resource::Nofile, low).unwrap();
        let open_files = raise_open_files();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.current, before.maximum);
        assert_eq!(after.maximum, before.maximum);
        let started = open_files.as_given(|| getrlimit(Resource::Nofile));
        assert_eq!(started.current, low.current);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn freed_memory_between_blocks_that_are_used_is_given_back() {
        const BLOCKS: usize = 2000;
        const LEN: usize = 64 << 10;
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("RssAnon:"));
            let number = line.unwrap().trim().strip_suffix(" kB").unwrap();
            number.parse::<usize>().unwrap() * 1024
        };
        let (mut freed, mut used) = (Vec::new(), Vec::new());
        for _ in 0..BLOCKS {
            freed.push(vec![1_u8; LEN]);
            used.push(vec![1_u8; 1024]);
        }
        drop(freed);
        let before = resident();
        give_back_memory();
        let after = resident();
        drop(used);
        assert!(after + BLOCKS * LEN / 2 < before, "{before} {after}");
    }

    #[test]
    fn a_process_that_is_asked_to_stop_ends_by_that_signal() {
        let mut command = std::process::Command::new("sleep");
        let mut child = command.arg("1000").spawn().unwrap();
        ask_to_stop(child.id()).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(signal_of(status), Some(Signal::TERM.as_raw()));
    }
}
