//! Who owns a file on Windows, who may write to it, and how that is set.
//!
//! *Private* means an access control list that gives everything to this process's user and nothing to anybody else, and
//! takes nothing from the directory above (`D:P(A;OICI;FA;;;USER)`). Administrators and the system can take a file for
//! themselves whatever its list says, as root can: that they may write is no reason to distrust one.
#![allow(unsafe_code, reason = "windows-sys has only unsafe functions")]

use std::fmt;
use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use windows_sys::Win32::Foundation::{CloseHandle, GENERIC_ALL, GENERIC_WRITE, HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT, SetSecurityInfo,
};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, GetAce,
    GetSecurityDescriptorControl, GetSecurityDescriptorDacl, GetTokenInformation, INHERIT_ONLY_ACE,
    OWNER_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID,
    SE_DACL_PROTECTED, TOKEN_OWNER, TOKEN_QUERY, TOKEN_USER, TokenOwner, TokenUser,
    UNPROTECTED_DACL_SECURITY_INFORMATION,
};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_APPEND_DATA, FILE_DELETE_CHILD, FILE_WRITE_ATTRIBUTES, FILE_WRITE_DATA,
    FILE_WRITE_EA, WRITE_DAC, WRITE_OWNER,
};
use windows_sys::Win32::System::SystemServices::{
    ACCESS_ALLOWED_ACE_TYPE, ACCESS_ALLOWED_CALLBACK_ACE_TYPE, ACCESS_DENIED_ACE_TYPE,
    ACCESS_DENIED_CALLBACK_ACE_TYPE, ACCESS_DENIED_CALLBACK_OBJECT_ACE_TYPE,
    ACCESS_DENIED_OBJECT_ACE_TYPE,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, OpenProcess, OpenProcessToken, PROCESS_QUERY_LIMITED_INFORMATION,
};

/// Rights with which somebody can change a file, or what is in a directory.
const WRITING: u32 = FILE_WRITE_DATA
    | FILE_APPEND_DATA
    | FILE_WRITE_EA
    | FILE_WRITE_ATTRIBUTES
    | FILE_DELETE_CHILD
    | DELETE
    | WRITE_DAC
    | WRITE_OWNER
    | GENERIC_WRITE
    | GENERIC_ALL;

/// Those with which somebody can remove or rename what others have put into a directory.
const REMOVING: u32 =
    FILE_DELETE_CHILD | DELETE | WRITE_DAC | WRITE_OWNER | GENERIC_WRITE | GENERIC_ALL;

/// The entries of an access control list that deny.
const DENYING: [u32; 4] = [
    ACCESS_DENIED_ACE_TYPE,
    ACCESS_DENIED_OBJECT_ACE_TYPE,
    ACCESS_DENIED_CALLBACK_ACE_TYPE,
    ACCESS_DENIED_CALLBACK_OBJECT_ACE_TYPE,
];

/// Those that allow and are laid out as an `ACCESS_ALLOWED_ACE`; a callback has its condition behind that, which is taken for
/// met.
const ALLOWING: [u32; 2] = [ACCESS_ALLOWED_ACE_TYPE, ACCESS_ALLOWED_CALLBACK_ACE_TYPE];

/// The system, the administrators and the installer of Windows's own files.
const SYSTEM: [&str; 3] = [
    "S-1-5-18",
    "S-1-5-32-544",
    "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
];

/// Whoever creates something, in lists that are handed down; and the owner, whoever that is.
const OWNERS: [&str; 2] = ["S-1-3-0", "S-1-3-4"];

/// A user or a group, by its security identifier (`S-1-5-18`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner(String);

impl Owner {
    /// Who may do everything anyway.
    pub(crate) fn is_system(&self) -> bool {
        SYSTEM.contains(&self.0.as_str())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Memory that Windows has given out and wants back.
struct Local(PSECURITY_DESCRIPTOR);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: it came from a call that says to free it so, and nobody else does.
        unsafe { LocalFree(self.0) };
    }
}

/// What a new file is to be protected by.
pub(super) struct Descriptor(Local);

impl Descriptor {
    /// For this process's user alone.
    pub(super) fn private() -> io::Result<Self> {
        let me = me()?;
        Self::parse(&format!("O:{me}D:P(A;OICI;FA;;;{me})"))
    }

