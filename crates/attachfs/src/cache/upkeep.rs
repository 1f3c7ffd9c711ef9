//! Upkeep of the cache: its content, making room, and verifying every byte.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use attachfs_durable::{Bounds, CacheDir, Completeness, DurableError, Stored};
use attachfs_fetch::{Goal, Survey, Upkeep, Verdict};
use attachfs_manifest::ContentHash;
use attachfs_transfer::{Phase, Progress, error_chain};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::answering::on_disk;
use super::pins::{CachePin, shown_pins};
use super::reporting::{CacheTrouble, Reporting};
use crate::error::Error;

/// The content of a cache, in numbers.
#[derive(Debug, Clone, Serialize)]
pub struct CacheInfo {
    /// The cache directory.
    #[serde(with = "attachfs_session::path_json")]
    pub path: PathBuf,
    /// Objects, parts of large ones included.
    pub objects: u64,
    /// Bytes that they take on the disk.
    pub bytes: u64,
    /// Large objects of which some is missing.
    pub partial_objects: u64,
    /// Bytes that those take.
    pub partial_bytes: u64,
    /// Files whose chunks are joined to one for the kernel to read. Each counts as one object, its chunks as none.
    pub joined_files: u64,
    /// Bytes that those take.
    pub joined_bytes: u64,
    /// Objects that are pinned and there.
    pub pinned_objects: u64,
    /// Bytes that those take.
    pub pinned_bytes: u64,
    /// Bytes of files that are being written, or were when a process was killed.
    pub incoming_bytes: u64,
    /// Things among the objects that attachfs did not make; it leaves them alone.
    pub foreign: u64,
    /// When the object that was used longest ago was used, in seconds since 1970.
    pub oldest_use: Option<i64>,
    /// The most bytes that the cache takes.
    pub max_bytes: u64,
    /// Bytes that it leaves free on the disk.
    pub min_free: u64,
    /// Bytes that are free on the disk for this user.
    pub available: u64,
    /// All bytes of the disk.
    pub disk_bytes: u64,
    /// What is pinned.
    pub pins: Vec<CachePin>,
}

/// Which objects are to be removed from a cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct CacheGoal {
    /// So many bytes are left at most. `None`: as the cache's limits say.
    pub max_bytes: Option<u64>,
    /// Objects that were not used for so long are removed, however much room there is.
    pub older_than: Option<Duration>,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CacheCollected {
    /// Whether nothing was removed, and this is what would be.
    pub dry_run: bool,
    /// Objects that were removed.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Objects that are left.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were to go and are pinned.
    pub pinned: u64,
    /// Objects that were to go and are open in a mount.
    pub in_use: u64,
}

/// What a verification of a cache found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CacheVerified {
    /// Objects that were read.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Objects that were damaged. They were removed, or the units of them that were.
    pub damaged: Vec<CacheTrouble>,
    /// Objects that could not be read. They are still there.
    pub unread: Vec<CacheTrouble>,
}

