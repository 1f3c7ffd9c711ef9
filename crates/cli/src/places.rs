//! Where this user's things are: the one place that reads the environment for it.

use std::path::PathBuf;

use attachfs::{CacheDir, Places};

/// The XDG directories; for a user without a home, as services are, those of the system.
pub(crate) fn places(cache_dir: Option<PathBuf>) -> Places {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = absolute("HOME");
    let place = |variable: &str, below_home: &str, system: &str| {
        let of_home = || {
            home.as_ref()
                .map(|home| home.join(below_home).join("attachfs"))
        };
        let chosen = absolute(variable).map(|dir| dir.join("attachfs"));
        chosen
            .or_else(of_home)
            .unwrap_or_else(|| PathBuf::from(system))
    };
    Places {
        state: place("XDG_STATE_HOME", ".local/state", "/var/lib/attachfs"),
        cache: CacheDir::new(
            cache_dir.unwrap_or_else(|| place("XDG_CACHE_HOME", ".cache", "/var/cache/attachfs")),
        ),
        data: place("XDG_DATA_HOME", ".local/share", "/var/lib/attachfs"),
    }
}
