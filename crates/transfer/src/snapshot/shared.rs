//! What all files of one snapshot or upload share.

use std::sync::Arc;

use attachfs_fetch::ByteBudget;

use super::reading::Reading;
use super::report::HashOptions;
use super::storing::Objects;
use crate::meter::Meter;
use crate::upload::Uploader;

/// What all files of one snapshot or upload share.
pub(super) struct Shared {
    pub(super) reading: Reading,
    pub(super) objects: Objects,
    pub(super) memory: ByteBudget,
    /// What the hashes of files should be is said by somebody else: a file that has others is an error.
    pub(super) is_named: bool,
}

impl Shared {
    pub(super) fn new(
        options: HashOptions,
        store: Option<&Uploader>,
        meter: Arc<Meter>,
        is_named: bool,
    ) -> Self {
        // Only what is sent is worth keeping in memory.
        let small_file = store.map_or(0, |store| store.options.small_file);
        Self {
            reading: Reading::new(options, small_file, meter),
            objects: Objects::new(store.cloned()),
            memory: store.map_or_else(|| ByteBudget::new(0), |store| store.memory.clone()),
            is_named,
        }
    }

    /// The same, for files that are gone through once more.
    pub(super) fn again(&self, meter: Arc<Meter>) -> Self {
        let Reading {
            options,
            small_file,
            ..
        } = &self.reading;
        Self {
            reading: Reading::new(options.clone(), *small_file, meter),
            objects: self.objects.again(),
            memory: self.memory.clone(),
            is_named: self.is_named,
        }
    }
}
