//! The errno of an error, and its level in the log.

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
        FsErrorKind::BeyondEnd => Errno::ENXIO,
        FsErrorKind::NotPermitted => Errno::EPERM,
        FsErrorKind::NoAttribute => Errno::ENODATA,
        FsErrorKind::NotSupported => Errno::EOPNOTSUPP,
        // ENFILE, as the caller itself has not opened too many files.
        FsErrorKind::TooManyOpenFiles => Errno::ENFILE,
        FsErrorKind::Ended => Errno::ENOTCONN,
        FsErrorKind::Io => Errno::EIO,
    }
}

/// The log level of an error that has a cause: data that could not be read or kept is an error, a
/// full disk is for the user to solve, everything else answers the request.
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
        | FsErrorKind::BeyondEnd
        | FsErrorKind::NotPermitted
        | FsErrorKind::NoAttribute
        | FsErrorKind::NotSupported
        | FsErrorKind::Ended => Level::DEBUG,
    }
}
