//! Where this user's things are: the one place that reads the environment for it.

use std::path::PathBuf;

use attachfs::{CACHE_DIR, CacheDir, DATA_DIR, Places, STATE_DIR, UserDir};

/// Where the platform keeps a user's things, unless the cache is said to be elsewhere.
pub(crate) fn places(cache_dir: Option<PathBuf>) -> Places {
    let place = |dir: UserDir| dir.path(|variable| std::env::var_os(variable));
    Places {
        state: place(STATE_DIR),
        cache: CacheDir::new(cache_dir.unwrap_or_else(|| place(CACHE_DIR))),
        data: place(DATA_DIR),
    }
}
