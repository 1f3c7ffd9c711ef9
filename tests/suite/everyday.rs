//! What a shell's user does, done in a mount and in a plain copy of the same folder: what the programs say and what is there afterwards
//! is the same, and base and diff show it again.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::machine::{Machine, args, on_both_stores, skipped, until};
use crate::process::said;
use crate::tree::{Detail, Tree, copy};

on_both_stores![
    copying_gives_what_it_gives_on_a_local_disk,
    moving_gives_what_it_gives_on_a_local_disk,
    editing_gives_what_it_gives_on_a_local_disk,
    overwriting_parts_gives_what_it_gives_on_a_local_disk,
    archives_are_made_and_unpacked_as_on_a_local_disk,
    removing_gives_what_it_gives_on_a_local_disk,
    linking_gives_what_it_gives_on_a_local_disk,
    modes_and_times_are_what_they_are_on_a_local_disk,
    looking_around_shows_what_it_shows_on_a_local_disk,
    unusual_names_and_deep_directories_are_no_trouble,
    system_calls_give_what_they_give_on_a_local_disk,
];

/// The folder that all of it is done in.
fn fill(machine: &Machine, folder: &str) {
    let root = machine.dir(folder);
    let file = |name: &str, bytes: &[u8]| {
        machine.file(root.join(name), bytes);
    };
    file("a.txt", b"alpha\nbeta\ngamma\n");
    file("b.txt", b"pear\napple\nfig\n");
    file("zero", b"");
    file("dir/x", b"x of dir\n");
    file("dir/sub/y", b"y of sub\n");
    file("dir/sub/z", b"z of sub");
    file("with space/\u{fc}n\u{ef}.txt", b"text\n");
    file("run.sh", b"#!/bin/sh\necho ran with $# arguments\n");
    let big: Vec<u8> = (0..2_500_000_u32)
        .map(|i| (i % 253) as u8 ^ (i >> 12) as u8)
        .collect();
    file("big", &big);
    machine.file(root.join(OsStr::from_bytes(b"caf\xe9")), b"latin 1\n");
    fs::create_dir(root.join("empty")).unwrap();
    symlink("a.txt", root.join("link")).unwrap();
    symlink("../b.txt", root.join("dir/up")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    make_old(&root, 1_000_000_000);
    let runnable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root.join("run.sh"), runnable).unwrap();
}

/// Sets all files' times to 2001, so that a time that changes is noticed, and the usual permissions.
fn make_old(dir: &Path, seconds: u64) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        let (time, mode) = (
            Duration::new(seconds, 123_456_000),
            if path.is_dir() { 0o755 } else { 0o644 },
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if path.is_dir() {
            make_old(&path, seconds + 1);
        }
        let times = fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + time);
        fs::File::open(&path).unwrap().set_times(times).unwrap();
    }
}

/// Runs the script in a mount and in a plain copy.
fn same(machine: &Machine, script: &str) {
    fill(machine, "input");
    let input = machine.path("input");
    let plain = machine.path("plain");
    copy(&input, &plain);
    let manifest = machine.snapshot(&input, "base.manifest");
    let mount = machine.mount(args!["--commit", &manifest], "mnt");
    Tree::read(&mount.dir, Detail::Live).assert_is(&Tree::read(&plain, Detail::Live));

    let in_dir = |dir: &Path| {
        let mut command = machine.command("sh");
        if let Some(python) = python() {
            command.env("PYTHON", python);
        }
        said(command.args(["-c", script]).current_dir(dir))
    };
    let expected = in_dir(&plain);
    let found = in_dir(&mount.dir);
    assert_eq!(found.err, expected.err);
    assert_eq!(found.out, expected.out);
    assert_eq!(found.code, expected.code);
    Tree::read(&mount.dir, Detail::Live).assert_is(&Tree::read(&plain, Detail::Live));

    let unmounted = machine.json(args!["umount", &mount.dir]);
    let mut layers = args!["--read-only", &manifest].to_vec();
    if let Some(diff) = unmounted["commit"]["manifest"]["address"].as_str() {
        layers.push(diff.into());
    }
    let mount = machine.mount(layers, "again");
    Tree::read(&mount.dir, Detail::Committed).assert_is(&Tree::read(&plain, Detail::Committed));
    machine.ok(args!["umount", &mount.dir]);
    until("no session is left", || machine.sessions().is_empty());
}

