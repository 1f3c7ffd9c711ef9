//! Manifests that are copied into a new session: files, pipes and what changes meanwhile.

use std::fs;
use std::io::Write as _;

use attachfs_durable::is_staged_name;
use attachfs_session::{Session, SessionMeta};
use tempfile::TempDir;

use super::*;

/// Longer than several pieces.
fn text() -> Vec<u8> {
    (0..3 * PIECE as u32 + 1000)
        .map(|number| number as u8)
        .collect()
}

struct World {
    temp: TempDir,
}

impl World {
    fn new() -> Self {
        let temp = TempDir::new().unwrap();
        Self { temp }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn session(&self) -> NewSession {
        Session::begin(&self.at("session")).unwrap()
    }

    fn file(&self) -> PathBuf {
        let path = self.at("manifest");
        fs::write(&path, text()).unwrap();
        path
    }

    #[cfg(unix)]
    fn pipe(&self) -> PathBuf {
        let path = self.at("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        path
    }

    async fn open(&self, source: ManifestSource) -> Result<OpenManifest, Error> {
        let given = GivenManifest::At { source, at: None };
        let never = CancellationToken::new();
        given.open(&StoreSettings::default(), &never).await
    }

    /// Copies a manifest, finishes the session and gives what it keeps.
    async fn copied(&self, from: OpenManifest) -> (BaseManifest, Vec<u8>) {
        let mut session = self.session();
        let described = from.copy_into(&mut session).await.unwrap();
        let mapped = session.map_manifests().unwrap();
        assert_eq!(ContentHash::of(mapped[0].as_ref()), described.hash);
        let meta = SessionMeta {
            manifests: vec![described.clone()],
            ..attachfs_fixtures::session_meta(b"")
        };
        let session = session.finish(meta).unwrap();
        (described, session.manifests().unwrap().remove(0))
    }

    fn is_left(&self) -> bool {
        self.at("session").exists()
    }
}

/// The text of an error, and of what caused it.
fn said(error: &Error) -> String {
    attachfs_transfer::error_chain(error)
}

#[tokio::test]
async fn a_file_is_copied_whole_and_known_by_the_hash_of_the_copy() {
    let world = World::new();
    let path = world.file();
    let open = world
        .open(ManifestSource::File(path.clone()))
        .await
        .unwrap();
    let (described, kept) = world.copied(open).await;
    assert_eq!(kept, text());
    assert_eq!(described.hash, ContentHash::of(&text()));
    assert_eq!(described.source, path.display().to_string());
}

#[tokio::test]
async fn bytes_in_memory_are_copied_too() {
    let world = World::new();
    let given = GivenManifest::from(ManifestBytes {
        name: "memory".to_owned(),
        bytes: text(),
        at: None,
    });
    assert_eq!(given.name(), "memory");
    let never = CancellationToken::new();
    let open = given.open(&StoreSettings::default(), &never).await.unwrap();
    let (described, kept) = world.copied(open).await;
    assert_eq!((kept, described.source), (text(), "memory".to_owned()));
}

#[cfg(unix)]
#[tokio::test]
async fn a_manifest_that_comes_through_a_pipe_is_copied_as_it_comes() {
    let world = World::new();
    let pipe = world.pipe();
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut pipe = File::options().write(true).open(pipe).unwrap();
            for piece in text().chunks(70_000) {
                pipe.write_all(piece).unwrap();
            }
        }
    });
    let open = world.open(ManifestSource::File(pipe)).await.unwrap();
    assert!(matches!(open, OpenManifest::Piped { .. }));
    let (described, kept) = world.copied(open).await;
    writer.join().unwrap();
    assert_eq!(kept, text());
    assert_eq!(described.hash, ContentHash::of(&text()));
}

#[cfg(unix)]
#[tokio::test]
async fn who_waits_for_a_pipe_can_be_cancelled_and_leaves_nothing() {
    let world = World::new();
    let pipe = world.pipe();
    // A writer that sends something and no more.
    let mut writer = File::options().read(true).write(true).open(&pipe).unwrap();
    writer.write_all(b"the beginning").unwrap();
    let open = world.open(ManifestSource::File(pipe)).await.unwrap();
    let mut session = world.session();
    {
        let copying = open.copy_into(&mut session);
        let soon = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, copying).await.is_err());
    }
    drop(session);
    assert!(!world.is_left());
}

