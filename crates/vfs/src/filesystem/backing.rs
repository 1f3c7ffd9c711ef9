//! [`Backing`]: a local file that has exactly the bytes of an open one, for the kernel to read, and in scratch to write, by itself.
//!
//! ```text
//!     the first open of a node    the file system offers a local file, or decides that it serves reads and writes
//!     the adapter                 takes what is offered, or the kernel does not let it: then the requests come as ever
//!     later opens                 the same for all of them, until the node is closed
//!     an open for writing         of a file of the cache that the adapter has taken: the file gets another node; else it never will
//!                                 take it. Of a scratch file: the same one
//! ```

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use attachfs_fetch::WholeOnDisk;
use attachfs_store::Count;

/// Whether an adapter can have the kernel use [`Backing`] files. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Passthrough(Arc<Usable>);

#[derive(Debug, Default)]
struct Usable {
    cache: AtomicBool,
    scratch: AtomicBool,
}

impl Passthrough {
    /// It can, as far as it knows.
    pub fn begin(&self) {
        self.0.cache.store(true, Ordering::Relaxed);
        self.0.scratch.store(true, Ordering::Relaxed);
    }

    /// It cannot, and never will.
    pub fn give_up(&self) {
        self.0.cache.store(false, Ordering::Relaxed);
        self.0.scratch.store(false, Ordering::Relaxed);
    }

    /// It cannot use files of the place where this one is, and never will.
    pub fn give_up_place_of(&self, backing: &Backing) {
        self.of(backing.is_scratch())
            .store(false, Ordering::Relaxed);
    }

    /// Whether it can use this one, as far as it knows.
    pub fn can_use(&self, backing: &Backing) -> bool {
        self.of(backing.is_scratch()).load(Ordering::Relaxed)
    }

    /// Whether it can use any.
    pub fn is_usable(&self) -> bool {
        self.is_usable_for_cache() || self.is_usable_for_scratch()
    }

    pub(crate) fn is_usable_for_cache(&self) -> bool {
        self.of(false).load(Ordering::Relaxed)
    }

    pub(crate) fn is_usable_for_scratch(&self) -> bool {
        self.of(true).load(Ordering::Relaxed)
    }

    fn of(&self, is_scratch: bool) -> &AtomicBool {
        if is_scratch {
            &self.0.scratch
        } else {
            &self.0.cache
        }
    }
}

/// What the adapter keeps as long as the kernel may use the file.
type Taken = Box<dyn Any + Send + Sync>;

/// A local file, open for reading, with exactly the bytes of a node. It may lose its name meanwhile. All open handles of the node have
/// the same one; it is dropped when they are closed.
pub struct Backing {
    local: Local,
    /// The adapter's decision, for all handles of the node.
    taken: OnceLock<Option<Taken>>,
    tally: Arc<BackingTally>,
}

/// Which file it is.
enum Local {
    /// A file of the disk cache: the input that nobody may write.
    Input(WholeOnDisk),
    /// The scratch file of a node whose bytes are all in it. Opened when it is offered first: one that is emptied as it is opened
    /// may have had none before. The descriptor is for reading only, so that a lease does not count it as a writer; the kernel opens
    /// the file for each handle as that was opened.
    Scratch(OnceLock<Arc<File>>),
}

/// Counts what became of offered files.
#[derive(Debug, Default)]
pub(crate) struct BackingTally {
    /// Opens of inputs that the kernel reads by itself.
    pub(crate) opens: Count,
    /// Opens of scratch files that the kernel reads and writes by itself.
    pub(crate) scratch_opens: Count,
    /// Offered files that the adapter could not have the kernel read.
    pub(crate) refused: Count,
}

impl Backing {
    /// Offers a file of the disk cache.
    pub(crate) fn new(whole: WholeOnDisk, tally: Arc<BackingTally>) -> Self {
        Self::of(Local::Input(whole), tally)
    }

    /// Offers the scratch file of a node, which is [set](Self::set_scratch) before that.
    pub(crate) fn of_scratch(tally: Arc<BackingTally>) -> Self {
        Self::of(Local::Scratch(OnceLock::new()), tally)
    }

    fn of(local: Local, tally: Arc<BackingTally>) -> Self {
        Self {
            local,
            taken: OnceLock::new(),
            tally,
        }
    }

    /// What the adapter made of the file: at the first call by `take`, later what came of that. `None` if the kernel is not
    /// to have it: it could not be taken, or that was decided before. Call this once for each open.
    pub fn taken_by<T: Any + Send + Sync>(
        &self,
        take: impl FnOnce(&File) -> Option<T>,
    ) -> Option<&T> {
        let taken = self.taken.get_or_init(|| {
            let file = match &self.local {
                Local::Input(whole) => whole.file(),
                Local::Scratch(file) => file.get()?,
            };
            let taken = take(file);
            if taken.is_none() {
                self.tally.refused.add(1);
            }
            Some(Box::new(taken?) as Taken)
        });
        let taken = taken.as_ref()?.downcast_ref();
        if taken.is_some() {
            let opens = match self.local {
                Local::Input(_) => &self.tally.opens,
                Local::Scratch(_) => &self.tally.scratch_opens,
            };
            opens.add(1);
        }
        taken
    }

    /// Whether the adapter has taken it. If it has not yet, it never will.
    pub(crate) fn is_taken(&self) -> bool {
        self.taken.get_or_init(|| None).is_some()
    }

    /// Whether the adapter has taken it so far.
    pub(crate) fn was_taken(&self) -> bool {
        self.taken.get().is_some_and(Option::is_some)
    }

    /// Whether it is a scratch file.
    pub fn is_scratch(&self) -> bool {
        matches!(self.local, Local::Scratch(_))
    }

    /// Sets the scratch file, open for reading, if it was not set yet.
    pub(crate) fn set_scratch(&self, file: Arc<File>) {
        if let Local::Scratch(set) = &self.local {
            set.get_or_init(|| file);
        }
    }

    /// The file of the disk cache, if the adapter has taken it so far.
    pub(crate) fn taken_input(&self) -> Option<&WholeOnDisk> {
        self.taken.get()?.as_ref()?;
        match &self.local {
            Local::Input(whole) => Some(whole),
            Local::Scratch(_) => None,
        }
    }
}

impl fmt::Debug for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = self.taken.get().map(Option::is_some);
        f.debug_struct("Backing")
            .field("is_scratch", &self.is_scratch())
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

    #[test]
    fn a_scratch_file_is_taken_once_it_is_set_and_counted_apart() {
        let (_, tally) = offered();
        let backing = Backing::of_scratch(Arc::clone(&tally));
        backing.set_scratch(Arc::new(tempfile::tempfile().unwrap()));
        assert_eq!(backing.taken_by(|_| Some(7_u32)), Some(&7));
        assert!(backing.is_taken() && backing.taken_input().is_none());
        assert_eq!((tally.opens.get(), tally.scratch_opens.get()), (0, 1));
        // One that was never opened cannot be.
        let backing = Backing::of_scratch(tally);
        assert_eq!(backing.taken_by(|_| Some(7_u32)), None);
    }

    #[test]
    fn a_place_whose_files_cannot_be_used_is_given_up_alone() {
        let passthrough = Passthrough::default();
        passthrough.begin();
        let (input, tally) = offered();
        let scratch = Backing::of_scratch(tally);
        passthrough.give_up_place_of(&input);
        assert!(passthrough.can_use(&scratch) && !passthrough.can_use(&input));
        passthrough.give_up();
        assert!(!passthrough.is_usable());
    }
}