/// A Python whose home may be elsewhere.
fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let ask = [
            "-c",
            "import sys, sqlite3; sys.stdout.write(sys.executable)",
        ];
        let output = Command::new("python3").args(ask).output().ok()?;
        let path = OsStr::from_bytes(&output.stdout).into();
        output.status.success().then_some(path)
    });
    found.as_deref()
}

/// Whether a test that needs a program on this machine can go on.
fn has(what: &str, there: bool) -> bool {
    if !there {
        skipped(&format!("there is no {what}"));
    }
    there
}

fn copying_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(
        machine,
        r#"
        cp -r dir copy; cp -a dir archive; cp a.txt a2.txt; cp -p b.txt b2.txt; cp -a link link2; cp link followed
        cp big big2; cmp big big2 && echo same; cp big zero; cp a.txt dir/x; cp -p big dir/sub/y; cp zero dir/sub/z
        cp -r "with space" "with space too"; cp -a caf* copy/; cp run.sh "with space/"; cp dangling x; cp -a dangling copy/
        cp -u a.txt b2.txt; cp --sparse=always big sparse; install -m 755 a.txt installed; cp -rT dir copy; cp -r dir/. empty
        cat a2.txt followed dir/x; cp no-such-file y; cp dir y; cp a.txt a.txt; cp -a . ../inside-out 2>/dev/null; rm -rf ../inside-out
        "#,
    );
}

