//! Whether a mount shows what the directory on a disk has, and what a step that was under way when the process died may have done.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::Seek as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use super::side::{Entry, Tree};
use super::steps::{Room, Step, bytes};
use super::worker::{UnderWay, Worker};

/// So many differences are told.
const TOLD: usize = 12;

/// Fails if two trees differ.
pub(super) fn hold(found: &Tree, expected: &Tree, what: &str) -> Result<()> {
    let differences = found.differences(expected);
    if differences.is_empty() {
        return Ok(());
    }
    let many = differences.len();
    let told = differences
        .into_iter()
        .take(TOLD)
        .map(|(_, text)| format!("\n  {text}"));
    bail!("{what}: {many} differences{}", told.collect::<String>());
}

/// Fails unless a worker's directory is in the mount as it is on the disk; but for the step that was under way, which then is done or not on the
/// disk as it is in the mount. All files are closed.
pub(super) fn settle(worker: &mut Worker, what: &str) -> Result<()> {
    let (mount, disk) = (worker.mount.root.clone(), worker.disk.root.clone());
    let what = format!("{}, {what}", worker.name);
    let what = what.as_str();
    let found =
        Tree::read(&mount).with_context(|| format!("{what}: cannot read all of the mount"))?;
    let mut expected = Tree::read(&disk)?;
    if !worker.strained.is_empty() {
        relax(&found, &expected, &disk, &worker.strained)?;
        worker.strained.clear();
        expected = Tree::read(&disk)?;
    }
    let differences = found.differences(&expected);
    let Some(under_way) = worker.under_way.take().filter(|_| !differences.is_empty()) else {
        return hold(&found, &expected, what);
    };
    let what = format!("{what}, with {} under way", under_way.step);
    if is_of_bytes(&under_way.step) {
        let paths: Vec<_> = differences.iter().map(|(path, _)| path.clone()).collect();
        done_in_part(&under_way, &mount, &disk, &paths)
            .with_context(|| format!("{what}: {}", differences[0].1))?;
    } else {
        // It must be possible, or it would have been refused.
        let gave = worker.disk.perform(&under_way.step, u64::MAX);
        worker.disk.close_all();
        if gave.is_err() {
            return hold(&found, &expected, &what);
        }
    }
    hold(&found, &Tree::read(&disk)?, &what)
}

/// Room that was reserved may have changed the time, and a step for which there was no room, too, and made the file longer where it reserved room, as ext4 does it. The files on
/// the disk get what those in the mount have then.
fn relax(found: &Tree, expected: &Tree, disk: &Path, strained: &BTreeMap<u64, u64>) -> Result<()> {
    for (path, entry) in &expected.0 {
        let at = disk.join(path);
        let Some(end) = strained.get(&fs::symlink_metadata(&at)?.ino()) else {
            continue;
        };
        let (
            Entry::File { size, .. },
            Some(Entry::File {
                size: is, modified, ..
            }),
        ) = (entry, found.0.get(path))
        else {
            continue;
        };
        let file = OpenOptions::new().write(true).open(&at)?;
        if (*size..=*end).contains(is) {
            file.set_len(*is)?;
        }
        let time = match modified {
            Some(set) => SystemTime::UNIX_EPOCH + Duration::from_micros(*set as u64),
            None => SystemTime::now(),
        };
        file.set_times(FileTimes::new().set_modified(time))?;
    }
    Ok(())
}

fn is_of_bytes(step: &Step) -> bool {
    matches!(
        step,
        Step::Write { .. }
            | Step::Append { .. }
            | Step::SetLength { .. }
            | Step::Room { .. }
            | Step::Map { .. }
            | Step::Truncate { .. }
    )
}

/// Each byte of the file may be as before the step or as after it, and so may the length. Gives the file on the disk the bytes of the one in
/// the mount.
fn done_in_part(under_way: &UnderWay, mount: &Path, disk: &Path, differ: &[PathBuf]) -> Result<()> {
    let subject = under_way.subject.as_ref().context("the step had no file")?;
    let inode = subject.metadata()?.ino();
    for path in differ {
        let is_it = fs::symlink_metadata(disk.join(path)).is_ok_and(|data| data.ino() == inode);
        ensure!(is_it, "{} is not what the step was about", path.display());
    }
    let path = differ.first().context("nothing differs")?;
    let before = fs::read(disk.join(path))?;
    let after = changed(before.clone(), under_way, subject)?;
    let found = fs::read(mount.join(path))?;
    let (least, most) = (before.len().min(after.len()), before.len().max(after.len()));
    ensure!(
        (least..=most).contains(&found.len()),
        "{} bytes, not {least} to {most}",
        found.len()
    );
    let at = |bytes: &[u8], place: usize| bytes.get(place).copied().unwrap_or(0);
    for (place, &byte) in found.iter().enumerate() {
        let is_right = byte == at(&before, place) || byte == at(&after, place);
        ensure!(
            is_right,
            "byte {place} of {} is neither as before nor as after",
            path.display()
        );
    }
    fs::write(disk.join(path), &found)?;
    if let Entry::File {
        modified: Some(modified),
        ..
    } = Entry::read(&mount.join(path))?
    {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(modified as u64);
        File::open(disk.join(path))?.set_times(FileTimes::new().set_modified(time))?;
    }
    Ok(())
}

/// What a file has after a step.
fn changed(mut file: Vec<u8>, under_way: &UnderWay, mut subject: &File) -> Result<Vec<u8>> {
    let put = |file: &mut Vec<u8>, offset: u64, bytes: &[u8]| {
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if file.len() < end && !bytes.is_empty() {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(bytes);
    };
    match &under_way.step {
        Step::Write {
            offset,
            length,
            fill,
            ..
        } => {
            let bytes = bytes(*fill, *offset, *length);
            let rest = &bytes[under_way.written as usize..];
            // A file that is open to append gets it at its end.
            let appends = rustix::fs::fcntl_getfl(subject)?.contains(rustix::fs::OFlags::APPEND);
            let offset = if appends {
                file.len() as u64
            } else {
                offset + under_way.written
            };
            put(&mut file, offset, rest);
        }
        Step::Append { length, fill, .. } => {
            let bytes = bytes(*fill, 0, *length);
            let appends = rustix::fs::fcntl_getfl(subject)?.contains(rustix::fs::OFlags::APPEND);
            let offset = if appends {
                file.len() as u64
            } else {
                subject.stream_position()?
            };
            put(&mut file, offset, &bytes[under_way.written as usize..]);
        }
        Step::SetLength { length, .. } | Step::Truncate { length, .. } => {
            file.resize(*length as usize, 0);
        }
        Step::Room {
            room,
            offset,
            length,
            ..
        } => {
            let end = (offset + length) as usize;
            if matches!(room, Room::Reserved | Room::Zeroed) && file.len() < end {
                file.resize(end, 0);
            }
            if matches!(room, Room::Punched | Room::Zeroed | Room::ZeroedWithin) {
                let end = end.min(file.len());
                let start = (*offset as usize).min(end);
                file[start..end].fill(0);
            }
        }
        Step::Map {
            offset,
            length,
            fill,
            ..
        } => {
            let end = ((offset + length) as usize).min(file.len());
            let start = (*offset as usize).min(end);
            file[start..end].fill(*fill);
        }
        _ => bail!("the step changes no bytes"),
    }
    Ok(file)
}
