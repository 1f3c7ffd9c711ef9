//! Which start of the machine this is.

use std::fs;

/// A text that is another one after each start of the machine: what was written and not synced before it may not be
/// what it was. `None` where the system does not tell (Linux does).
pub fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
