//! Real mounts, used through the kernel.

mod lazy;
mod posix;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use crate::testing::{CHUNK, CREATED, Fixture, Input, MTIME, PATIENCE, file, pattern, run};
use crate::{End, Unmount};

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<Errno> {
    Errno::from_io_error(&result.unwrap_err())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn inputs_are_read_as_they_are_in_the_store() {
    let large = pattern(3 * CHUNK as usize + 17);
    let inputs = [
        ("small", file("hello")),
        ("dir/large", file(large.clone())),
        ("none", file("")),
    ];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    assert_eq!(fs::read(fixture.at("small")).unwrap(), b"hello");
    assert_eq!(fs::read(fixture.at("none")).unwrap(), b"");
    assert_eq!(fs::read(fixture.at("dir/large")).unwrap(), large);
    let mut across = [0; 40];
    let opened = File::open(fixture.at("dir/large")).unwrap();
    opened.read_exact_at(&mut across, CHUNK - 20).unwrap();
    assert_eq!(across, large[CHUNK as usize - 20..CHUNK as usize + 20]);
    assert_eq!(opened.read_at(&mut across, large.len() as u64).unwrap(), 0);
    drop(opened);
    fixture.unmount();
}

#[test]
fn stat_shows_what_the_manifest_says() {
    let inputs = [
        ("a", file("12345")),
        ("run", Input::Runnable(b"#!".to_vec())),
        ("d", Input::Dir),
    ];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    let a = fs::metadata(fixture.at("a")).unwrap();
    assert_eq!((a.len(), a.blocks(), a.nlink()), (5, 1, 1));
    assert_eq!(a.permissions().mode(), 0o100_644);
    assert_eq!(a.mtime() * 1_000_000 + a.mtime_nsec() / 1000, MTIME);
    assert_eq!(a.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(
        fs::metadata(fixture.at("run"))
            .unwrap()
            .permissions()
            .mode(),
        0o100_755
    );
    let d = fs::metadata(fixture.at("d")).unwrap();
    assert_eq!((d.permissions().mode(), d.mtime()), (0o040_755, CREATED));
    assert_ne!(a.ino(), d.ino());
    fixture.unmount();
}

#[test]
fn links_of_the_manifest_lead_from_where_they_are() {
    let inputs = [
        ("d/target", file("there")),
        ("d/e/link", Input::Link("d/target")),
    ];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    assert_eq!(
        fs::read_link(fixture.at("d/e/link")).unwrap(),
        Path::new("../target")
    );
    assert_eq!(fs::read(fixture.at("d/e/link")).unwrap(), b"there");
    std::os::unix::fs::symlink("../outside me", fixture.at("own")).unwrap();
    assert_eq!(
        fs::read_link(fixture.at("own")).unwrap(),
        Path::new("../outside me")
    );
    fixture.unmount();
}

#[test]
fn a_name_that_was_missing_can_be_created() {
    let Some(fixture) = Fixture::mounted([("d/a", file("a"))]) else {
        return;
    };
    let new = fixture.at("d/new");
    assert_eq!(errno(fs::metadata(&new)), Some(Errno::NOENT));
    assert_eq!(errno(fs::metadata(&new)), Some(Errno::NOENT));
    fs::write(&new, b"made").unwrap();
    assert_eq!(fs::read(&new).unwrap(), b"made");
    let again = OpenOptions::new().write(true).create_new(true).open(&new);
    assert_eq!(errno(again), Some(Errno::EXIST));
    assert_eq!(names(&fixture.at("d")), ["a", "new"]);
    fixture.unmount();
}

#[test]
fn the_mode_of_what_is_created_obeys_the_umask() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    fixture.sh("umask 027; touch f; mkdir d; : > g; chmod 4711 g; mknod n p && exit 1; true");
    let mode = |name| fs::metadata(fixture.at(name)).unwrap().permissions().mode();
    assert_eq!((mode("f"), mode("d")), (0o100_640, 0o040_750));
    assert_eq!(mode("g"), 0o100_711, "set-user-id is dropped");
    fixture.unmount();
}

#[test]
fn an_input_opened_for_reading_and_writing_opens_at_the_first_try_and_keeps_its_bytes() {
    let large = pattern(2 * CHUNK as usize + 5);
    let Some(fixture) = Fixture::mounted([("large", file(large.clone()))]) else {
        return;
    };
    let before = fs::metadata(fixture.at("large")).unwrap();
    let mut opened = OpenOptions::new()
        .read(true)
        .write(true)
        .open(fixture.at("large"))
        .unwrap();
    let mut read = Vec::new();
    opened.read_to_end(&mut read).unwrap();
    assert_eq!(read, large);
    drop(opened);
    let after = fs::metadata(fixture.at("large")).unwrap();
    assert_eq!(
        (after.len(), after.mtime_nsec()),
        (before.len(), before.mtime_nsec())
    );
    fixture.unmount();
}

#[test]
fn part_of_an_input_is_overwritten_and_the_rest_stays() {
    let mut bytes = pattern(2 * CHUNK as usize + 5);
    let Some(fixture) = Fixture::mounted([("large", file(bytes.clone()))]) else {
        return;
    };
    let reader = File::open(fixture.at("large")).unwrap();
    let at = CHUNK as usize - 3;
    let writer = OpenOptions::new()
        .write(true)
        .open(fixture.at("large"))
        .unwrap();
    writer.write_all_at(b"changed", at as u64).unwrap();
    bytes[at..at + 7].copy_from_slice(b"changed");
    assert_eq!(fs::read(fixture.at("large")).unwrap(), bytes);
    let mut seen = vec![0; bytes.len()];
    reader.read_exact_at(&mut seen, 0).unwrap();
    assert!(seen == bytes, "who had it open sees the new bytes");
    drop((reader, writer));
    assert_eq!(
        fs::metadata(fixture.at("large")).unwrap().len(),
        bytes.len() as u64
    );
    fixture.unmount();
}

#[test]
fn an_input_that_is_written_anew_is_not_asked_of_the_store() {
    let Some(fixture) = Fixture::mounted([("a", file("the old bytes"))]) else {
        return;
    };
    for object in fixture.store.objects() {
        fixture.store.remove(object);
    }
    fs::write(fixture.at("a"), b"new").unwrap();
    assert_eq!(fs::read(fixture.at("a")).unwrap(), b"new");
    assert_eq!(fixture.vfs.counters().files_read, 0);
    fixture.unmount();
}

#[test]
fn an_input_is_appended_to() {
    let Some(fixture) = Fixture::mounted([("log", file("one\n"))]) else {
        return;
    };
    for line in ["two\n", "three\n"] {
        let mut log = OpenOptions::new()
            .append(true)
            .open(fixture.at("log"))
            .unwrap();
        log.write_all(line.as_bytes()).unwrap();
    }
    assert_eq!(fs::read(fixture.at("log")).unwrap(), b"one\ntwo\nthree\n");
    fixture.unmount();
}

#[test]
fn truncating_by_name_and_by_handle_shows_in_size_and_bytes() {
    let bytes = pattern(CHUNK as usize + 100);
    let inputs = [("a", file(bytes.clone())), ("b", file(bytes.clone()))];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    run(&fixture.root(), "truncate", &["-s", "50", "a"]);
    assert_eq!(fs::read(fixture.at("a")).unwrap(), bytes[..50]);
    let b = OpenOptions::new()
        .read(true)
        .write(true)
        .open(fixture.at("b"))
        .unwrap();
    b.set_len(60).unwrap();
    b.set_len(CHUNK + 200).unwrap();
    let mut expected = bytes[..60].to_vec();
    expected.resize(CHUNK as usize + 200, 0);
    assert_eq!(b.metadata().unwrap().len(), CHUNK + 200);
    drop(b);
    assert!(fs::read(fixture.at("b")).unwrap() == expected);
    fixture.unmount();
}

#[test]
fn a_rename_replaces_what_has_the_name() {
    let inputs = [("d/old", file("old")), ("other", file("other"))];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    fs::write(fixture.at("d/tmp"), b"new").unwrap();
    fs::rename(fixture.at("d/tmp"), fixture.at("d/old")).unwrap();
    assert_eq!(fs::read(fixture.at("d/old")).unwrap(), b"new");
    fs::rename(fixture.at("other"), fixture.at("d/old")).unwrap();
    assert_eq!(fs::read(fixture.at("d/old")).unwrap(), b"other");
    assert_eq!(names(&fixture.at("d")), ["old"]);
    assert_eq!(names(&fixture.root()), ["d"]);
    fixture.unmount();
}

#[test]
fn a_rename_that_may_not_replace_does_not() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let Some(fixture) = Fixture::mounted([("a", file("a")), ("b", file("b"))]) else {
        return;
    };
    let rename =
        |from, to, flags| renameat_with(CWD, fixture.at(from), CWD, fixture.at(to), flags).err();
    assert_eq!(rename("a", "b", RenameFlags::NOREPLACE), Some(Errno::EXIST));
    assert_eq!(rename("a", "b", RenameFlags::EXCHANGE), Some(Errno::INVAL));
    assert_eq!(rename("a", "c", RenameFlags::NOREPLACE), None);
    assert_eq!(names(&fixture.root()), ["b", "c"]);
    fixture.unmount();
}

