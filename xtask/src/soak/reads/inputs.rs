//! The files that are read. What is in them follows from a seed, so that each byte that a reader gets can be checked by itself.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Objects up to this length are verified before a byte of them is given out; of longer ones bytes that the store has wrong may be
/// given out until all of the object was read.
pub(super) const VERIFIED_FIRST: u64 = 8 << 20;

/// An input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) path: String,
    pub(super) size: u64,
    seed: u64,
}

/// All inputs of a soak with this seed: long ones first, then middling ones, then small ones in directories.
pub(super) fn all(seed: u64) -> Vec<Input> {
    const KIB: u64 = 1 << 10;
    let kinds: [(&str, u64, u64, u64); 3] = [
        ("long", 8, 9 << 10, 24 << 10),
        ("middling", 10, 1 << 10, 7 << 10),
        ("small", 300, 1, 200),
    ];
    let mut inputs = Vec::new();
    for (kind, many, least, most) in kinds {
        for number in 0..many {
            let own = mixed(seed ^ mixed(inputs.len() as u64));
            let size = (least + own % (most - least)) * KIB + own % 997;
            let path = format!("{kind}/{}/{number:03}", number / 20);
            inputs.push(Input {
                path,
                size,
                seed: own,
            });
        }
    }
    inputs
}

impl Input {
    pub(super) fn is_verified_first(&self) -> bool {
        self.size <= VERIFIED_FIRST
    }

    /// The bytes from this offset on.
    pub(super) fn fill(&self, offset: u64, to: &mut [u8]) {
        let (mut at, mut rest) = (offset, to);
        while !rest.is_empty() {
            let word = mixed(self.seed ^ (at / 8)).to_le_bytes();
            let part = &word[(at % 8) as usize..];
            let length = part.len().min(rest.len());
            let (now, later) = rest.split_at_mut(length);
            now.copy_from_slice(&part[..length]);
            (at, rest) = (at + length as u64, later);
        }
    }

    /// The offsets in the file at which these bytes differ from what is there.
    pub(super) fn differences(&self, offset: u64, found: &[u8]) -> Vec<u64> {
        let mut expected = vec![0; found.len()];
        self.fill(offset, &mut expected);
        if expected == found {
            return Vec::new();
        }
        let pairs = (offset..).zip(expected.iter().zip(found));
        let differ = pairs.filter(|(_, (expected, found))| expected != found);
        differ.map(|(at, _)| at).collect()
    }
}

/// Writes the inputs below a directory.
pub(super) fn write(inputs: &[Input], dir: &Path) -> Result<()> {
    for input in inputs {
        let path = dir.join(&input.path);
        let mut bytes = vec![0; input.size as usize];
        input.fill(0, &mut bytes);
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, bytes))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// `SplitMix64`: one number for each number, without a pattern.
pub(in crate::soak) fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_an_input_is_what_all_of_it_has_there_and_one_wrong_byte_is_found() {
        let input = &all(1)[0];
        let (mut all, mut part) = (vec![0; 100], vec![0; 30]);
        input.fill(0, &mut all);
        input.fill(13, &mut part);
        assert_eq!(part, all[13..43]);
        part[7] ^= 1;
        assert_eq!(input.differences(13, &part), [20]);
        assert!(input.differences(0, &all).is_empty());
    }
}