fn moving_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(
        machine,
        r#"
        mv a.txt renamed; mv dir moved; mv b.txt moved/x; cat moved/x; mv moved/sub .; mkdir t; mv run.sh big t/; mv t/big .
        mv "with space" plain; mv empty still-empty; mv link link3; mv -n renamed zero; mv zero renamed; mv caf* ascii
        mkdir full empty; touch full/x; mv -T full still-empty; mv -T empty still-empty; mv -T still-empty/x plain
        mv moved moved/below; mv sub/y sub/y2; mv sub/y2 sub/y; echo new > new; mv new sub/z; mv sub moved/; mv moved/sub/z .
        mkdir -p 1/2/3; mv 1/2/3 .; mv 1 3/; mv 3/1/2 moved/sub; mv t/run.sh t/go.sh; t/go.sh a b; mv nothing nowhere
        mv plain/* .; mv dangling dangled; ls -R | sort
        "#,
    );
}

fn editing_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(
        machine,
        r#"
        sed -i s/alpha/ALPHA/ a.txt; sed -i.bak '$d' b.txt; sed -i 's/of/from/' dir/sub/*; echo more >> b.txt; sort -o b.txt b.txt
        tr a-z A-Z < a.txt > upper; cat a.txt a.txt > twice; cat < zero > zero; cat b.txt >> a.txt; echo one > dir/x; echo two > dir/x
        : > dir/sub/y; truncate -s 2 dir/sub/z; truncate -s 100000 upper; truncate -s -5 twice; truncate -s +7 twice; truncate -s 0 link
        set -C; echo no > b.txt; set +C; echo yes >| b.txt; printf 'a\nb\nc\n' | tee t1 t2 | wc -l; tee -a t1 < b.txt
        exec 3<>t2; read line <&3; echo "$line"; echo X >&3; exec 3>&-; cat t2; grep -c . a.txt > count; cat count
        echo into > dir; echo into > no/such; cat dir; cat no/such; printf 'text' > "with space/new"; tac b.txt > r && mv r b.txt
        awk '{ print $1 > "part" NR }' a.txt; split -b 700000 big piece.; cat piece.* | cmp - big && echo same; ./run.sh 1 2 3
        sed -i 's/echo/printf "%s\\n" now/' run.sh; ./run.sh; uniq -c twice; comm t1 t2; yes line | head -n 20000 > lines; md5sum lines big
        "#,
    );
}

fn overwriting_parts_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(
        machine,
        r#"
        put() { dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
        printf HELLO | put big 1500000; printf START | put big 0; printf END | put big 2499997; printf PAST | put big 2500000
        md5sum big; dd if=big bs=1 skip=1499990 count=30 status=none | od -c; truncate -s 2000000 big; truncate -s 2100000 big; md5sum big
        printf tail >> big; printf X | put a.txt 2; cat a.txt; printf HOLE | put zero 5000; md5sum zero; printf Z | put dir/sub/z 100
        cp big big2; truncate -s 1048576 big2; printf again | put big2 1048570; truncate -s 10 big2; truncate -s 3000000 big2; md5sum big2
        dd if=/dev/zero of=big3 bs=65536 count=20 status=none; printf mid | put big3 700000; dd if=big of=big3 bs=4096 skip=3 seek=7 count=50 conv=notrunc status=none
        md5sum big3; dd if=big of=b.txt bs=1M count=1 status=none; tail -c +500001 big | head -c 600000 | md5sum; cmp big big2
        truncate -s 90000000 sparse; printf data | put sparse 45000000; md5sum sparse; cp --sparse=always sparse sparse2; stat -c %s sparse2
        "#,
    );
}

fn archives_are_made_and_unpacked_as_on_a_local_disk(machine: &Machine) {
    same(
        machine,
        r#"
        tar cf all.tar a.txt b.txt dir "with space" run.sh link dangling empty; tar tf all.tar | sort; mkdir x; tar xf all.tar -C x
        tar c dir big | tar x -C x; tar czf dir.tgz --sort=name --mtime=@0 dir; mkdir y; tar xzf dir.tgz -C y; ls -R x y | sort
        tar xf all.tar --overwrite; tar df all.tar && echo the same; tar rf all.tar zero; tar tf all.tar | wc -l; rm dir.tgz
        gzip -k a.txt; gzip -dc a.txt.gz; gunzip -f a.txt.gz; find dir -depth | cpio -o --quiet 2>/dev/null > dir.cpio; rm dir.cpio
        rm all.tar; tar xf no.tar
        "#,
    );
}

fn removing_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(
        machine,
        r#"
        rm a.txt; rm link; rmdir empty; rmdir dir; rm dir; rm -f nothing; rm nothing; rm -r dir/sub; ls dir; rm -rf dir; ls dir
        mkdir dir; ls -a dir; echo new > dir/x; rm -r "with space" caf*; mkdir "with space"; echo a > a.txt; cat a.txt; rm a.txt; mkdir a.txt
        mkdir -p deep/er/est; rmdir -p deep/er/est; mkdir -p p/q; mkdir p/q; mkdir -p p/q; touch p/q/f; rm -rf p; rm big; echo small > big
        rm dangling; ln -s b.txt dangling; rm run.sh zero; mkdir zero; rmdir zero; echo back > zero; find . -name '*.txt' -delete; ls -R | sort
        "#,
    );
}

fn linking_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(
        machine,
        r"
        ln a.txt hard; stat -c %h a.txt hard; echo more >> hard; cat a.txt; rm a.txt; cat hard; stat -c %h hard; ln hard dir/a; ln hard dir/a
        ln big dir/big; truncate -s 10 big; stat -c '%s %h' dir/big; mv dir/big big; ls dir; mv big other; ln dir/x x; sed -i s/of/from/ x; cat dir/x
        ln -s dir d; ls d/; cat d/x; ln -s b.txt s; ln -sf zero s; readlink s; ln -s b.txt s; ln -sfn dir/sub d; ls d/; rm d; ln dir dir2
        ln -s loop2 loop1; ln -s loop1 loop2; cat loop1; echo x > dangling; cat nowhere; cat link; readlink -f dir/up | sed 's,.*/,,'
        ln -P link link2; readlink link2; stat -c %h link link2; cp -L dir/up followed; echo through > dir/up; cat b.txt; ln -s . self; ls self/self/self/dir; ln -s /dev/null out; rm out
        touch one; ln one two; ln two three; rm one; mv two dir/two; stat -c %h three dir/two; mv three dir/two; stat -c %h three dir/two
        ",
    );
}