/// Counts the content of a cache, file by file. Needs a tokio runtime with time enabled, as all functions here.
pub async fn cache_info(
    cache: &CacheDir,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<CacheInfo, Error> {
    on_disk(cache, progress, cancel, info).await
}

fn info(cache: &CacheDir, progress: &dyn Progress) -> Result<CacheInfo, Error> {
    let upkeep = Upkeep::open(cache)?;
    let mut info = CacheInfo {
        path: cache.path().to_owned(),
        objects: 0,
        bytes: 0,
        partial_objects: 0,
        partial_bytes: 0,
        joined_files: 0,
        joined_bytes: 0,
        pinned_objects: 0,
        pinned_bytes: 0,
        incoming_bytes: 0,
        foreign: 0,
        oldest_use: None,
        max_bytes: 0,
        min_free: 0,
        available: 0,
        disk_bytes: 0,
        pins: Vec::new(),
    };
    if let Some(upkeep) = upkeep {
        let survey = surveyed(&upkeep, progress)?;
        let pinned = upkeep.stock().pinned()?;
        info.oldest_use = survey.objects.first().map(|oldest| oldest.used);
        info.foreign = survey.foreign;
        info.incoming_bytes = upkeep.stock().incoming_bytes()?;
        info.pins = shown_pins(upkeep.stock())?;
        for stored in &survey.objects {
            info.objects += 1;
            info.bytes += stored.bytes;
            if stored.completeness == Completeness::Part {
                info.partial_objects += 1;
                info.partial_bytes += stored.bytes;
            }
            if stored.is_joined() {
                info.joined_files += 1;
                info.joined_bytes += stored.bytes;
            }
            if stored.is_pinned(&pinned) {
                info.pinned_objects += 1;
                info.pinned_bytes += stored.bytes;
            }
        }
    }
    let (bounds, space) = bounds(cache)?;
    info.max_bytes = bounds.max_bytes;
    info.min_free = bounds.min_free;
    info.available = space.available;
    info.disk_bytes = space.total;
    Ok(info)
}

/// The limits on the disk that the cache is on, or will be.
fn bounds(cache: &CacheDir) -> Result<(Bounds, attachfs_durable::Space), DurableError> {
    let path = std::path::absolute(cache.path()).unwrap_or_else(|_| cache.path().to_owned());
    let there = path.ancestors().find(|dir| dir.is_dir());
    let space = attachfs_durable::space(there.unwrap_or(&path))?;
    Ok((cache.limits().on(&space), space))
}

/// Removes these objects.
pub async fn collect_cache(
    cache: &CacheDir,
    goal: CacheGoal,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<CacheCollected, Error> {
    let work = move |cache: &CacheDir, progress: &dyn Progress| collect(cache, goal, progress);
    on_disk(cache, progress, cancel, work).await
}

fn collect(
    cache: &CacheDir,
    goal: CacheGoal,
    progress: &dyn Progress,
) -> Result<CacheCollected, Error> {
    let Some(upkeep) = Upkeep::open(cache)? else {
        return Ok(CacheCollected {
            dry_run: goal.dry_run,
            ..CacheCollected::default()
        });
    };
    let survey = surveyed(&upkeep, progress)?;
    let used: u64 = survey.objects.iter().map(|stored| stored.bytes).sum();
    let most_bytes = if let Some(asked) = goal.max_bytes {
        asked
    } else if goal.older_than.is_some() {
        // Age alone was asked for.
        u64::MAX
    } else {
        let (bounds, space) = bounds(cache)?;
        used.saturating_add_signed(bounds.room(used, &space).min(0))
    };
    let used_since = goal
        .older_than
        .map(|age| seconds(SystemTime::now()) - age.as_secs() as i64);
    let goal_of_disk = Goal {
        most_bytes,
        used_since,
    };
    let mut reporting = Reporting::new(Phase::Check, progress);
    let collected = upkeep.collect(&survey, goal_of_disk, goal.dry_run, &mut |removed| {
        reporting.at(removed, Some(survey.objects.len() as u64), 0, None)
    })?;
    reporting.ended()?;
    Ok(CacheCollected {
        dry_run: goal.dry_run,
        removed: collected.removed,
        removed_bytes: collected.removed_bytes,
        objects: collected.left,
        bytes: collected.left_bytes,
        pinned: collected.pinned,
        in_use: collected.in_use,
    })
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64)
}

/// Reads and hashes all of a cache, and removes what is damaged.
pub async fn verify_cache(
    cache: &CacheDir,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<CacheVerified, Error> {
    on_disk(cache, progress, cancel, verify).await
}

fn verify(cache: &CacheDir, progress: &dyn Progress) -> Result<CacheVerified, Error> {
    let mut verified = CacheVerified::default();
    let Some(upkeep) = Upkeep::open(cache)? else {
        return Ok(verified);
    };
    let survey = surveyed(&upkeep, progress)?;
    let total: u64 = survey.objects.iter().map(|stored| stored.bytes).sum();
    let count = survey.objects.len() as u64;
    let mut reporting = Reporting::new(Phase::Hash, progress);
    for stored in &survey.objects {
        let found = upkeep.check(stored, &mut |bytes| {
            verified.bytes += bytes;
            reporting.at(verified.objects, Some(count), verified.bytes, Some(total))
        });
        reporting.ended()?;
        verified.objects += 1;
        let trouble = |reason: String| CacheTrouble {
            path: None,
            object: ContentHash::from_bytes(stored.object).to_string(),
            reason,
        };
        match found {
            Ok(Verdict::Sound | Verdict::Gone) => {}
            Ok(Verdict::Damaged) => verified.damaged.push(trouble(damage_of(stored))),
            Ok(Verdict::DamagedUnits(units)) => {
                let reason = format!("{units} of its units were damaged, and are fetched again");
                verified.damaged.push(trouble(reason));
            }
            Err(error) => verified.unread.push(trouble(error_chain(&error))),
        }
    }
    Ok(verified)
}

fn damage_of(stored: &Stored) -> String {
    match stored.completeness {
        Completeness::Whole(len) => format!("its {len} bytes have another hash; removed"),
        Completeness::Joined => {
            "one of its chunks has another hash, or it cannot be told which they are; removed"
                .to_owned()
        }
        Completeness::Part => "what is known of its units makes no sense; removed".to_owned(),
    }
}

fn surveyed(upkeep: &Upkeep, progress: &dyn Progress) -> Result<Survey, Error> {
    let mut reporting = Reporting::new(Phase::Scan, progress);
    let survey = upkeep.survey(&mut |objects| reporting.at(objects, None, 0, None))?;
    reporting.ended()?;
    Ok(survey)
}
