//! Reading through mounts over S3, compared with plain connections to the server, with other programs that mount, and with the local
//! disk.
//!
//! The server keeps everything on tmpfs and shares the machine's cores with its clients. *Near* it answers as fast as it can. *Far* it
//! answers after 20 ms and sends 90 MB a second on each connection, as S3 does to a host in its region.

use std::cell::{OnceCell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::bucket::Bucket;
use super::harness::{Amount, Memory, PageCache, Rival, Row, Run, Side};
use super::machine::drop_caches;
use super::manifests::text;
use super::process;
use super::s3_mounts::PeerMount;
use super::stage::{Set, Stage, remove};
use super::work::{self, SMALL, TWO_GIB};
use crate::peers::Mounter;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// The prefix of the objects and manifests.
const STORE: &str = "store";
/// Of one request.
const FAR_MS: u32 = 20;
/// Of one connection.
const FAR_BYTES_PER_S: u64 = 90_000_000;
/// Of one request of a slow server.
const SLOW_MS: u32 = 2000;
/// As many as fill the two cores.
const CONNECTIONS: &str = "16";
/// Reads at random that go to the server.
const FEW: &str = "1000";
/// Reads at random of what is here already: they take microseconds.
const MANY: &str = "200000";
/// However full the machine's disk is.
const UNBOUNDED: [&str; 2] = ["--cache-min-free", "0"];

/// Where the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distance {
    Near,
    Far,
    /// After 20 ms, and then as fast as it can.
    Late,
}

/// What the mount's disk cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DiskCache {
    Off,
    /// It is empty at first.
    Filling,
    /// All that is read is in it.
    Full,
    /// As `Full`, and the same was read just before, in the same mount.
    Again,
    /// As `Again`, and the daemon answers all reads.
    AgainByDaemon,
    /// As `Again`, and the kernel opens files by itself.
    AgainWithoutOpens,
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// One file of 2 GiB, in order.
    InOrder,
    /// So many times 4 KiB of that file.
    AtRandom(&'static str),
    /// The first bytes of that file.
    FirstBytes,
    /// 5,000 files of 64 KiB, by so many readers.
    Small(&'static str),
}

/// What the other side is.
#[derive(Debug, Clone, Copy)]
enum Other {
    /// Requests for the same bytes by so many connections, without a file system.
    Connections(&'static str),
    Mounter(Mounter),
    LocalDisk,
    /// What the work may take.
    Time(Duration),
}

impl Distance {
    fn describe(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
            Self::Late => "late",
        }
    }
}

impl DiskCache {
    fn describe(self) -> &'static str {
        match self {
            Self::Off => "no disk cache",
            Self::Filling => "filling the disk cache",
            Self::Full => "from the disk cache",
            Self::Again => "again",
            Self::AgainByDaemon => "again, answered by the daemon",
            Self::AgainWithoutOpens => "again, with --no-open",
        }
    }
}

impl Reading {
    fn describe(self) -> String {
        match self {
            Self::InOrder => "2 GiB in order".to_owned(),
            Self::AtRandom(times) => format!("{times} random 4 KiB of 2 GiB"),
            Self::FirstBytes => "first 4 KiB of 2 GiB".to_owned(),
            Self::Small("1") => "5,000 files of 64 KiB, 1 reader".to_owned(),
            Self::Small(readers) => format!("5,000 files of 64 KiB, {readers} readers"),
        }
    }

    fn set(self) -> Set {
        match self {
            Self::InOrder | Self::AtRandom(_) | Self::FirstBytes => Set::TwoGib,
            Self::Small(_) => Set::Small,
        }
    }

    /// The work on files below `root`, which has the set's files.
    fn command(self, root: &Path) -> Command {
        let large = root.join("large");
        match self {
            Self::InOrder => work::command(["read-length", &TWO_GIB.to_string()], &[&large]),
            Self::AtRandom(times) => work::command(["read-random", times], &[&large]),
            Self::FirstBytes => work::command(["read-first"], &[&large]),
            Self::Small(readers) => work::command(["read-small", readers], &[root]),
        }
    }
}

/// The time that this much work takes at a rate, per second.
fn at(rate: f64, amount: f64) -> Other {
    Other::Time(Duration::from_secs_f64(amount / rate))
}

/// At so many MiB a second.
fn two_gib_at(mib_per_s: f64) -> Other {
    at(mib_per_s, (TWO_GIB / MIB) as f64)
}

