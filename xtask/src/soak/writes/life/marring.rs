//! What a killed process, a power loss, an earlier program or a bad disk leaves of a session's files, and who takes them up.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::Summary;
use super::super::mounting::detach;
use super::super::steps::bytes;
use super::{Life, WORKERS};

/// How the files of a session are left. Nothing is lost in any of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Left {
    /// Of the last record only the beginning was written.
    TornRecord,
    /// The journal is of the version before this one.
    EarlierVersion,
    /// A file lost zeros at its end, since its length was not on the disk.
    ShortFile,
    /// A scratch file is there of which no record tells.
    StrayFile,
}

/// An input that gets zeros at its end, of which some are lost.
const SHORT: &str = "short";
/// How long it is, and how long then.
const WRITTEN: u64 = 5000;
const LONG: u64 = 50_000;

impl Life<'_> {
    /// Kills the process, leaves its files so, and mounts them again.
    pub(super) fn leave(&mut self, left: Left, summary: &mut Summary) -> Result<()> {
        self.quiet();
        let inode = match left {
            Left::ShortFile => Some(self.lengthen_an_input()?),
            _ => None,
        };
        self.end_by_a_kill(summary)?;
        match (left, inode) {
            (Left::TornRecord, _) => {
                // Shorter than any record.
                let torn = bytes(self.random.next(), 0, 1 + self.random.below(27));
                self.append_to_the_journal(&torn)?;
            }
            (Left::EarlierVersion, _) => {
                let journal = OpenOptions::new().write(true).open(self.journal())?;
                journal.write_all_at(b"attachfs journal 4\n", 0)?;
            }
            (Left::ShortFile, inode) => {
                let inode = inode.context("no file was lengthened")?;
                let file = self.scratch().join(format!("{inode:016x}"));
                let file = OpenOptions::new()
                    .write(true)
                    .open(&file)
                    .with_context(|| format!("cannot open {}", file.display()))?;
                file.set_len(WRITTEN + self.random.below(LONG - WRITTEN))?;
            }
            (Left::StrayFile, _) => self.add_stray_file()?,
        }
        self.mount(summary)?;
        self.compare("after its files were left so", summary)
    }

    /// Kills the process, damages the journal behind its last record, and repairs it; who repairs may be killed, and another one goes on.
    pub(super) fn repair(&mut self, summary: &mut Summary) -> Result<()> {
        self.quiet();
        self.end_by_a_kill(summary)?;
        self.append_to_the_journal(&[0xA5; 700])?;
        self.add_stray_file()?;
        let mut command = self.programs.command(["fsck", "--json"]);
        command.arg(&self.session);
        let said = self.programs.said(command)?;
        ensure!(
            said.code() == Some(12),
            "fsck of a damaged journal: {said:?}"
        );
        if let Some(halt) = self.wanted() {
            let said = self.run_to_its_halt(self.repairing(), &halt, summary)?;
            ensure!(
                matches!(said.code(), None | Some(0)),
                "fsck --repair said {said:?}"
            );
        }
        let said = self.programs.json(self.repairing())?;
        ensure!(said["sound"] == true, "fsck --repair: {said}");
        self.check(summary)?;
        self.mount(summary)?;
        self.compare("after a repair", summary)
    }

    fn repairing(&self) -> std::process::Command {
        let mut command = self.programs.command(["fsck", "--repair", "--json"]);
        command.arg(&self.session);
        command
    }

    fn end_by_a_kill(&mut self, summary: &mut Summary) -> Result<()> {
        self.kill()?;
        summary.kills += 1;
        detach(&self.point);
        // With the dead mount went what told that it had died.
        self.is_sealed = true;
        Ok(())
    }

    fn journal(&self) -> PathBuf {
        self.session.join("journal")
    }

    fn scratch(&self) -> PathBuf {
        self.session.join("scratch")
    }

    fn append_to_the_journal(&self, bytes: &[u8]) -> Result<()> {
        let mut journal = OpenOptions::new().append(true).open(self.journal())?;
        Ok(journal.write_all(bytes)?)
    }

    /// A scratch file of an inode that was never given.
    fn add_stray_file(&self) -> Result<()> {
        let names = fs::read_dir(self.scratch())?
            .flatten()
            .filter_map(|entry| u64::from_str_radix(entry.file_name().to_str()?, 16).ok());
        let inode = names.max().unwrap_or(1 << 62) + 1000;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.scratch().join(format!("{inode:016x}")))?;
        Ok(file.write_all(b"of nobody")?)
    }

    /// Writes zeros behind the end of an input, in the mount and on the disk, and gives its inode.
    pub(super) fn lengthen_an_input(&self) -> Result<u64> {
        for root in [&self.plain, &self.point] {
            let file = OpenOptions::new().write(true).open(short_input(root))?;
            file.write_all_at(&vec![0; (LONG - WRITTEN) as usize], WRITTEN)?;
        }
        let lengthened = fs::metadata(short_input(&self.point))?;
        // The kernel tells of the close a moment later.
        std::thread::sleep(Duration::from_millis(100));
        Ok(lengthened.ino())
    }
}

impl Left {
    /// Adds what is then left so to the inputs of a worker.
    pub(super) fn add_inputs(self, root: &Path) -> Result<()> {
        match self {
            Self::ShortFile => add_short_input(root),
            _ => Ok(()),
        }
    }
}

/// Adds the input that gets zeros at its end to those of a worker.
pub(super) fn add_short_input(root: &Path) -> Result<()> {
    Ok(fs::write(root.join(SHORT), bytes(1, 0, WRITTEN))?)
}

/// Where it is in a mount.
pub(super) fn short_input(root: &Path) -> PathBuf {
    root.join(WORKERS[0]).join(SHORT)
}
