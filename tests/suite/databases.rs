//! A database in a mount whose process is killed: it is whole afterwards, and has all that it said was committed.

use std::process::Command;

use rustix::process::Signal;

use crate::machine::{Machine, args, skipped};
use crate::process::{kill_and_wait, said};

/// Commits one row after the other and says so, until it cannot.
const WRITES: &str = "
import sqlite3, sys
db = sqlite3.connect('data.db', isolation_level=None)
db.execute('pragma journal_mode=' + sys.argv[1])
db.execute('pragma synchronous=' + sys.argv[2])
db.execute('create table t (k integer primary key, v text)')
for number in range(1000000):
    db.execute('insert into t values (?, ?)', (number, 'v' * (number % 5000)))
    print('committed', number, flush=True)
";

/// Says whether it is whole, how many rows there are, and how many in a row.
const READS: &str = "
import sqlite3
db = sqlite3.connect('data.db')
print(*db.execute('pragma integrity_check').fetchone(), *db.execute('select count(*), max(k) + 1, sum(length(v) = k % 5000) from t').fetchone())
";

/// Kills the process of the mount while rows are committed. Those that were said to be are there.
fn keeps_rows(options: &[&str], journal: &str, synchronous: &str) {
    Machine::mounting_from_directory(|machine| {
        let python = Command::new("python3")
            .args(["-c", "import sqlite3"])
            .output();
        if !python.is_ok_and(|output| output.status.success()) {
            skipped("there is no python3 with sqlite3");
            return;
        }
        machine.file("input/scene", "scene");
        let base = machine.snapshot(&machine.path("input"), "base.manifest");
        let mut arguments = args![base].to_vec();
        arguments.extend(options.iter().map(Into::into));
        let mount = machine.mount(arguments, "mnt");
        let python = |script: &str, words: &[&str]| {
            let mut python = machine.command("python3");
            python
                .args(["-c", script])
                .args(words)
                .current_dir(&mount.dir);
            python
        };
        let mut writer = machine.start(python(WRITES, &[journal, synchronous]));
        writer.wait_for_output("committed 60");
        kill_and_wait(mount.pid);
        // It may go on for a while: what the kernel has by itself can still be written.
        writer.signal(Signal::KILL);
        let said_so = writer.wait().out;
        let committed = said_so.lines().filter(|line| line.starts_with("committed"));
        let committed = committed.count();

        let again = machine.resume(&mount.session_dir, &mount.dir);
        let found = said(&mut python(READS, &[])).with_code(0).out;
        let found: Vec<_> = found.split_whitespace().collect();
        assert_eq!(found[0], "ok", "{found:?}");
        let rows: usize = found[1].parse().unwrap();
        // One may have been committed that nothing was said of any more.
        assert!(
            rows == committed || rows == committed + 1,
            "{rows} rows of {committed}"
        );
        assert_eq!(found[1..], [found[1]; 3], "none is missing or torn");
        machine.ok(args!["umount", &again.dir]);
    });
}

#[test]
fn a_database_with_a_rollback_journal_has_all_rows_after_a_kill() {
    keeps_rows(&[], "delete", "full");
}

#[test]
fn a_database_with_a_write_ahead_log_has_all_rows_after_a_kill() {
    // Nothing is synced: what was written is in the file system when write(2) returns.
    keeps_rows(&[], "wal", "off");
}

#[test]
fn a_database_that_syncs_has_all_rows_after_a_kill_where_the_kernel_keeps_what_is_written() {
    keeps_rows(&["--writeback-cache"], "delete", "full");
    keeps_rows(&["--writeback-cache"], "wal", "full");
}
