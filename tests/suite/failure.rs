//! What goes wrong around a mount: that it is said, with what to do, that it is told apart by its exit code, and that nothing is lost.

mod filling;
mod limits;
mod mounts;
mod reads;
mod slow;
mod writes;
pub(crate) mod wrong;

use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::machine::Machine;

/// A small folder's manifest, and its text.
fn base(machine: &Machine) -> PathBuf {
    machine.file("input/a", "a of the input\n");
    machine.file("input/dir/x", "x of the input\n");
    machine.snapshot(&machine.path("input"), "base.manifest")
}

fn errno(result: io::Result<impl std::fmt::Debug>) -> Option<Errno> {
    Errno::from_io_error(&result.unwrap_err())
}

/// Takes the store away.
fn take_away(machine: &Machine) {
    if machine.is_s3() {
        machine.server().stop();
    } else {
        fs::rename(machine.path("store"), machine.path("away")).unwrap();
    }
}

fn bring_back(machine: &Machine) {
    if machine.is_s3() {
        machine.server().start_again();
    } else {
        fs::rename(machine.path("away"), machine.path("store")).unwrap();
    }
}