fn modes_and_times_are_what_they_are_on_a_local_disk(machine: &Machine) {
    same(
        machine,
        r#"
        chmod +x a.txt; chmod 600 b.txt; chmod -x run.sh; ./run.sh; chmod 750 run.sh; ./run.sh 1; chmod 700 dir; chmod 1777 empty; chmod a-w zero
        touch -d '2001-02-03 04:05:06.789012' a.txt; touch -d '1970-01-01 00:00:00 UTC' zero; touch -d '1969-12-31 23:59:58.5 UTC' dir/x
        touch -d '2105-06-07 UTC' b.txt; stat -c '%n %Y %a %s %F' a.txt b.txt zero dir/x run.sh big; touch -r a.txt dir/sub/y; touch -m -d @5 big
        touch new; echo new > old; touch -d @77777 old; echo more >> old; touch -d @77777 old; cp -p old older; umask 077; mkdir private; echo x > private/x
        umask 022; mkdir -m 711 m; touch -h -d @99 link; stat -c %Y link; touch -c nothing; find . -perm -u+x -type f | sort; find . -newer b.txt
        test -x a.txt && echo x; test -x b.txt || echo no x; touch -d @1234567 "with space/"*; mv a.txt moved; stat -c %Y moved; stat -c '%a' private/x m empty
        "#,
    );
}

