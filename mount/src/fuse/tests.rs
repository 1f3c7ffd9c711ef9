//! Real mounts, used through the kernel.

mod allocating;
mod attributes;
mod exchange;
mod lazy;
mod listings;
mod names;
mod passed;
mod posix;
mod reading;
mod special;
mod unopened;
mod watched;
mod writing;
mod xattrs;

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::io::Errno;

use crate::testing::{CHUNK, Fixture, PATIENCE, file, pattern, run};
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
fn unsupported_operations_are_refused_and_programs_fall_back() {
    let bytes = pattern(CHUNK as usize + 9);
    let Some(fixture) = Fixture::mounted([("a", file(bytes.clone()))]) else {
        return;
    };
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
fn no_file_counts_as_open_after_the_mount_has_ended() {
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
    // The local tree is in a private directory, and the mount's root is not private.
    let text = |bytes| {
        String::from_utf8(bytes)
            .unwrap()
            .replace(". d 700", ". d 755")
    };
    assert_eq!(text(fixture.sh(show).stdout), text(expected));
    fixture.unmount();
}
