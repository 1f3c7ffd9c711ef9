//! Caches with a budget of bytes: what was used longest ago goes first.

use std::hash::Hash;

use moka::policy::EvictionPolicy;

/// Bytes in a unit of a cache's budget: the library counts weights in 32 bits.
const UNIT: u64 = 1024;

/// The weight of so many bytes.
pub(crate) fn weight(bytes: u64) -> u32 {
    bytes.div_ceil(UNIT).max(1).try_into().unwrap_or(u32::MAX)
}

/// The weight of a budget of so many bytes.
fn budget(bytes: u64) -> u64 {
    (bytes / UNIT).max(1)
}

/// A cache that is used without waiting.
pub(crate) fn weighed<K, V>(
    most: u64,
    weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static,
) -> moka::sync::Cache<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    moka::sync::Cache::builder()
        .max_capacity(budget(most))
        .weigher(weigher)
        .eviction_policy(EvictionPolicy::lru())
        .build()
}

/// A cache of values that take long to make: all who ask for one while it is made wait for the same one.
pub(crate) fn weighed_and_made<K, V>(
    most: u64,
    weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static,
) -> moka::future::Cache<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    moka::future::Cache::builder()
        .max_capacity(budget(most))
        .weigher(weigher)
        .eviction_policy(EvictionPolicy::lru())
        .build()
}
