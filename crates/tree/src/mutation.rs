//! Changes of a namespace, as the journal records them.

use attachfs_manifest::Name;
use serde::{Deserialize, Serialize};

use crate::{Attributes, Ino, Special, Timestamp};

/// One change. Every name in it was checked against the namespace before it was recorded;
/// [`Namespace::apply`](crate::Namespace::apply) checks again, so that a damaged journal is an error
/// and not a damaged tree.
///
/// The journal knows a variant by its place: new ones come last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutation {
    /// A new, empty file. Its content is the scratch file of `ino`.
    CreateFile {
        /// The directory.
        parent: Ino,
        /// The free name in it.
        name: Name,
        /// The new number.
        ino: Ino,
        /// Mode and owner.
        attributes: Attributes,
        /// When.
        time: Timestamp,
    },
    /// A new, empty directory.
    CreateDir {
        /// The directory it is in.
        parent: Ino,
        /// The free name in it.
        name: Name,
        /// The new number.
        ino: Ino,
        /// Mode and owner.
        attributes: Attributes,
        /// When.
        time: Timestamp,
    },
    /// A new symbolic link.
    CreateSymlink {
        /// The directory.
        parent: Ino,
        /// The free name in it.
        name: Name,
        /// The new number.
        ino: Ino,
        /// The text of the link.
        text: Box<[u8]>,
        /// Owner.
        attributes: Attributes,
        /// When.
        time: Timestamp,
    },
    /// One more name for a file or symbolic link.
    Link {
        /// The file.
        ino: Ino,
        /// The directory of the new name.
        parent: Ino,
        /// The free name in it.
        name: Name,
        /// When.
        time: Timestamp,
    },
    /// A name of a file or symbolic link goes.
    Unlink {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Name,
        /// When.
        time: Timestamp,
    },
    /// An empty directory goes.
    RemoveDir {
        /// The directory it is in.
        parent: Ino,
        /// Its name.
        name: Name,
        /// When.
        time: Timestamp,
    },
    /// A name moves, replacing what has the new name.
    Rename {
        /// The old directory.
        from_parent: Ino,
        /// The old name.
        from_name: Name,
        /// The new directory.
        to_parent: Ino,
        /// The new name.
        to_name: Name,
        /// When.
        time: Timestamp,
    },
    /// Attributes change; what is `None` stays.
    SetAttributes {
        /// Whose.
        ino: Ino,
        /// What changes.
        change: AttributeChange,
        /// When.
        time: Timestamp,
    },
    /// The content of a base file can be written from now on: the first `keep` bytes are the base's, the
    /// rest is in its scratch file. With `keep == 0` all of the content is scratch. The file keeps its number
    /// and its names.
    CopyUp {
        /// The base file.
        ino: Ino,
        /// How many bytes of the base file still count.
        keep: u64,
        /// When.
        time: Timestamp,
    },
    /// Bytes of a mapped file are in its scratch file.
    Write {
        /// The file.
        ino: Ino,
        /// Where they start.
        offset: u64,
        /// How many.
        len: u64,
        /// When.
        time: Timestamp,
    },
    /// A mapped file has a new length.
    Resize {
        /// The file.
        ino: Ino,
        /// The length in bytes.
        size: u64,
        /// When.
        time: Timestamp,
    },
    /// A new FIFO or socket.
    CreateSpecial {
        /// The directory.
        parent: Ino,
        /// The free name in it.
        name: Name,
        /// The new number.
        ino: Ino,
        /// Which of the two.
        special: Special,
        /// Mode and owner.
        attributes: Attributes,
        /// When.
        time: Timestamp,
    },
    /// What is at one name and what is at another one change places.
    Exchange {
        /// The directory of the one.
        from_parent: Ino,
        /// The one name.
        from_name: Name,
        /// The directory of the other.
        to_parent: Ino,
        /// The other name.
        to_name: Name,
        /// When.
        time: Timestamp,
    },
    /// An extended attribute gets a value, whether or not there was one of its name.
    SetXattr {
        /// Whose.
        ino: Ino,
        /// Its name.
        name: Box<[u8]>,
        /// Its value.
        value: Box<[u8]>,
        /// When.
        time: Timestamp,
    },
    /// An extended attribute goes.
    RemoveXattr {
        /// Whose.
        ino: Ino,
        /// Its name.
        name: Box<[u8]>,
        /// When.
        time: Timestamp,
    },
}

/// New values of attributes; `None` leaves the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttributeChange {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Modification time.
    pub mtime: Option<Timestamp>,
}

/// Why a mutation does not apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MutationError {
    /// No inode has this number.
    #[error("there is no inode {0}")]
    NoInode(Ino),
    /// No entry has this name.
    #[error("there is no \"{name}\" in directory {parent}")]
    NoName {
        /// The directory.
        parent: Ino,
        /// The missing name.
        name: Name,
    },
    /// The name is taken.
    #[error("\"{name}\" is already in directory {parent}")]
    Exists {
        /// The directory.
        parent: Ino,
        /// The taken name.
        name: Name,
    },
    /// Something that is no directory is used as one.
    #[error("inode {0} is not a directory")]
    NotDir(Ino),
    /// A directory where none is allowed.
    #[error("inode {0} is a directory")]
    IsDir(Ino),
    /// A directory that should be empty is not.
    #[error("directory {0} is not empty")]
    NotEmpty(Ino),
    /// A directory would lie below itself.
    #[error("directory {0} cannot move below itself")]
    BelowItself(Ino),
    /// The number of a new inode is not new.
    #[error("inode {0} is already there")]
    InodeTaken(Ino),
    /// The inode has no such extended attribute.
    #[error("inode {0} has no such extended attribute")]
    NoXattr(Ino),
    /// The file's content is not of the kind this change needs.
    #[error("inode {0} has no content of that kind")]
    WrongContent(Ino),
}