#[tokio::test]
async fn a_file_that_somebody_writes_to_meanwhile_is_refused_and_nothing_is_left() {
    let world = World::new();
    let path = world.file();
    for change in [
        &(|path: &Path| {
            let mut file = File::options().append(true).open(path).unwrap();
            file.write_all(b"more").unwrap();
        }) as &dyn Fn(&Path),
        &|path| {
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(5)
                .unwrap();
        },
        &|path| {
            let mut file = File::options().write(true).open(path).unwrap();
            file.write_all(b"X").unwrap();
        },
    ] {
        fs::write(&path, text()).unwrap();
        let open = world
            .open(ManifestSource::File(path.clone()))
            .await
            .unwrap();
        // Later than the clock of the file system ticks.
        std::thread::sleep(std::time::Duration::from_millis(20));
        change(&path);
        let mut session = world.session();
        let error = open.copy_into(&mut session).await.unwrap_err();
        assert!(
            said(&error).contains("changed while it was read"),
            "{}",
            said(&error)
        );
        drop(session);
        assert!(!world.is_left());
    }
}

#[tokio::test]
async fn a_manifest_that_is_too_long_is_refused_before_it_is_copied() {
    let world = World::new();
    let path = world.at("long");
    let file = File::create(&path).unwrap();
    file.set_len(LONGEST_MOUNTED + 1).unwrap();
    let error = world
        .open(ManifestSource::File(path.clone()))
        .await
        .unwrap_err();
    assert!(
        said(&error).contains("longer than a manifest may be"),
        "{}",
        said(&error)
    );
    file.set_len(LONGEST_MOUNTED).unwrap();
    world.open(ManifestSource::File(path)).await.unwrap();
}

#[tokio::test]
async fn no_more_is_copied_than_a_manifest_may_have() {
    let world = World::new();
    let mut session = world.session();
    let copy = Copy {
        to: session.next_manifest().unwrap(),
        hasher: Hasher::new(),
    };
    copy.check_fits(LONGEST_MOUNTED as usize).unwrap();
    let error = copy.check_fits(LONGEST_MOUNTED as usize + 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
}

#[test]
fn what_is_too_long_to_be_read_whole_is_refused() {
    let world = World::new();
    let dir = attachfs_durable::OwnDir::create(&world.at("own")).unwrap();
    let described = [BaseManifest {
        source: "long".to_owned(),
        hash: ContentHash::of(b""),
        at: None,
    }];
    // Holes: nobody looks at them.
    let check = |len: u64| {
        let file = dir.create_file("long").unwrap();
        file.set_len(len).unwrap();
        let mapped = dir.map("long").unwrap();
        dir.remove_file("long").unwrap();
        kept(&described, vec![mapped])[0].check_len()
    };
    check(LARGEST_MANIFEST).unwrap();
    let error = check(LARGEST_MANIFEST + 1).unwrap_err();
    assert!(
        said(&error).contains("cannot be read entry by entry"),
        "{}",
        said(&error)
    );
}

#[tokio::test]
async fn a_manifest_that_is_missing_is_told_before_anything_is_made() {
    let world = World::new();
    let path = world.at("missing");
    let error = world.open(ManifestSource::File(path)).await.unwrap_err();
    assert!(
        said(&error).contains("cannot read the manifest"),
        "{}",
        said(&error)
    );
}

#[tokio::test]
async fn a_copy_has_no_name_before_it_is_whole() {
    let world = World::new();
    let mut session = world.session();
    let mut copy = Copy {
        to: session.next_manifest().unwrap(),
        hasher: Hasher::new(),
    };
    copy.add(b"half").unwrap();
    let names: Vec<_> = fs::read_dir(world.at("session/base"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.len() == 1 && is_staged_name(&names[0]), "{names:?}");
    copy.finish("half".to_owned(), None).unwrap();
    assert_eq!(fs::read(world.at("session/base/0")).unwrap(), b"half");
}
