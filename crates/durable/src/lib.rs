//! Files that survive a crash, and operations on files that the standard library lacks.
//!
//! *Durable* means one order of steps, and this crate is its only home:
//!
//! ```text
//!     create a file with an unpredictable name beside the target      Staged::create_in
//!     write                                                           Staged::file
//!     fsync the file, rename it, fsync the directory                  Staged::publish
//! ```
//!
//! A reader therefore sees the whole file or none of it, before and after a power loss. What is
//! created here belongs to its owner alone (directories 0700, files 0600) unless [`Sharing`] says
//! otherwise. Every such step has a name and is taken in one place, see [`steps`].
//!
//! Functions that are given a path fail with [`DurableError`], which names it. Functions that are
//! given an open file fail with [`std::io::Error`]: their caller knows what the file is called.
//! All of them block; callers keep them off the threads that must not.
//!
//! This is the platform floor: `std::os`, rustix and windows-sys are named in `unix.rs` and `windows.rs`, what lies below
//! those, and in `mount/`, and nowhere else. Both files have the same functions; each has a caller here that says what
//! it guarantees, and where Windows differs.

mod boot;
mod buffer;
mod buffer_pool;
mod cache_dir;
mod copy;
mod dir;
mod error;
mod group;
mod held;
mod holes;
mod lease;
mod lock;
mod log;
mod mounted;
mod names;
mod open;
mod own;
mod own_dir;
mod process;
mod random;
mod refusal;
mod reserved;
mod socket;
mod space;
mod staged;
mod stamp;
pub mod steps;
#[cfg(unix)]
mod unix;
mod user_dirs;
#[cfg(windows)]
mod windows;
mod writers;

pub use boot::boot_id;
pub use buffer::ReadBuffer;
pub use buffer_pool::{BufferPool, PooledBuffer};
pub use cache_dir::{
    Bounds, CacheDir, CacheDirError, CacheLimits, Chunk, ChunkList, Completeness, HashBytes,
    InJoined, JoinedFiles, LargeFiles, LargeForm, ObjectFiles, ObjectWriter, Pin, Pins, Place,
    Removal, SHELVES, StagedJoined, Stock, Stored, Sum, Sums, TreeFiles, check_database,
};
pub use copy::{
    Copied, can_reflink, clone_or_copy, copy_range, fill_at, read_exact_at, read_range, reflink,
    write_all_at, write_at,
};
pub use dir::{
    Sharing, create_dir, create_link, create_private_dir, make_private_dir, read_link, sync_dir,
};
pub use error::DurableError;
pub use group::GroupSync;
pub use held::{
    Facts, Follow, HeldDir, Kind, Opening, is_mine, reserve, reserve_beyond, set_modified,
    share_file,
};
pub use holes::{Allocation, allocate, data_in, write_with_holes};
pub use lease::{Leasing, ReadLease};
pub use lock::FileLock;
pub use log::{create_log, is_file_at};
pub use mounted::{Mounted, mounted, mounts_of_table};
pub use names::{NameError, Names, path_bytes, path_of_bytes, slashed_bytes, windows_name};
pub use open::{act_as, make_private, may_all_read, open_file, open_file_through_links};
pub use own::{OwnFile, Standing, check_own_dir, check_own_file, open_to_append};
pub use own_dir::{
    BeforeClaim, Filling, Mapped, OwnDir, create_own_file, open_own_file, open_own_file_to_read,
    publish_own_file, read_own_file,
};
pub use process::{
    OpenFiles, Stop, StopSignal, ask_to_stop, give_back_memory, keep_little_freed_memory,
    lower_priority, raise_open_files, signal_of, user_numbers,
};
pub use random::random_bytes;
pub use refusal::Refusal;
pub use reserved::Reserved;
pub use socket::{Accepted, Connection, HangUp, Listener, Peer, SOCKET_KIND, SocketDir};
pub use space::{Space, open_files_limit, space};
pub use staged::{
    Staged, is_staged_name, publish, publish_if_absent, publish_shared, sweep_abandoned,
};
pub use stamp::FileStamp;
pub use user_dirs::{CACHE_DIR, DATA_DIR, STATE_DIR, UserDir};
pub use writers::{Writer, WrittenFile, writers_of};

use random::random_name;
#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;