#[test]
fn a_directory_of_the_base_is_moved_with_all_that_is_in_it() {
    let inputs = [
        ("d/e/a", file("a")),
        ("d/b", file("b")),
        ("to/x", file("x")),
    ];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    assert_eq!(fs::read(fixture.at("d/e/a")).unwrap(), b"a");
    fs::rename(fixture.at("d"), fixture.at("to/d2")).unwrap();
    assert_eq!(fs::read(fixture.at("to/d2/e/a")).unwrap(), b"a");
    assert_eq!(errno(fs::metadata(fixture.at("d/e/a"))), Some(Errno::NOENT));
    let into_itself = fs::rename(fixture.at("to"), fixture.at("to/d2/inside"));
    assert_eq!(errno(into_itself), Some(Errno::INVAL));
    fs::create_dir(fixture.at("d")).unwrap();
    assert_eq!(names(&fixture.at("d")), [""; 0]);
    fixture.unmount();
}

#[test]
fn a_file_unlinked_while_open_is_used_until_it_is_closed() {
    let Some(fixture) = Fixture::mounted([("input", file("input"))]) else {
        return;
    };
    let mut opened = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(fixture.at("own"))
        .unwrap();
    let input = File::open(fixture.at("input")).unwrap();
    fs::remove_file(fixture.at("own")).unwrap();
    fs::remove_file(fixture.at("input")).unwrap();
    opened.write_all(b"still here").unwrap();
    opened.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    opened.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    assert_eq!(opened.metadata().unwrap().nlink(), 0);
    let mut bytes = [0; 5];
    input.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"input");
    assert_eq!(names(&fixture.root()), [""; 0]);
    drop((opened, input));
    fixture.unmount();
}

