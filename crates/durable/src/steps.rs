//! The durable steps: every operation that decides what is on a disk after a power loss.
//!
//! Each has a name in one table and is taken by one function, [`perform`]. With the feature `testing` a test
//! sees the steps below a directory in their order, lets one fail, or stops at one (`Recorder`), and
//! [`LEFT_OUT`] leaves out the step of that name, so that it can be shown that a test notices. Without
//! the feature `perform` tells a [`Listener`], if there is one, and is otherwise its closure.
//!
//! Writing to a file that is still being filled is no step: only its sync counts.

#[cfg(test)]
mod ordering;
#[cfg(any(test, feature = "testing"))]
mod recorder;

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

#[cfg(any(test, feature = "testing"))]
pub use recorder::{Paused, Recorder, Taken};

/// The variable that names a step which test builds leave out.
pub const LEFT_OUT: &str = "ATTACHFS_SKIP_STEP";

/// What a step does to its file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Writes bytes, or sets the length.
    Write,
    /// Makes the bytes of a file durable.
    SyncFile,
    /// Makes the names in a directory durable.
    SyncDir,
    /// Gives a file a name. The step is about the new name.
    Name,
    /// Takes a name away.
    Remove,
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident: $act:ident,)*) => {
        /// The name of a durable step.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Step {
            $($(#[$doc])* $name,)*
        }

        impl Step {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What the step does.
            pub fn act(self) -> Act {
                match self {
                    $(Self::$name => Act::$act,)*
                }
            }
        }
    };
}

steps! {
    /// The content of a file that is about to get its name.
    StagedContent: SyncFile,
    /// That file gets its name, replacing the file that had it.
    StagedRename: Name,
    /// That file gets its name, if nothing has it.
    StagedLink: Name,
    /// That name.
    StagedName: SyncDir,
    /// The names that several callers gave at the same time.
    GroupNames: SyncDir,
    /// The name of a directory that was made by its path.
    DirName: SyncDir,
    /// The content of a file in a directory of this user's own, before it gets its name.
    OwnContent: SyncFile,
    /// That file gets its name, replacing the file that had it.
    OwnRename: Name,
    /// That name.
    OwnName: SyncDir,
    /// The name of a directory in one of this user's own.
    OwnDirName: SyncDir,
    /// The name of a directory that was made for a session.
    ClaimName: SyncDir,
    /// A file in a directory of this user's own is removed.
    OwnRemove: Remove,
    /// A record is appended.
    JournalAppend: Write,
    /// A record that was appended only in part is cut off.
    JournalUndo: Write,
    /// A torn record is cut off when a session is taken over.
    JournalCut: Write,
    /// A journal of the version before gets the present version's number when a session is taken over.
    JournalVersion: Write,
    /// All records up to now.
    JournalSync: SyncFile,
    /// A compacted journal, with all records that can be durable in the journal that it replaces.
    CompactedContent: SyncFile,
    /// The records that were appended before it replaced the other one.
    CompactedRest: SyncFile,
    /// The name of the compacted journal.
    CompactedName: SyncDir,
    /// The bytes that a job writes.
    ScratchWrite: Write,
    /// A job sets the length of a file.
    ScratchLength: Write,
    /// The bytes of a file, at a job's own fsync.
    ScratchSync: SyncFile,
    /// Bytes that come before the records which speak of them.
    ScratchFirst: SyncFile,
    /// The names of scratch files.
    ScratchNames: SyncDir,
    /// All that was written to scratch files, when a session is kept.
    ScratchAll: SyncDir,
    /// A scratch file loses bytes that do not count any more.
    ScratchShorten: Write,
    /// A scratch file that lost its last bytes with the power gets its length back.
    ScratchLengthen: Write,
    /// A scratch file without a record is moved aside.
    AsideRename: Name,
    /// Its name there.
    AsideName: SyncDir,
    /// That its old name is gone.
    AsideGone: SyncDir,
    /// The entry of a session that lies elsewhere.
    RegistryLink: Name,
    /// That entry's name.
    RegistryName: SyncDir,
    /// That the entry of a session is gone.
    RegistryGone: SyncDir,
    /// The log of a deleted session is moved to where logs are kept.
    LogRename: Name,
    /// The names of logs.
    LogNames: SyncDir,
}

/// When somebody hears of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The step is about to be taken.
    Before,
    /// It was taken, successfully.
    After,
}

/// Who hears of each step of this process, on the thread that takes it and with the locks that it has.
pub type Listener = fn(When, Step);

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// From now on this listener hears of each step. There is one in a process: a second one is not heard.
pub fn listen(listener: Listener) {
    // The first listener stays.
    let _ = LISTENER.set(listener);
}

/// Takes a step; with the feature `testing`, if no recorder says otherwise. `about` is the file or directory.
#[inline]
pub fn perform(
    step: Step,
    about: impl FnOnce() -> PathBuf,
    act: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let Some(tell) = LISTENER.get() else {
        return act_recorded(step, about, act);
    };
    tell(When::Before, step);
    act_recorded(step, about, act)?;
    tell(When::After, step);
    Ok(())
}

#[cfg(not(any(test, feature = "testing")))]
#[inline]
fn act_recorded(
    _step: Step,
    _about: impl FnOnce() -> PathBuf,
    act: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    act()
}

#[cfg(any(test, feature = "testing"))]
fn act_recorded(
    step: Step,
    about: impl FnOnce() -> PathBuf,
    act: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    recorder::perform(step, about, act)
}
