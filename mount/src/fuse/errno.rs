//! What the kernel is told of an error, and how loudly the log is.

use attachfs_vfs::FsErrorKind;
use fuser::Errno;
use tracing::Level;

/// The errno of an error.
pub(super) fn errno(kind: FsErrorKind) -> Errno {
    match kind {
        FsErrorKind::NotFound => Errno::ENOENT,
        FsErrorKind::Exists => Errno::EEXIST,
        FsErrorKind::NotADirectory => Errno::ENOTDIR,
        FsErrorKind::IsADirectory => Errno::EISDIR,
        FsErrorKind::NotEmpty => Errno::ENOTEMPTY,
        FsErrorKind::NameTooLong => Errno::ENAMETOOLONG,
        FsErrorKind::Invalid => Errno::EINVAL,
        FsErrorKind::ReadOnly => Errno::EROFS,
        FsErrorKind::NoSpace => Errno::ENOSPC,
        FsErrorKind::TooLarge => Errno::EFBIG,
        // The kernel looks the name up again and repeats the request with the node that it finds.
        FsErrorKind::Moved => Errno::ESTALE,
        FsErrorKind::BadHandle => Errno::EBADF,
        FsErrorKind::NotPermitted => Errno::EPERM,
        FsErrorKind::NotSupported => Errno::EOPNOTSUPP,
        // Of the machine as far as the caller can tell: it has not opened too many itself.
        FsErrorKind::TooManyOpenFiles => Errno::ENFILE,
        FsErrorKind::Ended => Errno::ENOTCONN,
        FsErrorKind::Io => Errno::EIO,
    }
}

/// How loudly an error that has a cause is logged: data that could not be had or kept is an error,
/// a full disk is the user's to solve, the rest answers what was asked.
pub(super) fn level(kind: FsErrorKind) -> Level {
    match kind {
        FsErrorKind::Io => Level::ERROR,
        FsErrorKind::NoSpace | FsErrorKind::TooLarge | FsErrorKind::TooManyOpenFiles => Level::WARN,
        FsErrorKind::NotFound
        | FsErrorKind::Exists
        | FsErrorKind::NotADirectory
        | FsErrorKind::IsADirectory
        | FsErrorKind::NotEmpty
        | FsErrorKind::NameTooLong
        | FsErrorKind::Invalid
        | FsErrorKind::ReadOnly
        | FsErrorKind::Moved
        | FsErrorKind::BadHandle
        | FsErrorKind::NotPermitted
        | FsErrorKind::NotSupported
        | FsErrorKind::Ended => Level::DEBUG,
    }
}
