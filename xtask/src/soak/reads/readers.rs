//! The process that reads: 32 threads, a line of JSON for each read that gave no or other bytes, and two lines a second that count.
//!
//! It judges nothing, since it does not know what is wrong with the store; and it ends by itself after its time, or when a thread
//! is stuck, even if no thread answers.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::inputs::{Input, all, mixed};

/// What the hidden task is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Work {
    mount: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    seconds: u64,
    /// A read that takes longer is told as stuck
    #[arg(long)]
    limit: u64,
}

/// A line that is printed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    Failed(Failed),
    Wrong(Wrong),
    Count(Count),
    Stuck(String),
}

/// An operation that gave an error. Times are milliseconds since 1970, or between two moments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) end: u64,
    pub(super) took: u64,
    pub(super) what: String,
    pub(super) path: String,
    pub(super) errno: i32,
}

/// A read whose bytes differ at these offsets, at most 100; with none, that is shorter than the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wrong {
    pub(super) end: u64,
    pub(super) what: String,
    pub(super) path: String,
    pub(super) at: Vec<u64>,
}

/// What was done since the last line.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) end: u64,
    pub(super) reads: u64,
    pub(super) bytes: u64,
    /// The longest read.
    pub(super) worst: u64,
}

/// How a thread reads; 32 threads are four of each.
const KINDS: [&str; 8] = [
    "in order", "backward", "in steps", "random", "mapped", "small", "open", "walk",
];

#[derive(Debug, Default)]
struct Shared {
    count: Mutex<Count>,
    is_over: AtomicBool,
}

/// What a thread does at this moment.
#[derive(Debug, Default)]
struct Doing {
    /// In milliseconds since 1970; 0 is nothing.
    since: AtomicU64,
    what: Mutex<String>,
}

struct Reader {
    kind: &'static str,
    number: u64,
    mount: PathBuf,
    inputs: Arc<Vec<Input>>,
    shared: Arc<Shared>,
    doing: Arc<Doing>,
    drawn: u64,
}

/// The present, in milliseconds since 1970.
pub(in crate::soak) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

fn say(said: &Said) {
    // It has no maps with keys that are no text, which is all that could fail.
    println!("{}", serde_json::to_string(said).unwrap_or_default());
}

