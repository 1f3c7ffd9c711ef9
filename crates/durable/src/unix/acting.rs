//! What other users may read: a thread that reads files as one of them, and what all may.
//!
//! What the kernel checks accesses to files against (the fsuid, the fsgid, the supplementary groups and the capabilities) is a thread's own. The C library
//! changes the groups of all threads, so the system is called past it. A thread's real and effective ids stay what they are: the other user can send it no signal.

use std::ffi::{CStr, c_char};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::Gid;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_thread_groups};

/// Users who own nothing: the last id that there is, and the one that is called `nobody`, where the last one is not mapped into a container.
const NOBODY: [u32; 2] = [u32::MAX - 1, 65534];
/// The attribute that holds an access list.
const ACCESS_LIST: &str = "system.posix_acl_access";
/// No user's and no group's id. Asking for it changes nothing, and tells what is set.
const NO_ID: u32 = u32::MAX;
/// The longest entry of the user database that is read, in bytes, and the most groups of a user that the kernel takes.
const LONGEST_ENTRY: usize = 1 << 20;
const MOST_GROUPS: usize = 1 << 16;

pub(crate) fn act_as(user: Option<u32>) -> io::Result<bool> {
    let all = match user {
        Some(user) => vec![Rights::of(user)?],
        None => NOBODY.map(Rights::without_groups).to_vec(),
    };
    Ok(all.iter().any(Rights::take))
}

/// What accesses to files are checked against.
#[derive(Debug, Clone)]
struct Rights {
    user: u32,
    group: u32,
    groups: Vec<u32>,
}

impl Rights {
    fn without_groups(user: u32) -> Self {
        Self {
            user,
            group: user,
            groups: Vec::new(),
        }
    }

    /// As the system's user database has them. A user who is not in it is in no group that somebody else is in.
    fn of(user: u32) -> io::Result<Self> {
        let mut entry = vec![0; 1 << 10];
        loop {
            match look_up(user, &mut entry) {
                Err(error) if error.raw_os_error() == Some(libc::ERANGE) => {
                    if entry.len() >= LONGEST_ENTRY {
                        return Err(error);
                    }
                    entry.resize(entry.len() * 4, 0);
                }
                Err(error) => return Err(error),
                Ok(None) => {
                    return Ok(Self {
                        group: NOBODY[0],
                        ..Self::without_groups(user)
                    });
                }
                Ok(Some((name, group))) => {
                    let groups = groups_of(name, group)?;
                    return Ok(Self {
                        user,
                        group,
                        groups,
                    });
                }
            }
        }
    }

    /// Gives them to this thread, and nothing else. False if that is not permitted.
    fn take(&self) -> bool {
        let groups: Vec<_> = self.groups.iter().map(|&id| Gid::from_raw(id)).collect();
        if set_thread_groups(&groups).is_err() || !set_file_ids(self.user, self.group) {
            return false;
        }
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).is_ok()
    }
}

/// Sets what this thread's accesses to files are checked against, and says whether that was done.
fn set_file_ids(user: u32, group: u32) -> bool {
    #[allow(unsafe_code, reason = "no library offers them as safe functions")]
    // SAFETY: they take numbers, and change this thread's ids alone.
    let now = unsafe {
        libc::setfsgid(group);
        libc::setfsuid(user);
        (libc::setfsuid(NO_ID), libc::setfsgid(NO_ID))
    };
    now == (user.cast_signed(), group.cast_signed())
}

/// The name and the first group of a user. The name lies in `entry`.
fn look_up(user: u32, entry: &mut [c_char]) -> io::Result<Option<(&CStr, u32)>> {
    let mut found = std::ptr::null_mut();
    #[allow(unsafe_code, reason = "no library offers the user database safely")]
    // SAFETY: `passwd` is plain data, for which zeros are valid. The call writes it, `entry` up to its length, and `found`: null, or the address of
    // `passwd`. In that case its name is a string in `entry`.
    let (error, passwd) = unsafe {
        let mut passwd: libc::passwd = std::mem::zeroed();
        let (at, len) = (entry.as_mut_ptr(), entry.len());
        let error = libc::getpwuid_r(user, &raw mut passwd, at, len, &raw mut found);
        let name = (!found.is_null()).then(|| CStr::from_ptr(passwd.pw_name));
        (error, name.map(|name| (name, passwd.pw_gid)))
    };
    match error {
        // Some systems call it an error that they do not have a user.
        0 | libc::ENOENT | libc::ESRCH => Ok(passwd),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// All groups of a user.
fn groups_of(name: &CStr, first: u32) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; 64];
    loop {
        let mut count = groups.len() as libc::c_int;
        #[allow(unsafe_code, reason = "no library offers the user database safely")]
        // SAFETY: `name` is a string; no more than `count` numbers are written to `groups`, which has as many.
        let fitted = unsafe {
            libc::getgrouplist(name.as_ptr(), first, groups.as_mut_ptr(), &raw mut count)
        };
        if fitted >= 0 {
            groups.truncate(count.cast_unsigned() as usize);
            return Ok(groups);
        }
        if groups.len() >= MOST_GROUPS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        groups.resize(groups.len() * 4, 0);
    }
}

/// Whether the permission bits let everybody read a file, or a directory if it is the last one of a path, and otherwise search a directory. An access list
/// may say otherwise of somebody.
pub(crate) fn permits_all(path: &Path, is_last: bool) -> io::Result<bool> {
    let meta = path.symlink_metadata()?;
    let wanted = match (meta.is_dir(), is_last) {
        (true, true) => 0o555,
        (true, false) => 0o111,
        (false, _) => 0o444,
    };
    let lists = rustix::fs::getxattr(path, ACCESS_LIST, &mut [] as &mut [u8]);
    let has_list = match lists {
        Ok(_) | Err(Errno::RANGE) => true,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(meta.mode() & wanted == wanted && !has_list)
}
