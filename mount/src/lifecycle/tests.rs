//! Mounts that begin and end in every way.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use super::device::DeviceOptions;
use super::point::Finding;
use super::*;
use crate::testing::{Fixture, PATIENCE, can_mount, file, run};

fn is_mounted(path: &Path) -> bool {
    mountinfo::at(path).unwrap().is_some()
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: only root can do this");
    }
    is_root
}

/// A mount whose connection is closed, as if its process had died.
fn dead_mount(path: &Path, source: &MountSource) {
    let point = match point::look(path, None).unwrap() {
        Finding::Free(point) => point,
        other @ Finding::OwnDead(_) => panic!("{other:?}"),
    };
    let options = DeviceOptions {
        source: source.clone(),
        read_only: false,
        allow_other: false,
    };
    drop(device::mount(&point, &options).unwrap());
    assert_eq!(
        fs::metadata(path).unwrap_err().kind(),
        ErrorKind::NotConnected
    );
}

#[test]
fn the_kernels_table_shows_the_session() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    let expected = ActiveMount {
        mount_point: fixture.root(),
        session: Some(fixture.id()),
    };
    assert!(active_mounts().unwrap().contains(&expected));
    assert_eq!(
        mountinfo::at(&fixture.root()).unwrap().unwrap().fs_type,
        "fuse.attachfs"
    );
    fixture.unmount();
    assert!(!active_mounts().unwrap().contains(&expected));
    assert!(!is_mounted(&fixture.root()));
}

