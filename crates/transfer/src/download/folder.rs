//! The folder of a download, held open.

use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::{HeldDir, share_file};
use attachfs_manifest::ContentHash;
use attachfs_scan::Ground;

use super::error::DownloadError;
use super::leading::RootNames;
use super::options::Permissions;
use super::states::Partial;
use crate::error::TransferError;

/// The folder, open.
#[derive(Debug)]
pub(super) struct Folder {
    /// Absolute and without symbolic links. For messages.
    pub(super) real: PathBuf,
    pub(super) names: RootNames,
    pub(super) dir: HeldDir,
    pub(super) ground: Ground,
}

impl Folder {
    /// Opens a folder, which is made if it is missing. Blocks.
    pub(super) fn open(root: &Path, share: Permissions) -> Result<Self, TransferError> {
        let failed = |doing| {
            move |source: io::Error| DownloadError::Root {
                doing,
                path: root.to_owned(),
                source,
            }
        };
        let is_there = root.try_exists().map_err(failed("find"))?;
        if !is_there {
            make(root, share).map_err(failed("make"))?;
        }
        let real = root.canonicalize().map_err(failed("find"))?;
        let dir = HeldDir::open(&real).map_err(failed("open"))?;
        let ground = Ground::open(real.clone())?;
        let names = RootNames::new(&real, root);
        Ok(Self {
            real,
            names,
            dir,
            ground,
        })
    }

    /// Fails if files and directories in it cannot be given their group: every one of them would, files after
    /// their bytes were fetched. Blocks.
    pub(super) fn may_give(&self, share: Permissions) -> Result<(), DownloadError> {
        if share.group.is_none() {
            return Ok(());
        }
        let probe = self.dir.dir(b"").and_then(|dir| {
            let key = ContentHash::of(b"");
            Partial::create(dir, key, 0, false)
        });
        // Who may make no file in the folder itself may still make some further down.
        let Ok(probe) = probe else { return Ok(()) };
        share_file(probe.file(), 0, share.group).map_err(|source| DownloadError::Root {
            doing: "give their group to files in",
            path: self.real.clone(),
            source,
        })
    }
}

/// Makes a folder, and what is missing above it. It has its name before it is shared: under another, nobody
/// would look for it beside the folder.
fn make(root: &Path, share: Permissions) -> io::Result<()> {
    let (Some(above), Some(name)) = (root.parent(), root.file_name()) else {
        return std::fs::create_dir_all(root);
    };
    let above = if above.as_os_str().is_empty() {
        Path::new(".")
    } else {
        above
    };
    std::fs::create_dir_all(above)?;
    let holding = HeldDir::open(&above.canonicalize()?)?;
    let name = name.as_encoded_bytes();
    match holding.create_dir(name, 0o777) {
        // Another download was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    if share.add_dir_mode == 0 && share.group.is_none() {
        return Ok(());
    }
    let shared = holding.dir(name);
    let shared = shared.and_then(|dir| dir.share(share.add_dir_mode, share.group));
    shared.inspect_err(|_| {
        if let Err(error) = holding.remove_dir(name) {
            tracing::debug!(%error, "a folder that cannot be shared stays");
        }
    })
}
