//! Directories held open, on Windows: everything is opened relative to a directory's handle, one name after the other,
//! and what turns out to be a link is refused.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_CREATE, FILE_DIRECTORY_FILE, FILE_NON_DIRECTORY_FILE, FILE_OPEN,
    FILE_OPEN_FOR_BACKUP_INTENT, FILE_OPEN_REPARSE_POINT,
};
use windows_sys::Win32::Foundation::{GENERIC_READ, GENERIC_WRITE};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_ADD_FILE, FILE_LIST_DIRECTORY, FILE_READ_ATTRIBUTES, FILE_TRAVERSE, READ_CONTROL,
    WRITE_DAC,
};
use windows_sys::Win32::System::Ioctl::FSCTL_GET_REPARSE_POINT;

use super::calls::{self, Open};
use super::{link, security};
use crate::names::LONGEST_WINDOWS_NAME;
use crate::own::Standing;
use crate::{Facts, Follow, Kind, Names, Opening, Refusal, windows_name};

/// What is needed to look at something.
const LOOKING: u32 = FILE_READ_ATTRIBUTES | READ_CONTROL;

/// What is needed of a directory that other things are reached from.
const HOLDING: u32 = LOOKING | FILE_LIST_DIRECTORY | FILE_TRAVERSE;

/// A directory that is held open. Others can still rename and remove it.
#[derive(Debug)]
pub(crate) struct Dir {
    file: File,
}