/// Reads for its time, and says what came of it.
pub(crate) fn work(work: &Work) -> ExitCode {
    let inputs = Arc::new(all(work.seed));
    let shared = Arc::new(Shared::default());
    let mut threads = Vec::new();
    for number in 0..32 {
        let doing = Arc::new(Doing::default());
        let mut reader = Reader {
            kind: KINDS[number as usize % KINDS.len()],
            number,
            mount: work.mount.clone(),
            inputs: Arc::clone(&inputs),
            shared: Arc::clone(&shared),
            doing: Arc::clone(&doing),
            drawn: mixed(work.seed ^ mixed(number)),
        };
        let thread = thread::spawn(move || reader.read_on());
        threads.push((thread, doing));
    }
    let start = Instant::now();
    let end = Duration::from_secs(work.seconds);
    loop {
        thread::sleep(Duration::from_millis(500));
        let mut count = std::mem::take(&mut *shared.count.lock().expect("nobody panics with it"));
        count.end = now();
        say(&Said::Count(count));
        for (_, doing) in &threads {
            let since = doing.since.load(Ordering::Acquire);
            if since > 0 && now().saturating_sub(since) > 1000 * work.limit {
                let what = doing.what.lock().expect("nobody panics with it");
                say(&Said::Stuck(what.clone()));
                return ExitCode::FAILURE;
            }
        }
        if start.elapsed() > end {
            shared.is_over.store(true, Ordering::Release);
            if threads.iter().all(|(thread, _)| thread.is_finished()) {
                break;
            }
        }
    }
    for (thread, _) in threads {
        if thread.join().is_err() {
            say(&Said::Stuck("a reader panicked".to_owned()));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

impl Reader {
    fn draw(&mut self, below: u64) -> u64 {
        self.drawn = mixed(self.drawn);
        self.drawn % below.max(1)
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }

    fn read_on(&mut self) {
        let mut round = 0;
        while !self.is_over() {
            round += 1;
            let inputs = Arc::clone(&self.inputs);
            // The four threads of a kind read the same files of each round, at first at the same time.
            let longs = &inputs[..18];
            let long = &longs[mixed(round) as usize % longs.len()];
            let any = &inputs[self.draw(inputs.len() as u64) as usize];
            match self.kind {
                "in order" => self.parts(long, |n| Some((n * (128 << 10), 128 << 10))),
                "backward" => {
                    let parts = long.size.div_ceil(128 << 10);
                    self.parts(long, |n| {
                        Some((parts.checked_sub(n + 1)? * (128 << 10), 128 << 10))
                    });
                }
                "in steps" => self.parts(long, |n| Some((n << 20, 64 << 10))),
                "random" => {
                    let seed = self.draw(u64::MAX);
                    let size = long.size;
                    self.parts(long, |n| (n < 200).then(|| (mixed(seed ^ n) % size, 4096)));
                }
                "mapped" => self.mapped(long),
                "small" => {
                    for input in inputs[18..].iter().skip(self.number as usize).step_by(3) {
                        self.parts(input, |n| Some((n << 20, 1 << 20)));
                    }
                }
                "open" => {
                    for _ in 0..50 {
                        self.parts(any, |n| (n == 0).then_some((0, 100)));
                    }
                }
                _ => self.walk(),
            }
        }
    }

    /// Does one thing, times it, and tells an error.
    fn timed<T>(&self, path: &str, what: &str, act: impl FnOnce() -> io::Result<T>) -> Option<T> {
        let start = now();
        *self.doing.what.lock().expect("nobody panics with it") =
            format!("{}: {what} {path}", self.kind);
        self.doing.since.store(start, Ordering::Release);
        let result = act();
        self.doing.since.store(0, Ordering::Release);
        let end = now();
        let took = end.saturating_sub(start);
        let mut count = self.shared.count.lock().expect("nobody panics with it");
        count.reads += 1;
        count.worst = count.worst.max(took);
        drop(count);
        match result {
            Ok(done) => Some(done),
            Err(error) => {
                say(&Said::Failed(Failed {
                    end,
                    took,
                    what: format!("{}: {what}", self.kind),
                    path: path.to_owned(),
                    errno: error.raw_os_error().unwrap_or(0),
                }));
                // A file that cannot be read is not asked for as fast as it goes.
                thread::sleep(Duration::from_millis(50));
                None
            }
        }
    }

    /// Holds what was read against what is in the file there.
    fn check(&self, input: &Input, offset: u64, wanted: u64, found: &[u8]) {
        let there = wanted.min(input.size.saturating_sub(offset));
        let mut at = input.differences(offset, found);
        if at.is_empty() && found.len() as u64 == there {
            self.shared
                .count
                .lock()
                .expect("nobody panics with it")
                .bytes += there;
            return;
        }
        at.truncate(100);
        say(&Said::Wrong(Wrong {
            end: now(),
            what: self.kind.to_owned(),
            path: input.path.clone(),
            at,
        }));
    }

    /// Opens a file and reads parts of it: `part` gives each by its number, counted from 0. Ends when it gives none, or one behind the
    /// file's end. Then has the kernel forget the file's pages, so that the next reader asks the mount.
    fn parts(&mut self, input: &Input, part: impl Fn(u64) -> Option<(u64, u64)>) {
        let path = self.mount.join(&input.path);
        let Some(file) = self.timed(&input.path, "open", || File::open(&path)) else {
            return;
        };
        for number in 0.. {
            let Some((offset, length)) = part(number).filter(|part| part.0 < input.size) else {
                break;
            };
            if self.is_over() {
                break;
            }
            let read = self.timed(&input.path, "read", || {
                let mut bytes = vec![0; length as usize];
                let mut filled = 0;
                while filled < bytes.len() {
                    match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
                        0 => break,
                        more => filled += more,
                    }
                }
                bytes.truncate(filled);
                Ok(bytes)
            });
            match read {
                Some(bytes) => self.check(input, offset, length, &bytes),
                None => break,
            }
        }
        if self.kind != "open" {
            // A file that stays in memory is only read faster.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }

    /// Maps a file, in a process of its own: an error is a signal there.
    fn mapped(&mut self, input: &Input) {
        const PROGRAM: &str = "import mmap, sys\n\
            f = open(sys.argv[1], 'rb')\n\
            m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)\n\
            at = int(sys.argv[2])\n\
            sys.stdout.buffer.write(m[at:at + 65536])\n";
        let offset = self.draw(input.size);
        let path = self.mount.join(&input.path);
        let read = self.timed(&input.path, "map", || {
            let output = Command::new("python3")
                .args(["-c", PROGRAM])
                .arg(&path)
                .arg(offset.to_string())
                .stderr(Stdio::piped())
                .output()?;
            let text = String::from_utf8_lossy(&output.stderr);
            let is_bus_error = output.status.signal() == Some(7);
            if is_bus_error || text.contains("[Errno 5]") {
                return Err(io::Error::from_raw_os_error(5));
            }
            if !output.status.success() {
                return Err(io::Error::other(text.into_owned()));
            }
            Ok(output.stdout)
        });
        if let Some(bytes) = read {
            self.check(input, offset, 65536, &bytes);
        }
    }

    /// Lists all directories, and asks for the attributes of all that is in them.
    fn walk(&mut self) {
        let mount = self.mount.clone();
        let found = self.timed("", "walk", || {
            let mut found = Vec::new();
            list(&mount, &mount, &mut found)?;
            Ok(found)
        });
        let Some(mut found) = found else { return };
        found.sort();
        let inputs = self.inputs.iter();
        let mut expected: Vec<_> = inputs
            .map(|input| (input.path.clone(), input.size))
            .collect();
        expected.sort();
        if found != expected {
            say(&Said::Wrong(Wrong {
                end: now(),
                what: "walk".to_owned(),
                path: String::new(),
                at: Vec::new(),
            }));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn list(root: &Path, dir: &Path, found: &mut Vec<(String, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let data = fs::symlink_metadata(&path)?;
        if data.is_dir() {
            list(root, &path, found)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            found.push((name.to_string_lossy().into_owned(), data.size()));
        }
    }
    Ok(())
}
