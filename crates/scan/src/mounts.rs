//! Mounts below what is scanned, and which of them a scan goes into.
//!
//! The mounts come from the kernel's table, which is read before anything else: looking at the directory of
//! a mount that hangs would block, so a mount that is left out is never looked at. A mount that the scan
//! begins in does not count, because it was named.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use attachfs_durable::{Mounted, mounted, path_bytes, path_of_bytes};

use crate::ScanError;
use crate::place::Place;

/// The file system type of a mount of attachfs.
const OWN_KIND: &str = "fuse.attachfs";

/// Which mounts below its folders a scan goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CrossMounts {
    /// Mounts of other file systems; a mount of attachfs is an error that names it
    /// ([`ScanError::OwnMount`](crate::ScanError::OwnMount)). Its files would all be fetched, and are in a store
    /// already; left out silently, they would be missed.
    #[default]
    Foreign,
    /// All of them.
    All,
    /// No mount of a file system other than those of the folders. A directory where one is mounted is an
    /// entry without what is in it; it and links that are to be replaced by something there are in
    /// [`Scan::skipped`](crate::Scan::skipped).
    None,
}

/// Why a scan does not go into a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Border {
    /// It is a mount of attachfs, and no option includes it.
    Own,
    /// It is left out.
    Other,
}

/// The mounts that a scan does not go into.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    borders: HashMap<PathBuf, Border>,
}

impl Mounts {
    /// `roots` are the directories in which the scan begins: absolute, without links.
    pub(crate) fn read(cross: CrossMounts, roots: &[&Path]) -> Result<Self, ScanError> {
        if cross == CrossMounts::All {
            return Ok(Self::default());
        }
        let table = match mounted() {
            Ok(table) => table,
            // Without /proc the mounts are unknown. If a border was asked for, that is an error; otherwise
            // the scan reads what any program would read.
            Err(error) if cross == CrossMounts::Foreign => {
                tracing::warn!(%error, "mounts in the folder cannot be told from it");
                return Ok(Self::default());
            }
            Err(error) => {
                let table = Path::new("/proc/self/mountinfo");
                return Err(ScanError::io("read", table, error));
            }
        };
        Ok(Self::of(cross, roots, &table))
    }

    fn of(cross: CrossMounts, roots: &[&Path], table: &[Mounted]) -> Self {
        let device_of = |root: &Path| {
            let holding = |mount: &&Mounted| root.starts_with(&mount.mount_point);
            // Of several mounts at one place the last one counts.
            let mount = table
                .iter()
                .filter(holding)
                .max_by_key(|mount| mount.mount_point.components().count());
            mount.map(|mount| mount.device.as_str())
        };
        let devices: Vec<_> = roots.iter().filter_map(|root| device_of(root)).collect();
        let mut borders = HashMap::new();
        for mount in table {
            let border = match cross {
                CrossMounts::Foreign => (mount.fs_type == OWN_KIND).then_some(Border::Own),
                CrossMounts::None => {
                    (!devices.contains(&mount.device.as_str())).then_some(Border::Other)
                }
                CrossMounts::All => None,
            };
            // A later mount at the same place covers it.
            borders.remove(&mount.mount_point);
            let is_meant = roots
                .iter()
                .any(|root| root.starts_with(&mount.mount_point));
            if let Some(border) = border
                && !is_meant
            {
                borders.insert(mount.mount_point.clone(), border);
            }
        }
        Self { borders }
    }

    /// Whether the scan goes everywhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.borders.is_empty()
    }

    /// What is mounted at a name in a directory.
    pub(crate) fn at(&self, place: &Place, name: &[u8]) -> Option<Border> {
        if self.borders.is_empty() {
            return None;
        }
        self.borders.get(&place.real_child(name)).copied()
    }

    /// The mount at or above an absolute path.
    pub(crate) fn around(&self, path: &Path) -> Option<(&Path, Border)> {
        if self.borders.is_empty() {
            return None;
        }
        let mut above = path.ancestors();
        let found = above.find_map(|path| self.borders.get_key_value(path));
        found.map(|(point, border)| (point.as_path(), *border))
    }

    /// The mount at or above the target of a link in a directory, found from its text without looking at the
    /// target.
    pub(crate) fn around_link(&self, place: &Place, text: &[u8]) -> Option<(&Path, Border)> {
        if self.borders.is_empty() {
            return None;
        }
        let full = place.real().join(path_of_bytes(text));
        let full = crate::links::normalize(path_bytes(&full));
        self.around(&path_of_bytes(full))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn mount(point: &str, device: &str, kind: &str) -> Mounted {
        Mounted {
            mount_point: point.into(),
            device: device.to_owned(),
            fs_type: kind.to_owned(),
            id: 0,
            parent: 0,
            source: OsString::new(),
            options: OsString::new(),
        }
    }

    fn borders(cross: CrossMounts, roots: &[&str], table: &[Mounted]) -> Vec<(String, Border)> {
        let roots: Vec<_> = roots.iter().map(Path::new).collect();
        let mounts = Mounts::of(cross, &roots, table);
        let all = mounts.borders.into_iter();
        let mut all: Vec<_> = all
            .map(|(point, border)| (point.display().to_string(), border))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn table() -> [Mounted; 5] {
        [
            mount("/", "8:1", "ext4"),
            mount("/proj/disk", "8:2", "xfs"),
            mount("/proj/bind", "8:1", "ext4"),
            mount("/proj/out", "0:50", OWN_KIND),
            mount("/proj/sub/out", "0:51", OWN_KIND),
        ]
    }

    #[test]
    fn own_mounts_are_borders_and_those_that_a_scan_begins_in_are_not() {
        let own = |path: &str| (path.to_owned(), Border::Own);
        let found = borders(CrossMounts::Foreign, &["/proj"], &table());
        assert_eq!(found, [own("/proj/out"), own("/proj/sub/out")]);
        let found = borders(CrossMounts::Foreign, &["/proj/out/d"], &table());
        assert_eq!(found, [own("/proj/sub/out")]);
        let found = borders(CrossMounts::Foreign, &["/proj", "/proj/out"], &table());
        assert_eq!(found, [own("/proj/sub/out")]);
    }

    #[test]
    fn other_file_systems_are_borders_and_other_mounts_of_the_same_are_not() {
        let other = |path: &str| (path.to_owned(), Border::Other);
        let found = borders(CrossMounts::None, &["/proj"], &table());
        let expected = ["/proj/disk", "/proj/out", "/proj/sub/out"].map(other);
        assert_eq!(found, expected);
        let found = borders(CrossMounts::None, &["/proj/disk/d"], &table());
        let expected = ["/proj/bind", "/proj/out", "/proj/sub/out"].map(other);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_mount_that_covers_another_counts_instead_of_it() {
        let table = [
            mount("/", "8:1", "ext4"),
            mount("/m", "0:50", OWN_KIND),
            mount("/m", "8:1", "ext4"),
        ];
        assert_eq!(borders(CrossMounts::Foreign, &["/"], &table), []);
        assert_eq!(borders(CrossMounts::None, &["/"], &table), []);
    }
}