#[test]
fn hard_links_are_one_file_even_after_a_copy_up() {
    let Some(fixture) = Fixture::mounted([("a", file("12345"))]) else {
        return;
    };
    fs::hard_link(fixture.at("a"), fixture.at("b")).unwrap();
    assert_eq!(fs::metadata(fixture.at("a")).unwrap().nlink(), 2);
    assert_eq!(fs::read(fixture.at("b")).unwrap(), b"12345");
    let a = OpenOptions::new()
        .write(true)
        .open(fixture.at("a"))
        .unwrap();
    a.write_all_at(b"X", 0).unwrap();
    drop(a);
    assert_eq!(fs::read(fixture.at("b")).unwrap(), b"X2345");
    fs::remove_file(fixture.at("a")).unwrap();
    assert_eq!(fs::read(fixture.at("b")).unwrap(), b"X2345");
    assert_eq!(fs::metadata(fixture.at("b")).unwrap().nlink(), 1);
    fixture.unmount();
}

#[test]
fn ten_thousand_entries_are_each_met_once_while_they_are_being_removed() {
    let inputs = (0..10_000).map(|number| (format!("many/{number:05}"), file("x")));
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    let mut met = Vec::new();
    for entry in fs::read_dir(fixture.at("many")).unwrap() {
        let entry = entry.unwrap();
        met.push(entry.file_name().into_string().unwrap());
        fs::remove_file(entry.path()).unwrap();
    }
    met.sort();
    let expected: Vec<_> = (0..10_000).map(|number| format!("{number:05}")).collect();
    assert!(met == expected, "{} entries", met.len());
    assert_eq!(names(&fixture.at("many")), [""; 0]);
    fs::remove_dir(fixture.at("many")).unwrap();
    fixture.unmount();
}

