//! [`UnitSet`]: some units of an object.

/// Which units have landed: a bit for each.
#[derive(Debug, Default)]
pub(super) struct UnitSet(Vec<u64>);

impl UnitSet {
    pub(super) fn new(units: u64) -> Self {
        Self(vec![0; units.div_ceil(64) as usize])
    }

    pub(super) fn has(&self, unit: u64) -> bool {
        let word = self.0.get((unit / 64) as usize);
        word.is_some_and(|word| word >> (unit % 64) & 1 == 1)
    }

    /// `false` if it was there before.
    pub(super) fn insert(&mut self, unit: u64) -> bool {
        let Some(word) = self.0.get_mut((unit / 64) as usize) else {
            return false;
        };
        let bit = 1 << (unit % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}