/// At so many files a second.
fn small_at(files_per_s: f64) -> Other {
    at(files_per_s, SMALL.files() as f64)
}

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    use DiskCache::{Again, AgainByDaemon, AgainWithoutOpens, Filling, Full, Off};
    use Distance::{Far, Late, Near};
    use Reading::{AtRandom, FirstBytes, InOrder, Small};
    let mut list = vec![
        (
            InOrder,
            Near,
            Off,
            Other::Connections("1"),
            Some(1.0 / 0.65),
        ),
        (
            InOrder,
            Near,
            Filling,
            Other::Connections("1"),
            Some(1.0 / 0.45),
        ),
        (InOrder, Far, Off, two_gib_at(900.0), Some(1.0)),
        (InOrder, Far, Off, Other::Connections(CONNECTIONS), None),
        (
            FirstBytes,
            Far,
            Off,
            Other::Time(Duration::from_millis(2 * u64::from(FAR_MS))),
            Some(1.0),
        ),
        (InOrder, Near, Full, Other::LocalDisk, Some(1.0 / 0.95)),
        (Small("16"), Near, Off, small_at(8000.0), Some(1.0)),
        (Small("16"), Near, Filling, small_at(6000.0), Some(1.0)),
        (Small("1"), Near, Off, small_at(4000.0), Some(1.0)),
        (Small("1"), Late, Off, small_at(1000.0), Some(1.0)),
        (Small("16"), Late, Off, small_at(3000.0), Some(1.0)),
        (Small("16"), Near, Full, small_at(10_000.0), Some(1.0)),
        // 0.66 ms each.
        (
            AtRandom(FEW),
            Near,
            Off,
            Other::Time(Duration::from_millis(660)),
            Some(1.0),
        ),
        (InOrder, Near, Again, Other::LocalDisk, Some(1.0 / 0.9)),
        (
            AtRandom(MANY),
            Near,
            Again,
            Other::LocalDisk,
            Some(1.0 / 0.85),
        ),
        (
            InOrder,
            Near,
            AgainByDaemon,
            Other::LocalDisk,
            Some(1.0 / 0.35),
        ),
        (
            AtRandom(MANY),
            Near,
            AgainByDaemon,
            Other::LocalDisk,
            Some(1.0 / 0.35),
        ),
        (Small("1"), Near, Again, small_at(25_000.0), Some(1.0)),
        (Small("16"), Near, Again, small_at(45_000.0), Some(1.0)),
        (
            Small("1"),
            Near,
            AgainWithoutOpens,
            Other::LocalDisk,
            Some(1.0 / 0.85),
        ),
        (
            Small("16"),
            Near,
            AgainWithoutOpens,
            small_at(100_000.0),
            Some(1.0),
        ),
    ];
    for mounter in Mounter::ALL {
        for (reading, distance) in [(InOrder, Near), (InOrder, Far), (Small("16"), Near)] {
            list.push((
                reading,
                distance,
                Filling,
                Other::Mounter(mounter),
                Some(1.0),
            ));
        }
    }
    let server = Rc::new(FilledServer::default());
    let beside = beside_slow_fetches(stage, &server);
    let rows = list
        .into_iter()
        .map(|(reading, distance, cache, other, bar)| {
            row(
                stage,
                &server,
                Case {
                    reading,
                    distance,
                    cache,
                    counts_sent: matches!(reading, AtRandom(FEW))
                        || matches!(other, Other::Connections(CONNECTIONS)),
                },
                other,
                bar,
            )
        });
    rows.chain([beside]).collect()
}

#[derive(Debug, Clone, Copy)]
struct Case {
    reading: Reading,
    distance: Distance,
    cache: DiskCache,
    /// Not the memory is told, but the bytes that the server sent.
    counts_sent: bool,
}