#[test]
fn a_tree_of_inputs_and_own_files_is_removed_by_rm() {
    let inputs = (0..3000).map(|number| (format!("t/{}/{number}", number % 7), file("x")));
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    let output = fixture.sh(
        "for i in $(seq 500); do echo $i > t/3/own-$i; done; find t -type f | wc -l; rm -r t; ls",
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "3500");
    fixture.unmount();
}

#[test]
fn a_listing_shows_the_sizes_of_files_changed_since_it_began() {
    let inputs = (0..200).map(|number| (format!("{number:03}"), file("input")));
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    let mut entries = fs::read_dir(fixture.root()).unwrap();
    let first = entries.next().unwrap().unwrap().file_name();
    fs::write(fixture.at("199"), b"much longer than before").unwrap();
    let rest: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(rest.len() + 1, 200, "after {}", first.display());
    assert_eq!(fs::metadata(fixture.at("199")).unwrap().len(), 23);
    let listed = fixture.sh("ls -l | awk '$9 == \"199\" { print $5 }'");
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "23");
    fixture.unmount();
}

#[test]
fn modes_and_times_are_changed_in_place() {
    let Some(fixture) = Fixture::mounted([("input", file("x")), ("d", Input::Dir)]) else {
        return;
    };
    fs::write(fixture.at("own"), b"x").unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    for name in ["input", "own", "d"] {
        let before = fs::metadata(fixture.at(name)).unwrap();
        fs::set_permissions(fixture.at(name), fs::Permissions::from_mode(0o750)).unwrap();
        let opened = File::open(fixture.at(name)).unwrap();
        opened
            .set_times(fs::FileTimes::new().set_modified(time))
            .unwrap();
        let after = fs::metadata(fixture.at(name)).unwrap();
        assert_eq!(after.permissions().mode() & 0o7777, 0o750, "{name}");
        assert_eq!(after.modified().unwrap(), time, "{name}");
        assert_eq!(after.ino(), before.ino(), "{name}");
    }
    fixture.unmount();
}

#[test]
fn a_time_before_1970_is_kept_to_the_nanosecond() {
    let Some(fixture) = Fixture::mounted([("a", file("x"))]) else {
        return;
    };
    let time = SystemTime::UNIX_EPOCH - Duration::new(1_000, 250_000_000);
    let opened = File::open(fixture.at("a")).unwrap();
    opened
        .set_times(fs::FileTimes::new().set_modified(time))
        .unwrap();
    assert_eq!(opened.metadata().unwrap().modified().unwrap(), time);
    drop(opened);
    fixture.unmount();
}

#[test]
fn bytes_written_through_a_mapping_are_there_afterwards() {
    let bytes = pattern(CHUNK as usize + 4096);
    let Some(fixture) = Fixture::mounted([("input", file(bytes.clone()))]) else {
        return;
    };
    if std::process::Command::new("python3")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: no python3, which does the mapping");
        return;
    }
    let script = "