#[test]
fn a_second_mount_on_the_same_directory_is_refused_and_says_who_is_there() {
    let Some(mut fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    let options = MountOptions {
        session: Some(SessionId::from_random([8; 16])),
        ..fixture.options()
    };
    match mount(fixture.vfs.clone(), &options) {
        Err(MountError::AlreadyMounted { source_name, .. }) => {
            assert_eq!(source_name, format!("attachfs:{}", fixture.id()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(fixture.at("a")).unwrap(), b"a");
    fixture.unmount();
    fixture.mount().unwrap();
    assert_eq!(fs::read(fixture.at("a")).unwrap(), b"a");
    fixture.unmount();
}

#[test]
fn a_mount_that_is_used_stays_and_names_who_uses_it() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    let held = fs::File::open(fixture.at("a")).unwrap();
    match fixture.mount_handle().unmount(Unmount::IfUnused, PATIENCE) {
        Err(error @ UnmountError::Busy { .. }) => {
            let text = error.to_string();
            let process = format!(
                "process {}, {} open",
                std::process::id(),
                fixture.at("a").display()
            );
            assert!(text.contains(&process), "{text}");
        }
        other => panic!("{other:?}"),
    }
    drop(held);
    fixture.unmount();
}

#[test]
fn a_detached_mount_ends_with_its_last_user() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    let mounted = fixture.mount_handle();
    let held = fs::File::create(fixture.at("own")).unwrap();
    match mounted.unmount(Unmount::Detach, Duration::ZERO) {
        Err(UnmountError::StillUsed { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(!is_mounted(&mounted.mount_point()));
    std::io::Write::write_all(&mut &held, b"to the end").unwrap();
    drop(held);
    let end = mounted.wait_for(PATIENCE);
    assert!(matches!(end, Some(End::Unmounted)), "{end:?}");
    mounted.unmount(Unmount::IfUnused, PATIENCE).unwrap();
}

#[test]
fn an_unmount_from_outside_is_noticed() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    let ended = fixture.mount_handle().ended();
    run(
        Path::new("/"),
        "umount",
        &[fixture.root().to_str().unwrap()],
    );
    assert!(matches!(fixture.mount_handle().wait(), End::Unmounted));
    fixture.runtime.block_on(ended);
}

#[test]
fn an_aborted_connection_is_an_end_and_no_dead_mount_stays() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    let mounted = fixture.mount_handle();
    if !is_root() {
        return;
    }
    // While a file is open, this aborts the connection and does not unmount.
    let held = fs::File::open(fixture.at("a")).unwrap();
    let aborted = rustix::mount::unmount(fixture.root(), rustix::mount::UnmountFlags::FORCE);
    assert_eq!(aborted, Err(rustix::io::Errno::BUSY));
    assert!(matches!(mounted.wait_for(PATIENCE), Some(End::Broken(_))));
    drop(held);
    assert!(!is_mounted(&mounted.mount_point()));
}

#[test]
fn a_connection_that_is_given_up_ends_although_a_parent_was_renamed_and_a_file_is_open() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    let mounted = fixture.mount_handle();
    let held = fs::File::open(fixture.at("a")).unwrap();
    let (_, minor) = mounted.shared.entry.device.split_once(':').unwrap();
    if !Path::new("/sys/fs/fuse/connections").join(minor).exists() {
        println!("skipped: connections cannot be aborted here: there is no fusectl");
        return;
    }
    let parent = fixture.dir.path().with_extension("renamed");
    fs::rename(fixture.dir.path(), &parent).unwrap();
    mounted.shared.abandon();
    let end = mounted.wait_for(PATIENCE);
    fs::rename(&parent, fixture.dir.path()).unwrap();
    assert!(end.is_some());
    drop(held);
}

#[test]
fn only_a_mount_that_is_still_there_is_kept() {
    let file = || [("a", file("a"))];
    let (Some(gone), Some(other)) = (Fixture::mounted(file()), Fixture::mounted(file())) else {
        return;
    };
    let gone_entry = mountinfo::at(&gone.root()).unwrap().unwrap();
    let other_entry = mountinfo::at(&other.root()).unwrap().unwrap();
    gone.unmount();
    assert!(kernel::kept(&gone_entry).unwrap().is_none());
    // The kernel gives the numbers of a mount that has gone to the next, wherever that is.
    let numbered_like_other = MountEntry {
        id: other_entry.id,
        device: other_entry.device.clone(),
        ..gone_entry
    };
    assert!(kernel::kept(&numbered_like_other).unwrap().is_none());
    let kept = kernel::kept(&other_entry).unwrap();
    assert!(kept.is_some());
    let busy = rustix::mount::unmount(other.root(), rustix::mount::UnmountFlags::empty());
    assert_eq!(busy, Err(rustix::io::Errno::BUSY));
    drop(kept);
    other.unmount();
}

#[test]
fn no_two_mounts_are_the_same_whatever_their_numbers() {
    let read_only = || MountSource::new(None).unwrap().to_string();
    assert_ne!(read_only(), read_only());
}

#[test]
fn whoever_unmounted_has_the_file_system_for_itself() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    assert_eq!(fs::read(fixture.at("a")).unwrap(), b"a");
    fixture.unmount();
    // The fixture has it, and the fixture's session.
    assert_eq!(Arc::strong_count(&fixture.vfs), 2);
}

#[test]
fn other_users_are_let_in_only_if_asked_for() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65_534;
    let Some(fixture) = Fixture::new([("a", file("a"))]) else {
        return;
    };
    if !is_root() {
        return;
    }
    fs::set_permissions(fixture.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |script: &str| {
        let mut shell = Command::new("sh");
        shell
            .args(["-ec", script])
            .current_dir("/")
            .env("M", fixture.root());
        shell
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap()
            .status
            .success()
    };
    for allow_other in [false, true] {
        let options = MountOptions {
            allow_other,
            ..fixture.options()
        };
        let mounted = mount(fixture.vfs.clone(), &options).unwrap();
        assert_eq!(as_nobody("cat $M/a"), allow_other);
        assert!(!as_nobody("echo x > $M/a"), "permissions are checked");
        mounted.unmount(Unmount::IfUnused, PATIENCE).unwrap();
    }
    let options = MountOptions {
        allow_other: true,
        ..fixture.options()
    };
    let mounted = mount(fixture.vfs.clone(), &options).unwrap();
    fs::set_permissions(fixture.root(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(as_nobody(
        "umask 077; mkdir $M/d; echo x > $M/d/own; ln -s own $M/d/link"
    ));
    let owner = |name| {
        std::os::unix::fs::MetadataExt::uid(&fs::symlink_metadata(fixture.at(name)).unwrap())
    };
    assert_eq!(["d", "d/own", "d/link"].map(owner), [NOBODY; 3]);
    mounted.unmount(Unmount::IfUnused, PATIENCE).unwrap();
}

#[test]
fn dropping_a_mount_takes_it_away() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    let root = fixture.root();
    drop(fixture);
    assert!(!is_mounted(&root));
}

#[test]
fn a_dead_mount_of_the_same_session_is_replaced() {
    let Some(mut fixture) = Fixture::new([("a", file("a"))]) else {
        return;
    };
    dead_mount(&fixture.root(), &MountSource::Session(fixture.id()));
    fixture.mount().unwrap();
    assert_eq!(fs::read(fixture.at("a")).unwrap(), b"a");
    fixture.unmount();
    assert!(!is_mounted(&fixture.root()));
}

#[test]
fn a_mount_of_another_session_stays_until_that_session_removes_it() {
    let Some(mut fixture) = Fixture::new([("a", file("a"))]) else {
        return;
    };
    let Some(second) = Fixture::new([("a", file("a"))]) else {
        return;
    };
    let other = second.id();
    dead_mount(&fixture.root(), &MountSource::Session(other.clone()));
    match fixture.mount() {
        Err(MountError::AlreadyMounted { session, .. }) => assert_eq!(session, Some(other.clone())),
        other => panic!("{other:?}"),
    }
    // Not even by a session that was mounted there.
    assert!(!detach_dead(fixture.session()).unwrap());
    assert!(is_mounted(&fixture.root()));
    let taken = take_away(&other).unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].mount_point, fixture.root());
    fixture.mount().unwrap();
    fixture.unmount();
}

