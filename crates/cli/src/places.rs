//! Where this user's things are: the one place that reads the environment for it.

use std::path::PathBuf;

use attachfs::{CACHE_DIR, CacheDir, DATA_DIR, Places, STATE_DIR, UserDir};

/// Where the platform keeps a user's things.
pub(crate) fn places() -> Places {
    let place = |dir: UserDir| dir.path(|variable| std::env::var_os(variable));
    Places {
        state: place(STATE_DIR),
        cache: CacheDir::new(place(CACHE_DIR)),
        data: place(DATA_DIR),
    }
}

/// The same, unless the cache is said to be elsewhere. A directory of somebody's files is refused: nothing of a cache is put among them.
pub(crate) fn places_with(cache_dir: Option<PathBuf>) -> Result<Places, attachfs::Error> {
    let places = places();
    let Some(dir) = cache_dir else {
        return Ok(places);
    };
    let cache = CacheDir::new(dir);
    cache.require_cache()?;
    Ok(Places { cache, ..places })
}