import mmap
with open('input', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
    m[4094:4098] = b'MMAP'
    m[-2:] = b'ZZ'
";
    run(&fixture.root(), "python3", &["-c", script]);
    let mut expected = bytes;
    expected[4094..4098].copy_from_slice(b"MMAP");
    let end = expected.len() - 2;
    expected[end..].copy_from_slice(b"ZZ");
    assert!(fs::read(fixture.at("input")).unwrap() == expected);
    fixture.unmount();
}

#[test]
fn many_readers_of_the_same_files_get_the_same_bytes() {
    let large = pattern(20 * CHUNK as usize);
    let inputs = (0..4).map(|number| (format!("{number}"), file(large.clone())));
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    std::thread::scope(|scope| {
        for reader in 0..12 {
            let (fixture, large) = (&fixture, &large);
            scope.spawn(move || {
                let read = fs::read(fixture.at(&(reader % 4).to_string())).unwrap();
                assert!(read == *large);
            });
        }
    });
    fixture.unmount();
}

#[test]
fn a_full_scratch_file_system_says_so_and_what_was_written_before_is_sound() {
    if !crate::testing::can_mount() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let size = c"size=2m";
    let flags = rustix::mount::MountFlags::empty();
    if let Err(error) = rustix::mount::mount("tmpfs", scratch.path(), "tmpfs", flags, size) {
        println!("skipped: cannot mount a tmpfs: {error}");
        return;
    }
    let inputs = [("input", file("input"))];
    let mut fixture = Fixture::with(inputs, Some(scratch.path().to_owned()), true).unwrap();
    fixture.mount().unwrap();
    fs::write(fixture.at("before"), pattern(100_000)).unwrap();
    let mut full = File::create(fixture.at("full")).unwrap();
    let error = full.write_all(&pattern(4 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    drop(full);
    assert!(fs::read(fixture.at("before")).unwrap() == pattern(100_000));
    let free = rustix::fs::statvfs(fixture.root()).unwrap();
    assert_eq!(free.f_bavail, 0);
    fs::remove_file(fixture.at("full")).unwrap();
    fixture.unmount();
    drop(fixture);
    rustix::mount::unmount(scratch.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn an_object_that_the_store_does_not_have_is_an_io_error_and_the_mount_goes_on() {
    let Some(fixture) = Fixture::mounted([("lost", file("lost")), ("kept", file("kept"))]) else {
        return;
    };
    fixture
        .store
        .remove(attachfs_manifest::ContentHash::of(b"lost"));
    assert_eq!(errno(fs::read(fixture.at("lost"))), Some(Errno::IO));
    assert_eq!(fs::read(fixture.at("kept")).unwrap(), b"kept");
    fixture.unmount();
}

#[test]
fn nothing_can_be_written_to_a_read_only_mount() {
    let Some(mut fixture) = Fixture::with([("a", file("a"))], None, false) else {
        return;
    };
    fixture.mount().unwrap();
    assert_eq!(fs::read(fixture.at("a")).unwrap(), b"a");
    assert_eq!(errno(File::create(fixture.at("b"))), Some(Errno::ROFS));
    assert_eq!(
        errno(OpenOptions::new().write(true).open(fixture.at("a"))),
        Some(Errno::ROFS)
    );
    assert_eq!(errno(fs::remove_file(fixture.at("a"))), Some(Errno::ROFS));
    assert_eq!(rustix::fs::statvfs(fixture.root()).unwrap().f_bavail, 0);
    fixture.unmount();
}

#[test]
fn what_is_not_supported_is_refused_and_programs_find_their_way_round_it() {
    let bytes = pattern(CHUNK as usize + 9);
    let Some(fixture) = Fixture::mounted([("a", file(bytes.clone()))]) else {
        return;
    };
    let xattr = rustix::fs::setxattr(
        fixture.at("a"),
        "user.x",
        b"1",
        rustix::fs::XattrFlags::empty(),
    );
    assert_eq!(xattr.err(), Some(Errno::OPNOTSUPP));
    assert_eq!(
        fs::copy(fixture.at("a"), fixture.at("copy")).unwrap(),
        bytes.len() as u64
    );
    assert!(fs::read(fixture.at("copy")).unwrap() == bytes);
    let opened = File::open(fixture.at("a")).unwrap();
    assert_eq!(
        rustix::fs::seek(&opened, rustix::fs::SeekFrom::Data(3)).unwrap(),
        3
    );
    drop(opened);
    let unnamed = File::options()
        .write(true)
        .custom_flags(rustix::fs::OFlags::TMPFILE.bits() as i32)
        .open(fixture.root());
    assert_eq!(errno(unnamed), Some(Errno::OPNOTSUPP));
    fixture.unmount();
}

#[test]
fn fsync_of_files_and_directories_succeeds() {
    let Some(fixture) = Fixture::mounted([("d/a", file("a"))]) else {
        return;
    };
    let mut own = File::create(fixture.at("d/own")).unwrap();
    own.write_all(b"x").unwrap();
    own.sync_all().unwrap();
    own.sync_data().unwrap();
    File::open(fixture.at("d")).unwrap().sync_all().unwrap();
    File::open(fixture.at("d/a")).unwrap().sync_all().unwrap();
    drop(own);
    fixture.unmount();
}

#[test]
fn after_the_mount_has_ended_nothing_counts_as_open() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    for round in 0..50 {
        drop(File::create(fixture.at(&format!("own-{round}"))).unwrap());
    }
    fixture
        .mount_handle()
        .unmount(Unmount::IfUnused, PATIENCE)
        .unwrap();
    assert!(matches!(fixture.mount_handle().end(), Some(End::Unmounted)));
    assert!(fixture.vfs.freeze().unwrap().writers().is_empty());
}

#[test]
fn a_panic_while_answering_stays_within_its_request() {
    super::guarded("test", fuser::INodeNo::ROOT, || panic!("a bug"));
}

#[test]
fn reading_through_a_handle_that_only_writes_works_for_the_kernel() {
    let bytes = pattern(CHUNK as usize + 10_000);
    let Some(fixture) = Fixture::mounted([("a", file(bytes.clone()))]) else {
        return;
    };
    // Less than a page in the middle of one: the kernel reads the page first.
    let writer = OpenOptions::new()
        .write(true)
        .open(fixture.at("a"))
        .unwrap();
    writer.write_all_at(b"!", 5000).unwrap();
    drop(writer);
    let mut expected = bytes;
    expected[5000] = b'!';
    assert!(fs::read(fixture.at("a")).unwrap() == expected);
    fixture.unmount();
}

#[test]
fn usual_shell_work_gives_what_it_gives_on_a_local_disk() {
    let script = "
        sed -i s/one/ONE/ d/text
        cp -r d copy
        mv copy/sub moved
        tar cf all.tar d moved
        mkdir out && tar xf all.tar -C out
        echo more >> d/text
        ln -s text d/link
        printf X | dd of=d/text bs=1 seek=1 conv=notrunc status=none
        rm -r out/d/sub
    ";
    let inputs = || {
        [
            ("d/text", file("one\ntwo\n")),
            ("d/sub/a", file("a")),
            ("d/sub/b", file("b")),
        ]
    };
    let Some(fixture) = Fixture::mounted(inputs()) else {
        return;
    };
    let local = tempfile::tempdir().unwrap();
    run(
        local.path(),
        "sh",
        &[
            "-ec",
            "mkdir -p d/sub; printf 'one\\ntwo\\n' > d/text; printf a > d/sub/a; printf b > d/sub/b",
        ],
    );
    fixture.sh(script);
    run(local.path(), "sh", &["-ec", script]);
    let show = "find . -name all.tar -o -printf '%p %y %m %l\\n' | sort; \
                find . -type f ! -name all.tar | sort | xargs md5sum";
    let expected = run(local.path(), "sh", &["-ec", show]).stdout;
    // The directory that the local tree lies in is private, and the mount's root is not.
    let text = |bytes| {
        String::from_utf8(bytes)
            .unwrap()
            .replace(". d 700", ". d 755")
    };
    assert_eq!(text(fixture.sh(show).stdout), text(expected));
    fixture.unmount();
}