    /// A pipe for this process's user and the system.
    pub(super) fn of_pipe() -> io::Result<Self> {
        let me = me()?;
        Self::parse(&format!("O:{me}D:P(A;;FA;;;{me})(A;;FA;;;SY)"))
    }

    fn parse(text: &str) -> io::Result<Self> {
        let text: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut descriptor = null_mut();
        // SAFETY: the text ends in a zero; the descriptor is ours to free.
        let done = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                null_mut(),
            )
        };
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(Local(descriptor)))
    }

    pub(super) fn as_ptr(&self) -> PSECURITY_DESCRIPTOR {
        self.0.0
    }
}

/// Whose an open file is.
pub(super) struct Protection {
    pub(super) owner: Owner,
    /// Who else may write to it.
    pub(super) writers: Vec<String>,
    /// Whether none of them may remove what is in it, if it is a directory.
    pub(super) keeps_names: bool,
    /// Whether it takes nothing from the directory above.
    pub(super) is_protected: bool,
}

/// What protects a file, which is open with the right `READ_CONTROL`.
pub(super) fn protection(file: &File) -> io::Result<Protection> {
    let (mut owner, mut list, mut descriptor) = (null_mut(), null_mut(), null_mut());
    // SAFETY: owner and list point into the descriptor, which is ours to free.
    let code = unsafe {
        GetSecurityInfo(
            file.as_raw_handle(),
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
            &raw mut owner,
            null_mut(),
            &raw mut list,
            null_mut(),
            &raw mut descriptor,
        )
    };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code as i32));
    }
    let descriptor = Local(descriptor);
    let (mut control, mut revision) = (0, 0);
    // SAFETY: the descriptor is still there, and so are the two numbers.
    unsafe { GetSecurityDescriptorControl(descriptor.0, &raw mut control, &raw mut revision) };
    let mut owner = shown(owner)?;
    // What an administrator creates belongs to the group.
    if owner == token_user(TokenOwner)? {
        me()?.clone_into(&mut owner);
    }
    let writers = writers(list, &owner)?;
    Ok(Protection {
        keeps_names: writers.iter().all(|(_, mask)| mask & REMOVING == 0),
        writers: writers.into_iter().map(|(who, _)| who).collect(),
        owner: Owner(owner),
        is_protected: control & SE_DACL_PROTECTED != 0,
    })
}

/// Who may write, beside the owner and those who may do everything, and with which rights.
fn writers(list: *const ACL, owner: &str) -> io::Result<Vec<(String, u32)>> {
    if list.is_null() {
        let everybody = "everybody: it has no access control list".to_owned();
        return Ok(vec![(everybody, GENERIC_ALL)]);
    }
    let mut writers = Vec::new();
    // SAFETY: the list came from Windows and lives as long as its descriptor, which the caller holds. `GetAce` gives a
    // pointer into it, to an entry of the type that its header says.
    unsafe {
        for index in 0..u32::from((*list).AceCount) {
            let mut entry = null_mut();
            if GetAce(list, index, &raw mut entry) == 0 {
                return Err(io::Error::last_os_error());
            }
            let header = &*entry.cast::<ACE_HEADER>();
            let kind = u32::from(header.AceType);
            // What denies gives nothing, and what is only handed down does not count here.
            if DENYING.contains(&kind) || u32::from(header.AceFlags) & INHERIT_ONLY_ACE != 0 {
                continue;
            }
            // Whom another kind of entry lets in stands elsewhere in it, or is not known: it may be anybody.
            if !ALLOWING.contains(&kind) {
                let somebody = format!("somebody: it has an access control entry of type {kind}");
                writers.push((somebody, GENERIC_ALL));
                continue;
            }
            let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
            if (*entry).Mask & WRITING == 0 {
                continue;
            }
            let who = shown((&raw mut (*entry).SidStart).cast())?;
            if who != owner
                && who != me()?
                && !SYSTEM.contains(&who.as_str())
                && !OWNERS.contains(&who.as_str())
            {
                writers.push((who, (*entry).Mask));
            }
        }
    }
    Ok(writers)
}

