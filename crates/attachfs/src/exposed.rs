//! Files that usually hold secrets, found among those that are about to be uploaded.

use attachfs_scan::{EntryKind, Scan};
use serde::Serialize;

/// How many places are named.
const NAMED: usize = 5;

/// Directories that hold keys, passwords or the history of sources.
const DIRECTORIES: [&[u8]; 8] = [
    b".git", b".hg", b".svn", b".ssh", b".aws", b".azure", b".gnupg", b".kube",
];

/// Files that hold keys or passwords.
const FILES: [&[u8]; 8] = [
    b"id_rsa",
    b"id_dsa",
    b"id_ecdsa",
    b"id_ed25519",
    b".netrc",
    b".pgpass",
    b".git-credentials",
    b".htpasswd",
];

/// The endings of further names of such files.
const ENDINGS: [&[u8]; 5] = [b".pem", b".key", b".p12", b".pfx", b".ppk"];

/// Files that are about to be uploaded by default and may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposed {
    /// How many files.
    pub files: u64,
    /// Some of them; of a directory like `.git` the directory, with a slash.
    pub paths: Vec<String>,
}

impl Exposed {
    /// Among what a scan found, if there is any.
    pub(crate) fn among(found: &Scan) -> Option<Self> {
        let (mut files, mut paths) = (0, Vec::new());
        for entry in &found.entries {
            let path = entry.path.as_bytes();
            let EntryKind::File(_) = entry.kind else {
                continue;
            };
            let Some(part) = exposing(path) else { continue };
            files += 1;
            let shown = attachfs_manifest::EscapedBytes(part).to_string();
            let shown = if part.len() < path.len() {
                shown + "/"
            } else {
                shown
            };
            if paths.len() < NAMED && !paths.contains(&shown) {
                paths.push(shown);
            }
        }
        (files > 0).then_some(Self { files, paths })
    }
}

/// The part of a file's path that says that it may be secret.
fn exposing(path: &[u8]) -> Option<&[u8]> {
    let mut start = 0;
    for name in path.split(|&byte| byte == b'/') {
        let end = start + name.len();
        let is_file = end == path.len();
        let is_exposing = if is_file {
            name.starts_with(b".env")
                || FILES.contains(&name)
                || ENDINGS.iter().any(|ending| name.ends_with(ending))
        } else {
            DIRECTORIES.contains(&name)
        };
        if is_exposing {
            return Some(&path[..end]);
        }
        start = end + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_known_by_its_name_and_that_of_its_directories() {
        for (path, part) in [
            (".env", Some(".env")),
            ("a/.env.local", Some("a/.env.local")),
            ("keys/id_ed25519", Some("keys/id_ed25519")),
            ("server.pem", Some("server.pem")),
            ("a/.git/objects/00/ab", Some("a/.git")),
            (".aws/credentials", Some(".aws")),
            (".gitignore", None),
            ("git/.github/x", None),
            ("id_rsa.pub", None),
            ("keys/readme", None),
            ("scene.exr", None),
        ] {
            let found = exposing(path.as_bytes());
            assert_eq!(found, part.map(str::as_bytes), "{path}");
        }
    }
}
