use std::fs;
#[cfg(unix)]
use std::fs::Permissions;
#[cfg(unix)]
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[cfg(unix)]
#[test]
fn a_directory_is_claimed_if_it_is_missing_or_empty_and_left_alone_otherwise() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b");
    let (dir, found) = OwnDir::claim(&path).unwrap().unwrap();
    assert_eq!((found, mode(&path)), (BeforeClaim::Nothing, 0o700));
    dir.remove().unwrap();
    assert!(!path.exists());

    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
    let (_, found) = OwnDir::claim(&path).unwrap().unwrap();
    assert_eq!(
        (found, mode(&path)),
        (BeforeClaim::EmptyDir { mode: 0o1777 }, 0o700)
    );

    fs::write(path.join("f"), "precious").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    assert!(OwnDir::claim(&path).unwrap().is_none());
    assert_eq!(mode(&path), 0o755);

    symlink(temp.path().join("elsewhere"), temp.path().join("link")).unwrap();
    let error = OwnDir::claim(&temp.path().join("link")).unwrap_err();
    assert_eq!(error.source.to_string(), "it is a symbolic link");
    assert!(!temp.path().join("elsewhere").exists());
}

#[cfg(unix)]
#[test]
fn a_directory_that_is_held_stays_the_same_when_another_takes_its_name() {
    let temp = tempfile::tempdir().unwrap();
    let (path, moved) = (temp.path().join("d"), temp.path().join("moved"));
    let (dir, _) = OwnDir::claim(&path).unwrap().unwrap();
    fs::rename(&path, &moved).unwrap();
    symlink(temp.path(), &path).unwrap();
    dir.publish("f", b"text").unwrap();
    dir.create_dir("below").unwrap().create_file("g").unwrap();
    assert_eq!(dir.names().unwrap(), ["below", "f"]);
    assert!(moved.join("below/g").exists());
    assert!(!temp.path().join("f").exists());
    // The directory that has the name now is not the one that is to be removed.
    dir.dir("below").unwrap().remove_file("g").unwrap();
    dir.remove_dir("below").unwrap();
    dir.remove_file("f").unwrap();
    dir.remove().unwrap();
    assert!(path.is_symlink() && moved.exists());
}

#[cfg(unix)]
#[test]
fn nothing_in_a_directory_is_reached_through_a_link_or_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, _) = OwnDir::claim(&temp.path().join("d")).unwrap().unwrap();
    let victim = temp.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, dir.at("link")).unwrap();
    symlink(temp.path(), dir.at("dir")).unwrap();
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, dir.at("fifo"), kind, 0o600.into(), 0).unwrap();
    fs::create_dir(dir.at("real")).unwrap();
    let reason = |error: DurableError| error.source.to_string();
    for (name, why) in [
        ("link", "it is a symbolic link"),
        ("fifo", "it is no regular file"),
        ("real", "it is no regular file"),
    ] {
        assert_eq!(reason(dir.read(name).unwrap_err()), why);
        assert_eq!(reason(dir.open_file_to_write(name).unwrap_err()), why);
        assert_eq!(reason(dir.lock(name).unwrap_err()), why);
        assert_eq!(reason(dir.is_locked(name).unwrap_err()), why);
        dir.create_file(name).unwrap_err();
    }
    assert_eq!(reason(dir.dir("dir").unwrap_err()), "it is a symbolic link");
    assert_eq!(
        reason(dir.make_dir("fifo").unwrap_err()),
        "it is no directory"
    );
    dir.publish("link", b"text").unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert_eq!(dir.read("link").unwrap(), b"text");
}

#[test]
fn what_is_put_into_an_own_directory_can_be_read_locked_and_removed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/d");
    let (dir, found) = OwnDir::claim(&path).unwrap().unwrap();
    assert_eq!(found, BeforeClaim::Nothing);
    for text in ["one", "two"] {
        dir.publish("f", text.as_bytes()).unwrap();
    }
    assert_eq!(dir.read("f").unwrap(), b"two");
    let below = dir.make_dir("below").unwrap();
    dir.rename_into("f", &below, "g", Step::AsideRename)
        .unwrap();
    assert_eq!(dir.names().unwrap(), ["below"]);
    assert!(OwnDir::claim(&path).unwrap().is_none());
    let held = below.lock("lock").unwrap().unwrap();
    assert!(below.lock("lock").unwrap().is_none());
    assert!(below.is_locked("lock").unwrap());
    drop(held);
    assert!(!below.is_locked("lock").unwrap());
    for name in ["g", "lock", "none"] {
        below.remove_file(name).unwrap();
    }
    // Wine keeps the name of a file that is open.
    drop(below);
    dir.remove_dir("below").unwrap();
    dir.remove().unwrap();
    drop(dir);
    assert!(!path.exists());
}

#[test]
fn an_empty_directory_is_claimed_and_given_back_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("d");
    fs::create_dir(&path).unwrap();
    let (dir, found) = OwnDir::claim(&path).unwrap().unwrap();
    crate::check_own_dir(&path).unwrap();
    dir.set_mode(match found {
        BeforeClaim::EmptyDir { mode } => mode,
        BeforeClaim::Nothing => panic!("it was there"),
    })
    .unwrap();
    assert!(dir.names().unwrap().is_empty());
}

#[test]
fn staged_files_that_nobody_fills_are_swept_and_what_is_called_alike_is_not() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("d");
    let (dir, _) = OwnDir::claim(&path).unwrap().unwrap();
    let left = dir.stage(b"half").unwrap();
    assert!(is_staged_name(&left));
    let named = dir.stage(b"whole").unwrap();
    dir.name_staged(&named, "file").unwrap();
    let alive = crate::Staged::create_in(&path).unwrap();
    fs::write(path.join(".staged-mine"), "precious").unwrap();
    fs::create_dir(path.join(".staged-aDirectory00")).unwrap();
    assert_eq!(dir.sweep().unwrap(), 1);
    assert!(!path.join(left).exists() && alive.path().exists());
    assert_eq!(dir.read("file").unwrap(), b"whole");
    drop(alive);
    let names = [".staged-aDirectory00", ".staged-mine", "file"];
    assert_eq!(dir.names().unwrap(), names);
}

#[cfg(unix)]
#[test]
fn the_metadata_of_a_file_is_told_of_one_that_could_be_opened_and_of_no_other() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, _) = OwnDir::claim(&temp.path().join("own")).unwrap().unwrap();
    let at = |name| dir.path().join(name);
    fs::write(at("mine"), "six b.").unwrap();
    fs::set_permissions(at("mine"), Permissions::from_mode(0o600)).unwrap();
    let opened = Facts::of(&dir.open_file("mine").unwrap()).unwrap();
    assert_eq!(dir.file_facts("mine").unwrap(), opened);
    assert_eq!(opened.stamp.size, 6);

    symlink("mine", at("link")).unwrap();
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("shared"), "").unwrap();
    fs::set_permissions(at("shared"), Permissions::from_mode(0o622)).unwrap();
    for name in ["link", "dir", "shared", "missing"] {
        let error = dir.file_facts(name).unwrap_err().source;
        let of_opening = dir.open_file(name).unwrap_err().source;
        assert_eq!(error.to_string(), of_opening.to_string());
    }
}