/// Gives an open file, which has the right `WRITE_DAC`, to its owner alone, or lets it take what the directory above hands
/// down.
pub(super) fn protect(file: &File, is_private: bool) -> io::Result<()> {
    if is_private {
        let private = Descriptor::private()?;
        set_list(file, &private, PROTECTED_DACL_SECURITY_INFORMATION)
    } else {
        // An empty list, to which Windows adds what is handed down.
        let empty = Descriptor::parse("D:")?;
        set_list(file, &empty, UNPROTECTED_DACL_SECURITY_INFORMATION)
    }
}

/// Lets everybody do everything with a file, which is open with the right `WRITE_DAC`.
#[cfg(test)]
pub(super) fn give_to_everybody(file: &File) -> io::Result<()> {
    let everybody = Descriptor::parse("D:P(A;OICI;FA;;;WD)")?;
    set_list(file, &everybody, PROTECTED_DACL_SECURITY_INFORMATION)
}

/// Gives an open file the access control list of a descriptor. `kind` says whether what is handed down is added.
fn set_list(file: &File, descriptor: &Descriptor, kind: u32) -> io::Result<()> {
    let (mut is_there, mut is_default, mut list) = (0, 0, null_mut());
    // SAFETY: the list points into the descriptor, which the caller holds.
    let code = unsafe {
        GetSecurityDescriptorDacl(
            descriptor.as_ptr(),
            &raw mut is_there,
            &raw mut list,
            &raw mut is_default,
        );
        SetSecurityInfo(
            file.as_raw_handle(),
            SE_FILE_OBJECT,
            DACL_SECURITY_INFORMATION | kind,
            null_mut(),
            null_mut(),
            list,
            null(),
        )
    };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code as i32));
    }
    Ok(())
}

/// This process's user.
pub(super) fn user() -> io::Result<Owner> {
    Ok(Owner(me()?.to_owned()))
}

fn me() -> io::Result<&'static str> {
    static ME: OnceLock<String> = OnceLock::new();
    if let Some(me) = ME.get() {
        return Ok(me);
    }
    let found = token_user(TokenUser)?;
    Ok(ME.get_or_init(|| found))
}

/// The user of a process that runs.
pub(super) fn user_of_process(process: u32) -> io::Result<Owner> {
    // SAFETY: it takes numbers; what it gives is a handle that nobody else owns.
    let process = unsafe {
        let handle = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, process);
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        OwnedHandle::from_raw_handle(handle)
    };
    token_of(process.as_raw_handle(), TokenUser).map(Owner)
}

/// One of the identifiers in this process's token.
fn token_user(class: i32) -> io::Result<String> {
    // SAFETY: it takes nothing; what it gives stands for this process and is not closed.
    token_of(unsafe { GetCurrentProcess() }, class)
}

/// One of the identifiers in the token of a process.
fn token_of(process: HANDLE, class: i32) -> io::Result<String> {
    // Both structures hold a pointer to an identifier, which lies behind them and is at most 68 bytes long.
    let mut buffer = [0_u64; 32];
    let mut token = null_mut();
    // SAFETY: the token is closed below, and nobody else has it; the buffer is as long as is said.
    let filled = unsafe {
        if OpenProcessToken(process, TOKEN_QUERY, &raw mut token) == 0 {
            return Err(io::Error::last_os_error());
        }
        let mut len = 0;
        let filled = GetTokenInformation(
            token,
            class,
            buffer.as_mut_ptr().cast(),
            size_of_val(&buffer) as u32,
            &raw mut len,
        );
        let filled = if filled == 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        };
        CloseHandle(token);
        filled
    };
    filled?;
    // SAFETY: the call has filled in the structure that belongs to the class.
    let sid = unsafe {
        if class == TokenUser {
            (*buffer.as_ptr().cast::<TOKEN_USER>()).User.Sid
        } else {
            (*buffer.as_ptr().cast::<TOKEN_OWNER>()).Owner
        }
    };
    shown(sid)
}

/// An identifier as text.
fn shown(sid: PSID) -> io::Result<String> {
    let mut text = null_mut();
    // SAFETY: the identifier came from Windows and its owner is still there; the text ends in a zero, and is freed when
    // it has been copied.
    unsafe {
        if ConvertSidToStringSidW(sid, &raw mut text) == 0 {
            return Err(io::Error::last_os_error());
        }
        let _freed = Local(text.cast());
        let mut len = 0;
        while *text.add(len) != 0 {
            len += 1;
        }
        Ok(String::from_utf16_lossy(std::slice::from_raw_parts(
            text, len,
        )))
    }
}
