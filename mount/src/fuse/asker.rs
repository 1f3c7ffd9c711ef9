//! Which process a request comes from, as far as `/proc` tells.
//!
//! The process waits for its answer, so it is there as long as that is not given. Nothing is read of it that it could hold back: its memory
//! map, for one, may be locked while it waits.

use std::fs;

use attachfs_vfs::Asker;

/// The process of a thread. The kernel names the thread that asks; 0 is one that cannot be seen from here.
pub(super) fn asker(thread: u32) -> Option<Asker> {
    let status = fs::read(format!("/proc/{thread}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    let pid = process?.trim().parse().ok()?;
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(Asker {
        pid,
        name: String::from_utf8_lossy(name.trim_ascii_end()).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_told_by_its_process() {
        let told = std::thread::spawn(|| {
            let thread = rustix::thread::gettid().as_raw_pid();
            asker(thread.cast_unsigned())
        });
        let asker = told.join().unwrap().unwrap();
        assert_eq!(asker.pid, std::process::id());
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(asker.name, name.trim_end());
    }

    #[test]
    fn a_process_that_cannot_be_seen_is_not_told() {
        assert_eq!(asker(0), None);
    }
}
