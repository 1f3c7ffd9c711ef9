//! A named pipe in place of a socket. Its name is random, and stands in a file of the directory: all pipes of a machine
//! share one list of names, where anybody may take a name that can be guessed.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use super::dir::Dir;
use super::pipe::{self, Accepted, Connection, Served};
use crate::own::{Wanted, check};
use crate::{Kind, random_bytes};

pub(crate) const SOCKET_KIND: Kind = Kind::File;

/// What the name of a pipe begins with; 32 hexadecimal digits follow.
const PREFIX: &str = "attachfs-";
const DIGITS: usize = 32;

#[derive(Debug)]
pub(crate) struct SocketDir {
    dir: Dir,
    name: &'static str,
}

impl SocketDir {
    pub(crate) fn open(path: &Path, name: &'static str) -> io::Result<Self> {
        let dir = Dir::open_following_links(path)?;
        check(&dir.standing()?, Wanted::Dir)?;
        Ok(Self { dir, name })
    }

    pub(crate) fn listen(&self) -> io::Result<Listener> {
        self.remove()?;
        let mut name = PREFIX.to_owned();
        for byte in random_bytes::<{ DIGITS / 2 }>()? {
            name += &format!("{byte:02x}");
        }
        let waiting = pipe::serve(&path_of(&name), true)?;
        let mut file = self.dir.create_file(self.name.as_bytes(), 0o600)?;
        file.write_all(name.as_bytes())?;
        Ok(Listener { name, waiting })
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        match self.named()? {
            Named::Nothing => Ok(()),
            Named::Pipe(_) => self.dir.remove_file(self.name.as_bytes()),
            Named::Else => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} is something else than the name of a pipe", self.name),
            )),
        }
    }

    pub(crate) fn connect(&self) -> io::Result<Option<Connection>> {
        match self.named()? {
            Named::Pipe(Some(name)) => pipe::connect(&path_of(&name)),
            Named::Nothing | Named::Pipe(None) => Ok(None),
            Named::Else => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is something else than the name of a pipe", self.name),
            )),
        }
    }

    /// What is at the name.
    fn named(&self) -> io::Result<Named> {
        let file = match self.dir.open_file(self.name.as_bytes()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Named::Nothing),
            Err(error) => {
                return match self.dir.facts_at(self.name.as_bytes()) {
                    Ok(facts) if facts.kind != Kind::File => Ok(Named::Else),
                    _ => Err(error),
                };
            }
        };
        let mut text = String::new();
        let longest = (PREFIX.len() + DIGITS) as u64;
        match file.take(longest + 1).read_to_string(&mut text) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Named::Else),
            read => read?,
        };
        Ok(named_by(&text))
    }
}

/// What is where the name of a pipe should be.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Nothing,
    /// The name; none yet if its process has not written it.
    Pipe(Option<String>),
    Else,
}

fn named_by(text: &str) -> Named {
    if text.is_empty() {
        return Named::Pipe(None);
    }
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match text.strip_prefix(PREFIX) {
        Some(rest) if rest.len() == DIGITS && rest.bytes().all(is_digit) => {
            Named::Pipe(Some(text.to_owned()))
        }
        _ => Named::Else,
    }
}

fn path_of(name: &str) -> String {
    format!(r"\\.\pipe\{name}")
}

#[derive(Debug)]
pub(crate) struct Listener {
    name: String,
    /// The end that the next client gets.
    waiting: Served,
}

impl Listener {
    pub(crate) async fn accept(&mut self) -> io::Result<Accepted> {
        let connected = self.waiting.connected().await;
        // The next one is there before this one is taken away, so that no client finds none. One that failed is not used again.
        let next = pipe::serve(&path_of(&self.name), false)?;
        let served = std::mem::replace(&mut self.waiting, next);
        connected.map(|()| served.into())
    }
}

#[cfg(test)]
mod tests {
    use windows_sys::Win32::Storage::FileSystem::{READ_CONTROL, WRITE_DAC};

    use super::*;
    use crate::windows::{open_any, security};

    #[test]
    fn a_directory_in_which_others_could_listen_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d");
        crate::create_private_dir(&path).unwrap();
        SocketDir::open(&path, "s").unwrap();
        let opened = open_any(&path, READ_CONTROL | WRITE_DAC, true).unwrap();
        security::give_to_everybody(&opened).unwrap();
        let error = SocketDir::open(&path, "s").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    }

    #[test]
    fn only_a_name_of_ours_is_taken_for_one() {
        let name = format!("{PREFIX}{}", "0a".repeat(16));
        assert_eq!(named_by(&name), Named::Pipe(Some(name.clone())));
        assert_eq!(named_by(""), Named::Pipe(None));
        for other in [
            "x",
            PREFIX,
            &name[1..],
            &format!("{name}0"),
            &name.to_uppercase(),
        ] {
            assert_eq!(named_by(other), Named::Else, "{other}");
        }
    }
}