#[test]
fn all_dead_mounts_of_a_session_are_removed_wherever_they_are() {
    let Some(fixture) = Fixture::new([("a", file("a"))]) else {
        return;
    };
    let elsewhere = fixture.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for at in [&elsewhere, &fixture.root()] {
        dead_mount(at, &MountSource::Session(fixture.id()));
    }
    let session = fixture.session();
    assert!(detach_dead(session).unwrap());
    assert!(!is_mounted(&elsewhere) && !is_mounted(&fixture.root()));
    assert!(!detach_dead(session).unwrap());
}

#[test]
fn a_mount_of_another_program_is_left_alone() {
    let Some(mut fixture) = Fixture::new([("a", file("a"))]) else {
        return;
    };
    if !is_root() {
        return;
    }
    let root = fixture.root();
    let device = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .unwrap();
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        std::os::fd::AsRawFd::as_raw_fd(&device)
    );
    let data = std::ffi::CString::new(data).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("sshfs", &root, "fuse", flags, data.as_c_str()).unwrap();
    // Nobody serves it: whoever asked it would wait for ever.
    match fixture.mount() {
        Err(error @ MountError::AlreadyMounted { session: None, .. }) => {
            assert!(error.to_string().contains("fusermount3 -u"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(is_mounted(&root));
    drop(device);
    rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn a_mount_whose_parent_was_renamed_is_unmounted_where_it_is() {
    for how in [Unmount::IfUnused, Unmount::Detach] {
        let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
            return;
        };
        let parent = fixture.dir.path().with_extension("renamed");
        fs::rename(fixture.dir.path(), &parent).unwrap();
        let mounted = fixture.mount_handle();
        let now = parent.join("mnt");
        assert_eq!(mounted.mount_point(), now);
        let unmounted = mounted.unmount(how, PATIENCE);
        let is_left = is_mounted(&now);
        fs::rename(&parent, fixture.dir.path()).unwrap();
        unmounted.unwrap();
        assert!(!is_left);
        assert!(mounted.end().is_some());
    }
}

#[test]
fn a_bind_mount_is_in_the_way_and_goes_with_a_mount_that_is_detached() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    if !is_root() {
        return;
    }
    let bound = fixture.dir.path().join("bound");
    fs::create_dir(&bound).unwrap();
    rustix::mount::mount_bind(fixture.root(), &bound).unwrap();
    let mounted = fixture.mount_handle();
    match mounted.unmount(Unmount::IfUnused, PATIENCE) {
        Err(error @ UnmountError::Busy { .. }) => {
            let named = format!("the mount {}", bound.display());
            assert!(error.to_string().contains(&named), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(fixture.at("a")).unwrap(), b"a");
    mounted.unmount(Unmount::Detach, PATIENCE).unwrap();
    assert!(!is_mounted(&bound) && !is_mounted(&fixture.root()));
}

#[test]
fn the_helper_mounts_and_unmounts_as_the_system_call_does() {
    let Some(fixture) = Fixture::new([("a", file("a"))]) else {
        return;
    };
    if Command::new(device::HELPER).arg("-V").output().is_err() {
        println!("skipped: no fusermount3");
        return;
    }
    let options = DeviceOptions {
        source: MountSource::Session(fixture.id()),
        read_only: false,
        allow_other: false,
    };
    let device = device::mount_by_helper(&fixture.root(), &options).unwrap();
    let runtime = fixture.runtime.handle().clone();
    let connection = kernel::Connection::greet(
        fixture.vfs.clone(),
        device,
        runtime,
        crate::FastPath::None,
        0,
    )
    .unwrap();
    let entry = mountinfo::at(&fixture.root()).unwrap().unwrap();
    assert_eq!(MountSource::parse(&entry), Some(options.source));
    let mounted = serve(connection, entry).unwrap();
    assert_eq!(fs::read(fixture.at("a")).unwrap(), b"a");
    let held = fs::File::open(fixture.at("a")).unwrap();
    let busy = kernel::unmount_by_helper(&fixture.root(), Unmount::IfUnused);
    assert!(matches!(busy, Err(unmount::Refusal::Busy)), "{busy:?}");
    drop(held);
    // Programs that other tests start have what is open here for a moment.
    let until = Instant::now() + PATIENCE;
    while let Err(refusal) = kernel::unmount_by_helper(&fixture.root(), Unmount::IfUnused) {
        assert!(matches!(refusal, Refusal::Busy), "{refusal:?}");
        assert!(Instant::now() < until, "busy for too long");
    }
    let end = mounted.wait_for(PATIENCE);
    assert!(matches!(end, Some(End::Unmounted)), "{end:?}");
}

#[test]
fn the_helpers_refusal_is_passed_on() {
    if !can_mount() || Command::new(device::HELPER).arg("-V").output().is_err() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let options = DeviceOptions {
        source: MountSource::ReadOnly(7),
        read_only: true,
        allow_other: false,
    };
    match device::mount_by_helper(&file.path().join("missing"), &options) {
        Err(MountError::Helper { message, .. }) => {
            assert!(message.contains("fusermount3"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}
