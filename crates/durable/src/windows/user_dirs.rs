//! The user's directory for what stays on this machine; for a user without one that of all users.

use crate::UserDir;

pub(crate) const STATE_DIR: UserDir = UserDir {
    choices: &[
        ("LOCALAPPDATA", r"attachfs\state"),
        ("ProgramData", r"attachfs\state"),
    ],
    system: r"C:\ProgramData\attachfs\state",
};

pub(crate) const CACHE_DIR: UserDir = UserDir {
    choices: &[
        ("LOCALAPPDATA", r"attachfs\cache"),
        ("ProgramData", r"attachfs\cache"),
    ],
    system: r"C:\ProgramData\attachfs\cache",
};

pub(crate) const DATA_DIR: UserDir = UserDir {
    choices: &[
        ("LOCALAPPDATA", r"attachfs\data"),
        ("ProgramData", r"attachfs\data"),
    ],
    system: r"C:\ProgramData\attachfs\data",
};
