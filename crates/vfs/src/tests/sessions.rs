//! The overlay in a session's directory: other users cannot prepare, use or lose files in it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use attachfs_session::{Session, SessionError};

use super::world::{Given, READ_WRITE, World, bytes, files, settings, tempdir};
use crate::Vfs;

fn world() -> World {
    World::new(&[("a", Given::File(bytes(10)))])
}

#[test]
fn files_of_a_session_are_for_its_owner_only() {
    let (world, dir) = (world(), tempdir());
    let place = dir.path().join("new/session");
    let kernel = world.create(&place);
    kernel.put("f", b"secret");
    let ino = kernel.stat("f").unwrap().ino;
    let mode = |part: &str| fs::metadata(place.join(part)).unwrap().permissions().mode() & 0o777;
    for part in ["", "base", "commits", "scratch"] {
        assert_eq!(mode(part), 0o700, "{part}");
    }
    let scratch = format!("scratch/{:016x}", ino.raw());
    for part in [
        "session.json",
        "base/0",
        "journal",
        "reserve",
        "lock",
        &scratch,
    ] {
        assert_eq!(mode(part), 0o600, "{part}");
    }
}

#[test]
fn a_session_has_one_process_at_a_time() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    assert!(Session::is_in_use(dir.path()).unwrap());
    match Session::open(dir.path()) {
        Err(SessionError::InUse(named)) => assert_eq!(named, dir.path()),
        other => panic!("{other:?}"),
    }
    assert_eq!(Session::read_meta(dir.path()).unwrap(), world.meta());
    drop(kernel);
    assert!(!Session::is_in_use(dir.path()).unwrap());
    Session::open(dir.path()).unwrap();
}

fn distrusted<T: std::fmt::Debug>(result: Result<T, SessionError>) -> String {
    match result {
        Err(SessionError::Durable(error)) if error.doing == "trust" || error.doing == "open" => {
            error.source.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_file_of_a_session_is_opened_through_a_link() {
    let (world, dir) = (world(), tempdir());
    let place = dir.path().join("place");
    let victim = dir.path().join("victim");
    for name in [
        "session.json",
        "lock",
        "journal",
        "base/0",
        "scratch/4000000000000000",
    ] {
        let kernel = world.create(&place);
        kernel.put("f", b"x");
        drop(kernel);
        let at = place.join(name);
        fs::rename(&at, &victim).unwrap();
        let before = fs::read(&victim).unwrap();
        symlink(&victim, &at).unwrap();
        let opened = Session::open(&place).and_then(|session| {
            session.manifests()?;
            Ok(())
        });
        match name {
            "journal" => assert!(world.recover(&place).is_err()),
            "scratch/4000000000000000" => {
                let kernel = world.recover(&place).unwrap();
                kernel.open("f", READ_WRITE, false).unwrap_err();
            }
            _ => assert_eq!(distrusted(opened), "it is a symbolic link", "{name}"),
        }
        assert_eq!(fs::read(&victim).unwrap(), before, "{name}");
        fs::remove_dir_all(&place).unwrap();
    }
}

#[test]
fn a_scratch_file_is_never_written_into_an_existing_file() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let planted = dir.path().join("scratch/4000000000000000");
    symlink(&victim, &planted).unwrap();
    kernel.put("f", b"x");
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(fs::symlink_metadata(&planted).unwrap().is_file());
    assert_eq!(kernel.cat("f"), b"x");
}

fn names(dir: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn discarding_deletes_the_sessions_files_and_nothing_else() {
    let (world, dir) = (world(), tempdir());
    let (place, elsewhere) = (dir.path().join("session"), dir.path().join("fast"));
    let mut meta = world.meta();
    meta.scratch_dir = Some(elsewhere.clone());
    let session = Session::create(&place, meta, &[world.manifest()]).unwrap();
    let opened = files(&session);
    let vfs = Vfs::create(opened, world.tree.clone(), world.fetcher(), settings()).unwrap();
    let kernel = super::world::Kernel::new(vfs);
    kernel.put("f", b"x");
    for name in [
        "log",
        "log.1",
        "log.12",
        ".staged-0123456789ab",
        "base/.staged-0123456789ab",
    ] {
        fs::write(place.join(name), "").unwrap();
    }
    fs::create_dir(place.join("mnt")).unwrap();
    fs::write(elsewhere.join("other"), "another's").unwrap();
    let scratch = elsewhere.join(world.meta().id.as_str());
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 1);

    kernel.vfs.abandon();
    session.discard().unwrap();
    drop(kernel);
    assert_eq!(names(dir.path()), ["fast"]);
    assert_eq!(names(&elsewhere), ["other"]);
}

#[test]
fn a_half_deleted_session_is_refused_and_can_be_deleted_again() {
    let (world, dir) = (world(), tempdir());
    let place = dir.path().join("session");
    let kernel = world.create(&place);
    kernel.put("f", b"x");
    drop(kernel);
    fs::remove_file(place.join("journal")).unwrap();
    world.recover(&place).unwrap_err();
    Session::open(&place).unwrap().discard().unwrap();
    assert!(!place.exists());
}

#[test]
fn a_fifo_in_place_of_the_journal_does_not_block() {
    let (world, dir) = (world(), tempdir());
    drop(world.create(dir.path()));
    let journal = dir.path().join("journal");
    fs::remove_file(&journal).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &journal, fifo, 0o600.into(), 0).unwrap();
    world.recover(dir.path()).unwrap_err();
}
