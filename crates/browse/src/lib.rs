//! Outputs of jobs as folders: a read-only [`FileSystem`](attachfs_vfs::FileSystem) that is listed where somebody looks.
//!
//! ```text
//!     latest/<root>/…                      what the latest run of each task made, later runs over earlier ones
//!     by-step/<step>/<task>/<root>/…       the latest run of one task; a session action where tasks of a step run together
//!     by-time/<when>_<action>/<root>/…     each run by itself
//!     inputs/<root>/…                      what the job was given, if that is known
//!     <job>/…                              a folder for each job, if there are several
//! ```
//!
//! ```text
//!     FileSystem (filesystem.rs)      nodes, handles, answers
//!        |
//!     Engine                          what is in a folder: now if it is here, else when the store has answered
//!        |---- Fresh<JobIndex>        the keys of a job, listed again while somebody looks at it       fresh.rs, index.rs
//!        |---- Tree                   manifests laid over one another, one tree for each root          tree.rs
//!        `---- Source                 requests for keys and manifests, each with a deadline            source.rs
//! ```
//!
//! **Memory.** Listings and trees are kept within a budget of bytes; those that nobody has used for the longest time go first. One that is longer
//! than the budget is kept all the same, as long as it is in use. A node is forgotten when the adapter forgets it.
//!
//! **Numbers.** The number of a directory is made of its path, that of a file of its path and of what the manifest says of
//! it. So they are the same after each listing and in each mount, and a file that another run has written anew is another file, as after a
//! rename over it: who has the old one open goes on with its bytes.
//!
//! **Failures.** If a listing fails, the look that needed it fails, and the next look asks again. If there is an earlier listing, that
//! is shown, and the failure is logged: a folder is never shown empty because the store did not answer.

mod caches;
mod engine;
mod failed;
mod filesystem;
mod fresh;
mod handles;
mod index;
mod listing;
mod names;
mod nodes;
mod options;
mod place;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod xattrs;

pub use filesystem::Browse;
pub use index::roots_of;
pub use names::{NamedRoot, name_roots};
pub use options::{BrowseOptions, JobInput, Scope};