fn row(
    stage: &Rc<Stage>,
    server: &Rc<FilledServer>,
    case: Case,
    other: Other,
    bar: Option<f64>,
) -> Row {
    let Case {
        reading,
        distance,
        cache,
        ..
    } = case;
    let compared = match other {
        Other::Connections("1") => "one connection, without a file system".to_owned(),
        Other::Connections(number) => format!("{number} connections, without a file system"),
        Other::Mounter(mounter) => format!("the same in a mount of {}", mounter.name()),
        Other::LocalDisk => "the same on the local disk".to_owned(),
        Other::Time(time) => format!("{:.3} s", time.as_secs_f64()),
    };
    let memory = match reading {
        Reading::AtRandom(FEW) => Memory {
            amount: Amount::Sent,
            bar: Some(128_000_000),
        },
        // Nothing is sent twice.
        Reading::InOrder if case.counts_sent => Memory {
            amount: Amount::Sent,
            bar: Some(TWO_GIB + 16 * MIB),
        },
        _ => Memory {
            amount: Amount::Peak,
            bar: Some(256 * MIB),
        },
    };
    Row {
        name: format!(
            "S3: {}, {}, {}",
            reading.describe(),
            distance.describe(),
            cache.describe()
        ),
        compared,
        page_cache: match cache {
            DiskCache::Again | DiskCache::AgainByDaemon | DiskCache::AgainWithoutOpens => {
                PageCache::Warm
            }
            DiskCache::Off | DiskCache::Filling | DiskCache::Full => PageCache::Cold,
        },
        touches: 5 * GIB,
        needs: vec![reading.set()],
        rival: match other {
            Other::Mounter(mounter) => Some(Rival::Mounter(mounter)),
            _ => None,
        },
        ours: ours(stage, server, case),
        other: theirs(stage, server, case, other),
        bar,
        memory,
    }
}

/// The server and what is in it, of all rows.
#[derive(Debug, Default)]
struct FilledServer {
    bucket: OnceCell<Bucket>,
    filled: RefCell<Vec<Set>>,
    /// A directory of a full disk cache for each set.
    full: RefCell<Vec<(Set, PathBuf)>>,
}

impl FilledServer {
    /// The server with the set in it, twice: as files, and as objects with the set's manifest.
    fn bucket(&self, stage: &Stage, set: Set) -> Result<&Bucket> {
        let bucket = match self.bucket.get() {
            Some(bucket) => bucket,
            None => {
                let bucket = Bucket::start(0)?;
                self.bucket.get_or_init(|| bucket)
            }
        };
        bucket.set_pace(0, 0)?;
        if !self.filled.borrow().contains(&set) {
            copy_tree(&stage.dir(set), &bucket.object(&tree(set)))?;
            stage.snapshot_to_s3(set, bucket, STORE)?;
            self.filled.borrow_mut().push(set);
        }
        Ok(bucket)
    }

    fn pace(bucket: &Bucket, distance: Distance) -> Result<()> {
        match distance {
            Distance::Near => bucket.set_pace(0, 0),
            Distance::Far => bucket.set_pace(FAR_MS, FAR_BYTES_PER_S),
            Distance::Late => bucket.set_pace(FAR_MS, 0),
        }
    }
}

impl FilledServer {
    /// A disk cache that has all of what is read.
    fn full_cache(&self, stage: &Stage, bucket: &Bucket, case: Case) -> Result<PathBuf> {
        let set = case.reading.set();
        let known = self.full.borrow();
        if let Some((_, dir)) = known.iter().find(|&&(known, _)| known == set) {
            return Ok(dir.clone());
        }
        drop(known);
        let dir = stage.fresh()?;
        let filling = Case {
            cache: DiskCache::Filling,
            ..case
        };
        in_our_mount(stage, bucket, filling, &dir)?;
        self.full.borrow_mut().push((set, dir.clone()));
        Ok(dir)
    }
}

fn ours(stage: &Rc<Stage>, server: &Rc<FilledServer>, case: Case) -> Side {
    let (stage, server) = (Rc::clone(stage), Rc::clone(server));
    Box::new(move || {
        let bucket = server.bucket(&stage, case.reading.set())?;
        if !matches!(case.cache, DiskCache::Off | DiskCache::Filling) {
            let cache = server.full_cache(&stage, bucket, case)?;
            if case.cache == DiskCache::Full {
                // What filling it brought into the page cache.
                drop_caches()?;
            }
            return in_our_mount(&stage, bucket, case, &cache);
        }
        let cache = stage.fresh()?;
        FilledServer::pace(bucket, case.distance)?;
        let run = in_our_mount(&stage, bucket, case, &cache)?;
        remove(&cache)?;
        Ok(run)
    })
}

