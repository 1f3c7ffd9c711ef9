//! The XDG directories; for a user without a home those of the system.

use crate::UserDir;

pub(crate) const STATE_DIR: UserDir = UserDir {
    choices: &[
        ("XDG_STATE_HOME", "attachfs"),
        ("HOME", ".local/state/attachfs"),
    ],
    system: "/var/lib/attachfs",
};

pub(crate) const CACHE_DIR: UserDir = UserDir {
    choices: &[("XDG_CACHE_HOME", "attachfs"), ("HOME", ".cache/attachfs")],
    system: "/var/cache/attachfs",
};

pub(crate) const DATA_DIR: UserDir = UserDir {
    choices: &[
        ("XDG_DATA_HOME", "attachfs"),
        ("HOME", ".local/share/attachfs"),
    ],
    system: "/var/lib/attachfs",
};
