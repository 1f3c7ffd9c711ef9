//! What may go wrong for a reader, and what may not.
//!
//! - An error is EIO, and only while the store is in trouble or at most [`GRACE`] after; of a long object that the store had wrong or
//!   replaced, at most [`WRONG_FOR`] after. A disk in trouble is no reason for an error.
//! - A wrong byte is one that the server says it sent: of this object, at this offset; and the object is longer than 8 MiB, so that
//!   bytes of it are given out before all of it is verified.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::inputs::Input;
use super::phases::{Phase, Trouble};
use super::readers::{Count, Failed, Wrong};

/// What a read may wait for the store, in seconds (`--op-timeout`).
pub(super) const OP_TIMEOUT: u64 = 8;
/// A read that takes longer than this is a failure: its deadline, the wait in line behind others and for a processor.
pub(super) const LONGEST: u64 = 4 * OP_TIMEOUT;
/// Errors may come for so long after the store is right again, in milliseconds: a read that began before waits for its deadline.
const GRACE: u64 = 1000 * (OP_TIMEOUT + 4);
/// An object that was wrong is asked for again after 30 seconds, in milliseconds.
const WRONG_FOR: u64 = 34_000;

/// What the server had wrong.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Told {
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) wrong: HashMap<String, BTreeSet<u64>>,
}

/// What came of the reads so far.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) reads: u64,
    pub(super) bytes: u64,
    /// Permitted errors and their numbers, by the trouble.
    pub(super) errors: BTreeMap<(&'static str, i32), u64>,
    /// Reads with wrong bytes that the promise excludes.
    pub(super) excluded: u64,
    /// The longest read in milliseconds, by the trouble; "" is without.
    pub(super) worst: BTreeMap<&'static str, u64>,
    /// What may not be.
    pub(super) broken: Vec<String>,
}

impl Outcome {
    pub(super) fn count(&mut self, count: &Count, phases: &[Phase]) {
        self.reads += count.reads;
        self.bytes += count.bytes;
        let trouble = phases
            .iter()
            .rfind(|phase| phase.start <= count.end && count.end <= phase.end + GRACE);
        let worst = self
            .worst
            .entry(trouble.map_or("", |phase| phase.trouble.name()))
            .or_default();
        *worst = count.worst.max(*worst);
        if count.worst > 1000 * LONGEST {
            self.broken.push(format!("a read took {} ms", count.worst));
        }
    }

    pub(super) fn failed(&mut self, failed: &Failed, inputs: &[Input], phases: &[Phase]) {
        let input = inputs.iter().find(|input| input.path == failed.path);
        let start = failed.end.saturating_sub(failed.took);
        let is_excused = |phase: &&Phase| {
            let Trouble::Store(_, rates) = phase.trouble else {
                return false;
            };
            let replaces =
                rates.contains("wrong") && input.is_some_and(|it| !it.is_verified_first());
            let after = if replaces { WRONG_FOR } else { GRACE };
            start <= phase.end + after && phase.start <= failed.end
        };
        match phases.iter().rfind(is_excused) {
            Some(phase) if failed.errno == 5 => {
                let name = phase.trouble.name();
                *self.errors.entry((name, failed.errno)).or_default() += 1;
            }
            _ => self.broken.push(format!("an error: {failed:?}")),
        }
    }

    pub(super) fn wrong(&mut self, wrong: &Wrong, inputs: &[Input], keys: &Keys, told: &Told) {
        let input = inputs.iter().find(|input| input.path == wrong.path);
        let sent = keys.0.get(&wrong.path).and_then(|key| told.wrong.get(key));
        let is_excluded = !wrong.at.is_empty()
            && input.is_some_and(|input| !input.is_verified_first())
            && sent.is_some_and(|sent| wrong.at.iter().all(|at| sent.contains(at)));
        if is_excluded {
            self.excluded += 1;
        } else {
            self.broken.push(format!("wrong bytes: {wrong:?}"));
        }
    }
}

/// The keys of the objects, by path.
#[derive(Debug, Default)]
pub(super) struct Keys(pub(super) HashMap<String, String>);

#[cfg(test)]
mod tests {
    use super::super::inputs::all;
    use super::*;

    const STORE: Trouble = Trouble::Store("refusals", "internal=500");

    fn phase(trouble: Trouble) -> [Phase; 1] {
        [Phase {
            trouble,
            start: 100_000,
            end: 110_000,
        }]
    }

    fn broken(path: &str, end: u64, errno: i32, trouble: Trouble) -> usize {
        let failed = Failed {
            end,
            took: 10,
            what: String::new(),
            path: path.to_owned(),
            errno,
        };
        let mut outcome = Outcome::default();
        outcome.failed(&failed, &all(1), &phase(trouble));
        outcome.broken.len()
    }

    #[test]
    fn only_a_store_in_trouble_excuses_errors_and_only_for_its_time() {
        let inputs = all(1);
        let (long, small) = (inputs[0].path.as_str(), inputs[30].path.as_str());
        assert_eq!(broken(small, 105_000, 5, STORE), 0);
        assert_eq!(broken(small, 110_000 + GRACE, 5, STORE), 0);
        assert_eq!(broken(small, 110_011 + GRACE, 5, STORE), 1);
        assert_eq!(broken(small, 99_000, 5, STORE), 1);
        assert_eq!(broken(small, 105_000, 2, STORE), 1);
        assert_eq!(broken(small, 105_000, 5, Trouble::FullDisk), 1);
        let wrong = Trouble::Store("wrong", "wrong=100");
        assert_eq!(broken(long, 130_000, 5, wrong), 0);
        assert_eq!(broken(small, 130_000, 5, wrong), 1);
    }

    #[test]
    fn a_wrong_byte_is_excused_where_the_server_sent_it_of_a_long_object_only() {
        let inputs = all(1);
        let paths = [&inputs[0].path, &inputs[30].path];
        let keys = Keys(
            paths
                .iter()
                .map(|&path| (path.clone(), path.clone()))
                .collect(),
        );
        let told = Told {
            wrong: paths
                .iter()
                .map(|&path| (path.clone(), BTreeSet::from([7])))
                .collect(),
            ..Told::default()
        };
        let broken = |path: &str, at: &[u64]| {
            let wrong = Wrong {
                end: 0,
                what: String::new(),
                path: path.to_owned(),
                at: at.to_vec(),
            };
            let mut outcome = Outcome::default();
            outcome.wrong(&wrong, &inputs, &keys, &told);
            outcome.broken.len()
        };
        assert_eq!(broken(paths[0], &[7]), 0);
        assert_eq!(broken(paths[0], &[8]), 1);
        assert_eq!(broken(paths[0], &[7, 8]), 1);
        assert_eq!(broken(paths[0], &[]), 1);
        assert_eq!(broken(paths[1], &[7]), 1);
    }
}
