//! [`Backing`]: a local file that has exactly the bytes of an open one, for the kernel to read by itself.
//!
//! ```text
//!     the first open of a node    the file system offers a local file, or decides that it serves the reads
//!     the adapter                 takes what is offered, or the kernel does not let it: then the reads come as ever
//!     later opens                 the same for all of them, until the node is closed
//!     an open for writing         if the adapter has taken it: the file gets another node; else it never will take it
//! ```

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use attachfs_fetch::WholeOnDisk;
use attachfs_store::Count;

/// Whether an adapter can have the kernel read [`Backing`] files. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Passthrough(Arc<AtomicBool>);

impl Passthrough {
    /// It can, as far as it knows.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// It cannot, and never will.
    pub fn give_up(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it can.
    pub fn is_usable(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the adapter keeps as long as the kernel may read the file.
type Taken = Box<dyn Any + Send + Sync>;

/// A local file, open for reading, with exactly the bytes of a node. It may lose its name meanwhile. All open handles of the node have
/// the same one; it is dropped when they are closed.
pub struct Backing {
    whole: WholeOnDisk,
    /// The adapter's decision, for all handles of the node.
    taken: OnceLock<Option<Taken>>,
    tally: Arc<BackingTally>,
}

/// Counts what became of offered files.
#[derive(Debug, Default)]
pub(crate) struct BackingTally {
    /// Opens of files that the kernel reads by itself.
    pub(crate) opens: Count,
    /// Offered files that the adapter could not have the kernel read.
    pub(crate) refused: Count,
}

impl Backing {
    /// Offers a file.
    pub(crate) fn new(whole: WholeOnDisk, tally: Arc<BackingTally>) -> Self {
        Self {
            whole,
            taken: OnceLock::new(),
            tally,
        }
    }

    /// What the adapter made of the file: at the first call by `take`, later what came of that. `None` if the kernel is not
    /// to read it: it could not be taken, or the node was opened for writing before. Call this once for each open.
    pub fn taken_by<T: Any + Send + Sync>(
        &self,
        take: impl FnOnce(&File) -> Option<T>,
    ) -> Option<&T> {
        let taken = self.taken.get_or_init(|| {
            let taken = take(self.whole.file());
            if taken.is_none() {
                self.tally.refused.add(1);
            }
            Some(Box::new(taken?) as Taken)
        });
        let taken = taken.as_ref()?.downcast_ref();
        if taken.is_some() {
            self.tally.opens.add(1);
        }
        taken
    }

    /// Whether the adapter has taken it. If it has not yet, it never will.
    pub(crate) fn is_taken(&self) -> bool {
        self.taken.get_or_init(|| None).is_some()
    }

    /// The file, if the adapter has taken it so far.
    pub(crate) fn taken_file(&self) -> Option<&WholeOnDisk> {
        let taken = self.taken.get()?;
        taken.as_ref().map(|_| &self.whole)
    }
}

impl fmt::Debug for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = self.taken.get().map(Option::is_some);
        f.debug_struct("Backing")
            .field("taken", &taken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use attachfs_manifest::ContentHash;

    use super::*;

    fn offered() -> (Backing, Arc<BackingTally>) {
        let tally = Arc::<BackingTally>::default();
        let file = tempfile::tempfile().unwrap();
        let whole = WholeOnDisk::new(file, ContentHash::of(b""), 0);
        (Backing::new(whole, Arc::clone(&tally)), tally)
    }

    #[test]
    fn it_is_taken_once_for_all_opens() {
        let (backing, tally) = offered();
        assert_eq!(backing.taken_by(|_| Some(7_u32)), Some(&7));
        assert_eq!(backing.taken_by(|_| Some(8_u32)), Some(&7));
        assert!(backing.is_taken());
        assert_eq!((tally.opens.get(), tally.refused.get()), (2, 0));
    }

    #[test]
    fn what_could_not_be_taken_is_not_tried_again() {
        let (backing, tally) = offered();
        assert_eq!(backing.taken_by(|_| None::<u32>), None);
        assert_eq!(backing.taken_by(|_| Some(8_u32)), None);
        assert!(!backing.is_taken());
        assert_eq!((tally.opens.get(), tally.refused.get()), (0, 1));
    }

    #[test]
    fn it_is_not_taken_any_more_after_somebody_was_told_that_it_is_not() {
        let (backing, tally) = offered();
        assert!(!backing.is_taken());
        assert_eq!(backing.taken_by(|_| Some(7_u32)), None);
        assert_eq!((tally.opens.get(), tally.refused.get()), (0, 0));
    }
}