/// Mounts, reads and unmounts; only the reading is timed.
fn in_our_mount(stage: &Stage, bucket: &Bucket, case: Case, cache: &Path) -> Result<Run> {
    let mut options = vec!["--cache-dir", text(cache)?];
    match case.cache {
        DiskCache::Off => options.extend(["--max-cache-size", "0"]),
        DiskCache::Filling | DiskCache::Full | DiskCache::Again => options.extend(UNBOUNDED),
        DiskCache::AgainByDaemon => {
            options.extend(UNBOUNDED);
            options.push("--no-passthrough");
        }
        DiskCache::AgainWithoutOpens => {
            options.extend(UNBOUNDED);
            options.extend(["--read-only", "--no-open"]);
        }
    }
    let session = stage.fresh()?;
    let mount = stage.mount_over_s3(case.reading.set(), bucket, STORE, &session, &options)?;
    if !matches!(
        case.cache,
        DiskCache::Off | DiskCache::Filling | DiskCache::Full
    ) {
        process::run(&mut case.reading.command(mount.point()))?;
    }
    bucket.reset_counters()?;
    let run = process::run_watching(mount.process(), &mut case.reading.command(mount.point()))?;
    let sent = bucket.sent()?;
    mount.unmount()?;
    Ok(if case.counts_sent {
        Run {
            memory: sent,
            ..run
        }
    } else {
        run
    })
}

fn theirs(stage: &Rc<Stage>, server: &Rc<FilledServer>, case: Case, other: Other) -> Side {
    let (stage, server) = (Rc::clone(stage), Rc::clone(server));
    Box::new(move || {
        let set = case.reading.set();
        match other {
            Other::Time(time) => Ok(Run { time, memory: 0 }),
            Other::LocalDisk => {
                let read = || process::run(&mut case.reading.command(&stage.dir(set)));
                if case.cache != DiskCache::Full {
                    read()?;
                }
                read()
            }
            Other::Connections(number) => {
                let bucket = server.bucket(&stage, set)?;
                FilledServer::pace(bucket, case.distance)?;
                let key = format!("/{}/{}/large", Bucket::NAME, tree(set));
                let words = ["get", bucket.host(), &key, &TWO_GIB.to_string(), number];
                process::run(&mut work::command(words, &[]))
            }
            Other::Mounter(mounter) => {
                let bucket = server.bucket(&stage, set)?;
                FilledServer::pace(bucket, case.distance)?;
                let (point, cache) = (stage.mount_point(), stage.fresh()?);
                let mount = PeerMount::start(mounter, bucket, &tree(set), &point, &cache)?;
                let work = &mut case.reading.command(&point);
                let run = process::run_watching(mount.process(), work)?;
                drop(mount);
                remove(&cache)?;
                Ok(run)
            }
        }
    })
}

/// The prefix of the files of a set as they are.
fn tree(set: Set) -> String {
    format!("tree-{set:?}")
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let entries = fs::read_dir(from).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    for entry in entries.with_context(|| format!("cannot list {}", from.display()))? {
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &copy)?;
        } else {
            fs::copy(&path, &copy).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// The 99th percentile of reads of what is in the disk cache, without the kernel's pages, while four others wait for a slow server.
fn beside_slow_fetches(stage: &Rc<Stage>, server: &Rc<FilledServer>) -> Row {
    let (of_ours, of_server) = (Rc::clone(stage), Rc::clone(server));
    let ours = move || {
        let (stage, server) = (&of_ours, &of_server);
        let bucket = server.bucket(stage, Set::TwoGib)?;
        let cache = stage.fresh()?;
        let options = ["--cache-dir", text(&cache)?, UNBOUNDED[0], UNBOUNDED[1]];
        let session = stage.fresh()?;
        let mount = stage.mount_over_s3(Set::TwoGib, bucket, STORE, &session, &options)?;
        let large = mount.point().join("large");
        process::run(&mut work::command(["read-cached-part"], &[&large]))?;
        bucket.set_pace(SLOW_MS, 0)?;
        let mut reading = work::command(["read-beside"], &[&large]);
        let (run, latency) = process::run_hearing(&mut reading)?;
        bucket.set_pace(0, 0)?;
        mount.unmount()?;
        remove(&cache)?;
        let micros = latency.trim().parse().context("no latency was printed")?;
        let time = Duration::from_micros(micros);
        Ok(Run { time, ..run })
    };
    let time = Duration::from_millis(1);
    Row {
        name: "S3: 4 KiB of the disk cache beside four slow fetches, 99th percentile".to_owned(),
        compared: "0.001 s".to_owned(),
        page_cache: PageCache::Warm,
        touches: GIB,
        needs: vec![Set::TwoGib],
        rival: None,
        ours: Box::new(ours),
        other: Box::new(move || Ok(Run { time, memory: 0 })),
        bar: Some(1.0),
        memory: Memory::PEAK,
    }
}
