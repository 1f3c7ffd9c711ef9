//! What a program that is started gets of the files that are open here.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{Errno, FdFlags};

/// Lets programs that are started from now on inherit standard input, output and error, and nothing else.
///
/// Descriptors that whoever started this process left open, a lock for example, would stay open as long as
/// a program in the background runs.
pub(super) fn pass_on_standard_files_only() -> io::Result<()> {
    let mut open: Vec<RawFd> = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number: Option<RawFd> = name.to_str().and_then(|name| name.parse().ok());
        open.extend(number.filter(|&number| number > 2));
    }
    for number in open {
        // SAFETY: the descriptor is borrowed for one call, which changes nothing but its flag. If it was
        // closed since it was listed, as the one that the list was read through, the call fails with EBADF.
        #[allow(unsafe_code, reason = "nobody in this process owns what it inherited")]
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        match rustix::io::fcntl_setfd(file, FdFlags::CLOEXEC) {
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_inherits_no_other_files() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        rustix::io::fcntl_setfd(&file, FdFlags::empty()).unwrap();
        let inherits = || {
            let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).output();
            String::from_utf8_lossy(&listed.unwrap().stdout).contains("/status")
        };
        assert!(inherits());
        pass_on_standard_files_only().unwrap();
        assert!(!inherits());
    }
}