impl Dir {
    /// No component of the path may be a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let mut root = PathBuf::new();
        let mut dir = None;
        for component in path.components() {
            match component {
                Component::Prefix(_) | Component::RootDir => root.push(component),
                Component::CurDir => {}
                // A path that was made absolute has none.
                Component::ParentDir => return Err(Refusal::Outside.into()),
                Component::Normal(name) => {
                    let from = dir.map_or_else(|| Self::open_following_links(&root), Ok)?;
                    dir = Some(from.dir(name.as_encoded_bytes())?);
                }
            }
        }
        dir.map_or_else(|| Self::open_following_links(&root), Ok)
    }

    pub(crate) fn open_last(path: &Path) -> io::Result<Self> {
        Self::new(super::open_any(path, HOLDING, true)?)
    }

    pub(crate) fn open_following_links(path: &Path) -> io::Result<Self> {
        Self::new(super::open_any(path, HOLDING, false)?)
    }

    fn new(file: File) -> io::Result<Self> {
        match super::facts(&file)?.kind {
            Kind::Dir => Ok(Self { file }),
            Kind::Link => Err(Refusal::Link.into()),
            Kind::File | Kind::Other => Err(Refusal::NotADirectory.into()),
        }
    }

    pub(crate) fn again(&self) -> io::Result<Self> {
        let file = self.file.try_clone()?;
        Ok(Self { file })
    }

    pub(crate) fn facts(&self) -> io::Result<Facts> {
        Ok(Facts {
            mode: self.mode()?,
            ..super::facts(&self.file)?
        })
    }

    /// 0700 if its list is its own, 0755 if it takes what is handed down.
    fn mode(&self) -> io::Result<u32> {
        let is_private = security::protection(&self.file)?.is_protected;
        Ok(if is_private { 0o700 } else { 0o755 })
    }

    pub(crate) fn standing(&self) -> io::Result<Standing> {
        super::standing(&self.file)
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        security::protect(&self.itself(WRITE_DAC)?, super::is_private(mode))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        super::flushed(self.itself(FILE_ADD_FILE).and_then(|file| file.sync_all()))
    }

    /// The directory with more rights.
    fn itself(&self, access: u32) -> io::Result<File> {
        let open = Open {
            access: HOLDING | access,
            disposition: FILE_OPEN,
            options: FILE_DIRECTORY_FILE | FILE_OPEN_FOR_BACKUP_INTENT,
            descriptor: None,
        };
        calls::open_in(&self.file, &[], open)
    }

    pub(crate) fn space(&self) -> io::Result<crate::Space> {
        super::space_of(&self.file)
    }

    /// What has a name, a link itself.
    fn open_name(&self, name: &[u8], access: u32) -> io::Result<(File, Kind)> {
        let open = Open {
            access: LOOKING | access,
            disposition: FILE_OPEN,
            options: FILE_OPEN_REPARSE_POINT | FILE_OPEN_FOR_BACKUP_INTENT,
            descriptor: None,
        };
        let name = wide(name)?;
        let file = calls::open_in(&self.file, &name, open)?;
        let facts = super::facts(&file)?;
        if facts.kind == Kind::Link || access == 0 || calls::information(&file)?.reparse_tag == 0 {
            return Ok((file, facts.kind));
        }
        // What is compressed, deduplicated or kept by a cloud shows its content only to those who do not ask for the
        // reparse point. If a link took its place, that is seen.
        let through = Open {
            options: FILE_OPEN_FOR_BACKUP_INTENT,
            ..open
        };
        let file = calls::open_in(&self.file, &name, through)?;
        let now = super::facts(&file)?;
        if !now.stamp.is_same_file(&facts.stamp) {
            return Err(Refusal::Link.into());
        }
        Ok((file, now.kind))
    }

    /// Through the directories on the way, none of which may be a link, to the one that holds the last name.
    fn walk<'a>(&self, below: &'a [u8]) -> io::Result<(Option<Self>, &'a [u8])> {
        let mut current: Option<Self> = None;
        let mut rest = below;
        while let Some(slash) = rest.iter().position(|&byte| byte == b'/') {
            let from = current.as_ref().unwrap_or(self);
            current = Some(from.step(&rest[..slash])?);
            rest = &rest[slash + 1..];
        }
        Ok((current, rest))
    }

    /// A directory at a name.
    fn step(&self, name: &[u8]) -> io::Result<Self> {
        let (file, kind) = self.open_name(name, HOLDING)?;
        match kind {
            Kind::Dir => Ok(Self { file }),
            Kind::Link => Err(Refusal::Link.into()),
            Kind::File | Kind::Other => Err(Refusal::NotADirectory.into()),
        }
    }

    /// Whatever it says of links, none is followed.
    pub(crate) fn open_below(
        &self,
        below: &[u8],
        opening: Opening,
        _follow: Follow,
    ) -> io::Result<File> {
        let access = match opening {
            Opening::Look => 0,
            Opening::Read => GENERIC_READ,
        };
        if below.is_empty() {
            return self.itself(access);
        }
        let (dir, name) = self.walk(below)?;
        let (file, kind) = dir.as_ref().unwrap_or(self).open_name(name, access)?;
        if kind == Kind::Link {
            return Err(Refusal::Link.into());
        }
        Ok(file)
    }

    pub(crate) fn dir(&self, below: &[u8]) -> io::Result<Self> {
        if below.is_empty() {
            return self.again();
        }
        let (dir, name) = self.walk(below)?;
        dir.as_ref().unwrap_or(self).step(name)
    }

    pub(crate) fn dir_to_list(&self, below: &[u8], _follow: Follow) -> io::Result<Self> {
        self.dir(below)
    }

    pub(crate) fn facts_at(&self, name: &[u8]) -> io::Result<Facts> {
        super::facts(&self.open_name(name, 0)?.0)
    }

    pub(crate) fn standing_at(&self, name: &[u8]) -> io::Result<Standing> {
        super::standing(&self.open_name(name, 0)?.0)
    }

    pub(crate) fn look_at(&self, name: &[u8]) -> io::Result<(Facts, Standing)> {
        let (file, _) = self.open_name(name, 0)?;
        Ok((super::facts(&file)?, super::standing(&file)?))
    }

    pub(crate) fn list(&self) -> io::Result<Names> {
        let mut names = Names::default();
        // Of its own: a handle has one position in the list.
        for entry in calls::list(&self.itself(0)?)? {
            let name = super::text_of(&entry.name);
            let kind = super::kind_of(entry.attributes, entry.reparse_tag);
            names.add(name.as_encoded_bytes(), Some(kind));
        }
        Ok(names)
    }

    pub(crate) fn open_file(&self, name: &[u8]) -> io::Result<File> {
        self.open_regular(name, GENERIC_READ)
    }

    pub(crate) fn open_file_to_write(&self, name: &[u8]) -> io::Result<File> {
        self.open_regular(name, GENERIC_READ | GENERIC_WRITE | WRITE_DAC | DELETE)
    }

    /// Windows syncs only what is open for writing.
    pub(crate) fn open_file_to_sync(&self, name: &[u8]) -> io::Result<File> {
        self.open_file_to_write(name)
    }

    #[expect(clippy::unused_self, reason = "other systems ask the directory")]
    pub(crate) fn tells_writers(&self) -> bool {
        false
    }

    fn open_regular(&self, name: &[u8], access: u32) -> io::Result<File> {
        // Not all rights that a file needs go with a directory.
        match self.open_name(name, 0)?.1 {
            Kind::File => {}
            Kind::Dir => return Err(io::ErrorKind::IsADirectory.into()),
            Kind::Link => return Err(Refusal::Link.into()),
            Kind::Other => return Err(io::ErrorKind::InvalidInput.into()),
        }
        match self.open_name(name, access)? {
            (file, Kind::File) => Ok(file),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(crate) fn create_file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let access = GENERIC_READ | GENERIC_WRITE | WRITE_DAC | DELETE;
        self.create(name, mode, FILE_NON_DIRECTORY_FILE, access)
    }

    pub(crate) fn create_dir(&self, name: &[u8], mode: u32) -> io::Result<()> {
        let created = self.create(name, mode, FILE_DIRECTORY_FILE, LOOKING);
        created.map(drop)
    }

    fn create(&self, name: &[u8], mode: u32, options: u32, access: u32) -> io::Result<File> {
        let descriptor = super::is_private(mode).then(security::Descriptor::private);
        let descriptor = descriptor.transpose()?;
        let open = Open {
            access,
            disposition: FILE_CREATE,
            options: options | FILE_OPEN_REPARSE_POINT | FILE_OPEN_FOR_BACKUP_INTENT,
            descriptor: descriptor.as_ref(),
        };
        calls::open_in(&self.file, &wide(name)?, open)
    }

    /// By the directory's path: the call that makes links for users without a privilege takes nothing else. What is
    /// made is a link at a free name, wherever the directory is by then.
    pub(crate) fn create_link(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        let at = super::text_of(&calls::path_of(&self.file)?);
        link::create(target, &Path::new(&at).join(windows_name(name)?))
    }

    pub(crate) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        let (file, kind) = self.open_name(name, 0)?;
        if kind != Kind::Link {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let data = calls::control::<u32>(&file, FSCTL_GET_REPARSE_POINT, None, link::MOST)?;
        link::text(&data)
    }

    pub(crate) fn rename(&self, from: &[u8], directory: &Self, to: &[u8]) -> io::Result<()> {
        let (file, _) = self.open_name(from, DELETE)?;
        calls::rename(&file, &directory.file, &wide(to)?, true)
    }

    /// Whether the name was free.
    pub(crate) fn rename_to_free(
        &self,
        from: &[u8],
        directory: &Self,
        to: &[u8],
    ) -> io::Result<bool> {
        let (file, _) = self.open_name(from, DELETE)?;
        match calls::rename(&file, &directory.file, &wide(to)?, false) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            renamed => renamed.map(|()| true),
        }
    }

    pub(crate) fn remove_file(&self, name: &[u8]) -> io::Result<()> {
        match self.open_name(name, DELETE)? {
            (_, Kind::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            (file, _) => calls::delete(&file),
        }
    }

    pub(crate) fn remove_dir(&self, name: &[u8]) -> io::Result<()> {
        match self.open_name(name, DELETE)? {
            (file, Kind::Dir) => calls::delete(&file),
            _ => Err(Refusal::NotADirectory.into()),
        }
    }

    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
    pub(crate) fn share(&self, _add_mode: u32, _group: Option<u32>) -> io::Result<()> {
        Ok(())
    }

    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
    pub(crate) fn longest_name(&self) -> io::Result<u64> {
        Ok(LONGEST_WINDOWS_NAME as u64)
    }

    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        self.sync()
    }
}

/// A name as the calls take it, if it can be one.
fn wide(name: &[u8]) -> io::Result<Vec<u16>> {
    Ok(windows_name(name)?.encode_utf16().collect())
}
