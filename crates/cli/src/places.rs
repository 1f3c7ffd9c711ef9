//! Where this user's things are: the one place that reads the environment for it.

use std::path::PathBuf;

use attachfs::{CacheDir, Places};

/// What is kept where.
#[derive(Debug, Clone, Copy)]
enum Kept {
    State,
    Cache,
    Data,
}

/// The XDG directories; for a user without a home, as services are, those of the system. On Windows below
/// `%LOCALAPPDATA%\attachfs`, or `%ProgramData%\attachfs` without one.
pub(crate) fn places(cache_dir: Option<PathBuf>) -> Places {
    let place = if cfg!(windows) { windows } else { xdg };
    Places {
        state: place(Kept::State),
        cache: CacheDir::new(cache_dir.unwrap_or_else(|| place(Kept::Cache))),
        data: place(Kept::Data),
    }
}

fn absolute(variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.filter(|path| path.is_absolute())
}

fn xdg(kept: Kept) -> PathBuf {
    let (variable, below_home, system) = match kept {
        Kept::State => ("XDG_STATE_HOME", ".local/state", "/var/lib/attachfs"),
        Kept::Cache => ("XDG_CACHE_HOME", ".cache", "/var/cache/attachfs"),
        Kept::Data => ("XDG_DATA_HOME", ".local/share", "/var/lib/attachfs"),
    };
    let of_home = || absolute("HOME").map(|home| home.join(below_home));
    let chosen = absolute(variable).or_else(of_home);
    chosen.map_or_else(|| system.into(), |dir| dir.join("attachfs"))
}

fn windows(kept: Kept) -> PathBuf {
    let own = absolute("LOCALAPPDATA").or_else(|| absolute("ProgramData"));
    let own = own.unwrap_or_else(|| r"C:\ProgramData".into());
    own.join("attachfs").join(match kept {
        Kept::State => "state",
        Kept::Cache => "cache",
        Kept::Data => "data",
    })
}
