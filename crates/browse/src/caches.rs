//! Caches with a budget of bytes.

use std::hash::Hash;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// A cache in one piece: by default the library makes several of it, and keeps nothing that is longer than one of them.
pub(crate) fn weighed<K, V, W>(items: usize, most: u64, weights: W) -> Cache<K, V, W>
where
    K: Eq + Hash + Clone,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let mut options = OptionsBuilder::new();
    options
        .estimated_items_capacity(items)
        .weight_capacity(most)
        .shards(1);
    match options.build() {
        Ok(options) => Cache::with_options(
            options,
            weights,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ),
        // Something was not set: as the library has it.
        Err(_) => Cache::with_weighter(items, most, weights),
    }
}