fn looking_around_shows_what_it_shows_on_a_local_disk(machine: &Machine) {
    same(
        machine,
        r"
        find . | sort; find . -type f -printf '%p %s %m %TY-%Tm-%Td\n' | sort; find . -type l -printf '%p %l\n' | sort; find . -type d -printf '%p %m\n' | sort
        find . -type f -exec du --apparent-size -b {} + | sort; find . -type f -print0 | sort -z | xargs -0 md5sum; ls -1A; ls -l a.txt big | cut -d' ' -f1,5
        grep -rn of dir | sort; grep -c alpha *.txt; wc -lc a.txt b.txt; file -b a.txt 2>/dev/null || true; diff -r dir dir && echo same; diff a.txt b.txt
        cd dir/sub; pwd -P | sed 's,.*/,,'; cd ../..; ls ..  > /dev/null; test -e dangling || echo dangling; stat -f -c %T . > /dev/null; test -d link/; ls no
        head -c 5 big | od -c; tail -c 5 big | od -c; od -c caf*; cat *.txt dir/* 2>&1 | sort; find . -empty | sort; find . -size +1M; sync -f a.txt
        ",
    );
}

fn unusual_names_and_deep_directories_are_no_trouble(machine: &Machine) {
    same(
        machine,
        r#"
        long=$(printf '%0255d' 7); echo long > "$long"; cat "$long"; mv "$long" "dir/$long"; mkdir "$long"; echo x > "$long/$long"; touch "${long}8" 2>/dev/null || echo too long
        odd=$(printf 'a\377b'); echo odd > "$odd"; mkdir "dir/$odd"; mv "$odd" "dir/$odd/"; ln -s "dir/$odd" odd-link; ls odd-link
        echo 1 > 'quote"s'; echo 2 > "apo'strophe"; echo 3 > 'back\slash'; echo 4 > ' lead and trail '; echo 5 > -dash; echo 6 > 'dollar$0'; echo 7 > 'a=b'
        echo 8 > "$(printf 'new\nline')"; echo 9 > "$(printf 'tab\there\033')"; echo 10 > '...'; echo 11 > '~'; echo 12 > 'c:'; echo 13 > NUL; echo 14 > "$(printf '\360\237\246\200')"
        echo 15 > "$(printf 'e\314\201')"; echo 16 > "$(printf '\303\251')"; echo 17 > A.TXT; cat A.TXT a.txt; rm -- -dash; cat ./* 2>/dev/null | sort
        here=$(pwd); i=0; while [ $i -lt 200 ]; do mkdir d$i; cd d$i; echo $i > f; i=$((i+1)); done; cd "$here"; find d0 | wc -l; find d0 -name d199 | wc -c
        mv d0 "with space/"; find . -name f | wc -l; cp -r "with space/d0" again; rm -rf "with space/d0/d1"; ls "with space/d0"
        "#,
    );
}

fn system_calls_give_what_they_give_on_a_local_disk(machine: &Machine) {
    if !has("python3", python().is_some()) {
        return;
    }
    same(
        machine,
        &format!("\"$PYTHON\" - <<'END'\n{SYSTEM_CALLS}\nEND\n"),
    );
}

/// What shell tools do not do.
const SYSTEM_CALLS: &str = r"
import errno, fcntl, mmap, os, stat

def attempt(what, do):
    try:
        print(what, do())
    except OSError as error:
        print(what, errno.errorcode[error.errno])

# mmap, of a new file and of an input.
with open('mapped', 'w+b') as f:
    f.truncate(100000)
    with mmap.mmap(f.fileno(), 0) as m:
        m[5000:5005] = b'hello'; m[99999:100000] = b'!'
        m.flush()
with open('big', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
    print(m[:8], m[2499990:].hex()); m[1200000:1200007] = b'changed'; m.flush()
with open('big', 'rb') as f:
    f.seek(1199995); print(f.read(20))
with open('a.txt', 'rb') as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
    print(m[:])

# A file that is open has no need of its name.
f = open('gone', 'w+b'); f.write(b'still here'); f.flush(); os.unlink('gone')
print(os.path.exists('gone'), os.fstat(f.fileno()).st_nlink, os.fstat(f.fileno()).st_size); f.seek(0); print(f.read()); f.write(b'.'); f.close()
f = open('b.txt', 'rb'); os.unlink('b.txt'); print(f.read()); f.close()
f = open('zero', 'ab'); f.write(b'1'); f.flush(); os.rename('zero', 'one'); f.write(b'2'); f.close(); print(open('one').read())
f = open('dir/x', 'r+b'); os.rename('dir', 'dir2'); f.write(b'X'); f.close(); print(open('dir2/x').read()); os.rename('dir2', 'dir')
f = open('tmp', 'w'); f.write('new'); f.close(); g = open('dir/sub/y'); os.replace('tmp', 'dir/sub/y'); print(g.read(), open('dir/sub/y').read())

# Two that have one file open see each other.
a = os.open('pair', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640); b = os.open('pair', os.O_RDWR)
os.pwrite(a, b'0123456789', 0); os.pwrite(b, b'abc', 4); print(os.pread(a, 100, 0), os.pread(b, 3, 8))
os.ftruncate(a, 6); print(os.fstat(b).st_size, os.pread(b, 100, 0)); os.ftruncate(b, 9); print(os.pread(a, 100, 0))
c = os.open('pair', os.O_WRONLY | os.O_APPEND); os.write(c, b'end'); os.pwrite(a, b'A', 0); print(os.pread(a, 100, 0), os.lseek(b, 0, os.SEEK_END))
attempt('lock', lambda: fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB)); attempt('locked', lambda: fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB))
attempt('range lock', lambda: fcntl.lockf(a, fcntl.LOCK_EX | fcntl.LOCK_NB, 3))
os.fsync(a); os.fdatasync(b); [os.close(fd) for fd in (a, b, c)]
d = os.open('.', os.O_RDONLY | os.O_DIRECTORY); os.fsync(d); print(os.stat('pair', dir_fd=d).st_size, oct(stat.S_IMODE(os.stat('pair').st_mode)))

# Opening in all ways.
attempt('exclusive', lambda: os.open('pair', os.O_CREAT | os.O_EXCL | os.O_WRONLY))
attempt('no file', lambda: os.open('no', os.O_RDONLY)); attempt('below a file', lambda: os.open('pair/x', os.O_RDONLY))
attempt('directory to write', lambda: os.open('dir', os.O_WRONLY)); attempt('file as directory', lambda: os.open('pair', os.O_RDONLY | os.O_DIRECTORY))
attempt('link not followed', lambda: os.open('link', os.O_RDONLY | os.O_NOFOLLOW)); attempt('read of a writer', lambda: os.read(os.open('pair', os.O_WRONLY), 1))
attempt('write of a reader', lambda: os.write(os.open('pair', os.O_RDONLY), b'x')); attempt('empty', lambda: os.open('', os.O_RDONLY))
fd = os.open('a.txt', os.O_RDWR | os.O_TRUNC); print(os.fstat(fd).st_size); os.write(fd, b'anew\n'); os.close(fd); print(open('a.txt').read())
fd = os.open('run.sh', os.O_WRONLY); os.pwrite(fd, b'#', 100); os.close(fd); print(os.stat('run.sh').st_size)
open('kept', 'w').write('mode'); os.chmod('kept', 0o400); fd = os.open('made', os.O_CREAT | os.O_WRONLY, 0o400); os.write(fd, b'first write'); os.close(fd)

# Names.
attempt('rmdir of a file', lambda: os.rmdir('pair')); attempt('unlink of a directory', lambda: os.unlink('empty')); attempt('not empty', lambda: os.rmdir('dir'))
attempt('mkdir over', lambda: os.mkdir('dir')); attempt('too long', lambda: os.mkdir('x' * 256)); attempt('not below itself', lambda: os.rename('dir', 'dir/sub/dir'))
attempt('dir over file', lambda: os.rename('dir', 'pair')); attempt('file over dir', lambda: os.rename('pair', 'dir')); attempt('over not empty', lambda: os.rename('empty', 'dir'))
attempt('onto itself', lambda: os.rename('pair', 'pair')); attempt('link over', lambda: os.link('pair', 'one')); attempt('link of a directory', lambda: os.link('dir', 'dir3'))
attempt('symlink over', lambda: os.symlink('x', 'pair')); attempt('readlink of a file', lambda: os.readlink('pair')); attempt('long target', lambda: os.symlink('t' * 4000, 'long'))
os.unlink('long') if os.path.islink('long') else None; os.mkdir('e1'); os.mkdir('e2'); os.rename('e1', 'e2'); print(sorted(os.listdir('.')))
h = os.open('empty', os.O_RDONLY); os.rmdir('empty'); print(os.listdir(h)); attempt('in a removed directory', lambda: os.open('x', os.O_CREAT | os.O_WRONLY, dir_fd=h))

# Copies that the kernel makes, space that is asked for, times to the nanosecond.
with open('big', 'rb') as s, open('sent', 'wb') as t:
    sent = 0
    while sent < 2500000: sent += os.sendfile(t.fileno(), s.fileno(), sent, 1 << 20)
print(open('sent', 'rb').read() == open('big', 'rb').read())
with open('big', 'rb') as s, open('ranged', 'wb') as t:
    done = 0
    while done < 2000000: done += os.copy_file_range(s.fileno(), t.fileno(), 2000000 - done)
print(os.stat('ranged').st_size)
with open('allotted', 'wb') as f: attempt('allot', lambda: os.posix_fallocate(f.fileno(), 0, 200000)); print(os.fstat(f.fileno()).st_size)
os.utime('one', ns=(1000000000123456789, 1000000000123456000)); print(os.stat('one').st_mtime_ns); os.utime('one', ns=(0, 999999999999999000)); print(os.stat('one').st_mtime_ns)
os.truncate('one', 1); print(open('one').read()); os.utime('one', ns=(5000, 5000)); before = os.stat('dir').st_mtime_ns; open('dir/newest', 'w').close(); print(os.stat('dir').st_mtime_ns > before)
";

#[test]
fn a_version_control_system_works_in_a_mount() {
    let there = Command::new("git").arg("--version").output().is_ok();
    if !has("git", there) {
        return;
    }
    Machine::with_directory(|machine| {
        same(
            machine,
            r"
            export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_CONFIG_NOSYSTEM=1
            export GIT_AUTHOR_DATE='2001-01-01 00:00:00 +0000' GIT_COMMITTER_DATE='2001-01-01 00:00:00 +0000'
            git -c init.defaultBranch=main init -q; git add .; git commit -qm first; git log --format=%H; git status --porcelain
            echo more >> a.txt; rm b.txt; git mv dir/x dir/moved; git status --porcelain; git commit -qam second; git log --format=%H; git show --stat | tail -4
            git checkout -q -b other HEAD~1; cat a.txt; echo side > side; git add side; git commit -qm side; git checkout -q main; git merge -q other -m merged
            git log --format=%H | wc -l; git gc -q; git fsck 2>&1 | grep -v dangling; git clone -q . clone; git -C clone log --format=%H; git stash -q; git diff; rm -rf .git clone/.git
            ",
        );
    });
}

#[test]
fn a_database_works_in_a_mount() {
    if !has("python3", python().is_some()) {
        return;
    }
    Machine::with_directory(|machine| {
        same(
            machine,
            r#""$PYTHON" - <<'END'
import sqlite3, os
for mode in ('delete', 'truncate', 'persist', 'wal'):
    name = mode + '.db'
    db = sqlite3.connect(name, isolation_level=None)
    print(db.execute('pragma journal_mode=' + mode).fetchall())
    db.execute('create table t (k integer primary key, v text)')
    db.execute('begin'); db.executemany('insert into t values (?, ?)', ((i, 'v' * (i % 300)) for i in range(3000))); db.execute('commit')
    db.execute('begin'); db.execute('delete from t where k % 3 = 0'); db.execute('rollback')
    other = sqlite3.connect(name); print(other.execute('select count(*), sum(length(v)) from t').fetchall()); other.close()
    db.execute('delete from t where k % 3 = 0'); db.execute('vacuum')
    print(db.execute('select count(*), sum(length(v)) from t').fetchall(), db.execute('pragma integrity_check').fetchall())
    db.close()
    print(sorted(n for n in os.listdir('.') if mode in n))
    [os.remove(n) for n in os.listdir('.') if n.startswith(mode)]
END
"#,
        );
    });
}

#[test]
fn ten_thousand_files_in_one_directory_are_made_and_removed() {
    Machine::with_directory(|machine| {
        same(
            machine,
            r"
            mkdir many; cd many; seq -f file-%05g 10000 | xargs touch; ls | wc -l; seq -f file-%05g 1 2 10000 | xargs rm; ls -f | wc -l; find . -type f | wc -l
            cd ..; mv many more; ls more | md5sum; mkdir again; seq 10000 | (cd again; xargs touch); rm -rf again; ls -d again; rm -rf more/file-0*; ls more | wc -l
            mkdir par; seq 300 | xargs -P 4 -I N sh -c 'echo N > par/N.tmp; mv par/N.tmp par/N; cat par/N >> par/all'; sort -n par/all | md5sum; ls par | wc -l; rm par/all
            ",
        );
    });
}
