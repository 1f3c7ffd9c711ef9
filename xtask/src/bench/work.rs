//! The work that is measured: what a program does with files, as a program of its own.
//!
//! `xtask bench-io` does one piece of it and ends, so that it is timed from outside and does the same with a mount as with the local
//! disk. Work that found less than it should is an error: it would look fast.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Length of the large file.
pub(super) const LARGE: u64 = 1 << 30;
/// Length of the file that is read over S3.
pub(super) const TWO_GIB: u64 = 2 << 30;
/// One of these reads.
const RANDOM_PIECE: usize = 4 << 10;
/// So much of a file is read again while others wait.
const CACHED_PART: usize = 32 << 20;
/// One request of a plain connection.
const REQUEST: u64 = 8 << 20;
/// One read or write of the large file.
const PIECE: usize = 1 << 20;

/// A tree of equal files: `d0000/f000` and so on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) dirs: usize,
    pub(super) files_each: usize,
    /// Of each file, in bytes.
    pub(super) size: usize,
}

/// Files to read.
pub(super) const SMALL: Shape = Shape {
    dirs: 50,
    files_each: 100,
    size: 64 << 10,
};
/// Entries to list.
pub(super) const MANY: Shape = Shape {
    dirs: 1000,
    files_each: 100,
    size: 16,
};
/// Files to upload one by one.
pub(super) const TINY: Shape = Shape {
    dirs: 60,
    files_each: 1000,
    size: 101,
};
/// Files to write.
pub(super) const CREATED: Shape = Shape {
    dirs: 1,
    files_each: 10_000,
    size: 4 << 10,
};
/// Entries only.
pub(super) const NAMES: Shape = Shape { size: 0, ..MANY };
/// Files to unpack.
pub(super) const SOURCES: Shape = Shape {
    dirs: 100,
    files_each: 50,
    size: 4 << 10,
};
/// Files whose journal is read: two records each.
pub(super) const RECORDED: Shape = Shape {
    dirs: 51,
    files_each: 1000,
    size: 16,
};

impl Shape {
    pub(super) fn files(self) -> usize {
        self.dirs * self.files_each
    }

    fn bytes(self) -> u64 {
        (self.files() * self.size) as u64
    }

    fn dir(root: &Path, dir: usize) -> PathBuf {
        root.join(format!("d{dir:04}"))
    }

    fn file(self, root: &Path, number: usize) -> PathBuf {
        let (dir, file) = (number / self.files_each, number % self.files_each);
        Self::dir(root, dir).join(format!("f{file:04}"))
    }

    /// Makes the directories and files; no two files have the same bytes.
    pub(super) fn make(self, root: &Path) -> io::Result<()> {
        for dir in 0..self.dirs {
            fs::create_dir_all(Self::dir(root, dir))?;
        }
        let mut bytes = vec![0; self.size];
        fill(&mut bytes);
        for number in 0..self.files() {
            let mut file = File::create_new(self.file(root, number))?;
            stamp(&mut bytes, number as u64);
            file.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// What `xtask bench-io` may be told to do. Not for people.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Work {
    /// Nothing: so that the program itself is in memory
    Nothing,
    /// Reads the large file from its start to its end
    ReadLarge { file: PathBuf },
    /// Reads a file of this length from its start to its end
    ReadLength { file: PathBuf, length: u64 },
    /// Reads 4 KiB of a file, at so many places without an order
    ReadRandom { file: PathBuf, times: u64 },
    /// Reads so many bytes so many times past the page cache, at places without an order in the first `span` bytes of a file
    ReadDirect {
        file: PathBuf,
        length: usize,
        times: u64,
        span: u64,
    },
    /// Reads the part of a file that `read-beside` reads again
    ReadCachedPart { file: PathBuf },
    /// Reads 4 KiB of that part 1,000 times, past the page cache, while four threads read the rest; prints the 99th percentile in
    /// microseconds
    ReadBeside { file: PathBuf },
    /// Reads the first 4 KiB of a file
    ReadFirst { file: PathBuf },
    /// Gets an object of this length from a server, by so many connections
    Get {
        server: String,
        path: String,
        length: u64,
        connections: u64,
    },
    /// Reads all small files, each opened by its name
    ReadSmall { dir: PathBuf, readers: usize },
    /// Looks at the attributes of all entries
    Walk { dir: PathBuf },
    /// Lists one directory of so many entries
    List { dir: PathBuf, entries: u64 },
    /// Writes the large file, so many bytes at a time
    WriteLarge {
        file: PathBuf,
        end: End,
        #[arg(default_value_t = PIECE)]
        piece: usize,
    },
    /// Makes the files of a tree
    Create { dir: PathBuf, tree: Tree },
    /// Copies a file and syncs it
    Copy { from: PathBuf, to: PathBuf },
}

/// What is done when a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum End {
    Close,
    Sync,
}

/// A tree to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tree {
    /// Files of 4 KiB in one directory.
    Created,
    /// Empty files.
    Names,
    /// Files of 101 bytes.
    Tiny,
    /// So many that there are 100,000 records of them in a journal.
    Recorded,
}

impl Tree {
    fn shape(self) -> Shape {
        match self {
            Self::Created => CREATED,
            Self::Names => NAMES,
            Self::Tiny => TINY,
            Self::Recorded => RECORDED,
        }
    }
}

/// A command that does the work in another process.
pub(super) fn command<'a>(words: impl IntoIterator<Item = &'a str>, paths: &[&Path]) -> Command {
    let this = std::env::current_exe().expect("the system knows where this program is");
    let mut command = Command::new(this);
    command.arg("bench-io");
    let mut words = words.into_iter();
    command.args(words.next()).args(paths).args(words);
    command
}

/// Does it, here.
pub(crate) fn run(work: &Work) -> Result<()> {
    match work {
        Work::Nothing => Ok(()),
        Work::ReadLarge { file } => {
            let read = read(file, &mut vec![0; PIECE]).context("cannot read the large file")?;
            found(read, LARGE, "bytes")
        }
        Work::ReadLength { file, length } => {
            let read = read(file, &mut vec![0; PIECE]).context("cannot read the file")?;
            found(read, *length, "bytes")
        }
        Work::ReadRandom { file, times } => {
            read_random(file, *times).context("cannot read the file")
        }
        Work::ReadDirect {
            file,
            length,
            times,
            span,
        } => read_direct(file, *length, *times, *span).context("cannot read the file"),
        Work::ReadCachedPart { file } => File::open(file)
            .and_then(|mut file| file.read_exact(&mut vec![0; CACHED_PART]))
            .context("cannot read the file"),
        Work::ReadBeside { file } => {
            let latency = read_beside(file).context("cannot read the file")?;
            println!("{}", latency.as_micros());
            Ok(())
        }
        Work::ReadFirst { file } => File::open(file)
            .and_then(|mut file| file.read_exact(&mut [0; RANDOM_PIECE]))
            .context("cannot read the file"),
        Work::Get {
            server,
            path,
            length,
            connections,
        } => {
            let got = get(server, path, *length, *connections).context("cannot get the object")?;
            found(got, *length, "bytes")
        }
        Work::ReadSmall { dir, readers } => {
            let read = read_small(dir, *readers).context("cannot read the small files")?;
            found(read, SMALL.bytes(), "bytes")
        }
        Work::Walk { dir } => {
            let seen = walk(dir).context("cannot walk")?;
            found(seen, (MANY.dirs + MANY.files()) as u64, "entries")
        }
        Work::List { dir, entries } => {
            let listed = fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let listed = listed.with_context(|| format!("cannot list {}", dir.display()))?;
            found(listed.len() as u64, *entries, "entries")
        }
        Work::WriteLarge { file, end, piece } => {
            write_pieces(file, 0, LARGE, *piece, *end).context("cannot write the large file")
        }
        Work::Create { dir, tree } => tree.shape().make(dir).context("cannot make the files"),
        Work::Copy { from, to } => copy(from, to).context("cannot copy"),
    }
}

fn found(found: u64, expected: u64, what: &str) -> Result<()> {
    ensure!(found == expected, "{found} {what} instead of {expected}");
    Ok(())
}

/// Reads a file as `cat` does; gives its length.
fn read(path: &Path, buffer: &mut [u8]) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut total = 0;
    loop {
        match file.read(buffer)? {
            0 => return Ok(total),
            read => total += read as u64,
        }
    }
}

fn read_random(path: &Path, times: u64) -> io::Result<()> {
    let file = File::open(path)?;
    let places = file.metadata()?.len() / RANDOM_PIECE as u64;
    let mut numbers = Numbers::new();
    let mut piece = [0; RANDOM_PIECE];
    for _ in 0..times {
        let place = numbers.next() % places;
        file.read_exact_at(&mut piece, place * RANDOM_PIECE as u64)?;
    }
    Ok(())
}

/// The 99th percentile of the reads of the cached part.
fn read_beside(path: &Path) -> io::Result<Duration> {
    const READS: usize = 1000;
    const OTHERS: u64 = 4;
    for number in 1..=OTHERS {
        let file = File::open(path)?;
        // It ends with this process.
        thread::spawn(move || {
            let place = number * (TWO_GIB / (OTHERS + 1));
            file.read_exact_at(&mut vec![0; PIECE], place)
        });
    }
    thread::sleep(Duration::from_millis(100));
    let file = open_direct(path)?;
    let mut buffer = vec![0_u8; 2 * RANDOM_PIECE];
    let piece = aligned(&mut buffer, RANDOM_PIECE);
    let mut numbers = Numbers::new();
    let mut latencies = Vec::with_capacity(READS);
    for _ in 0..READS {
        let place = numbers.next() % (CACHED_PART / RANDOM_PIECE) as u64;
        let start = Instant::now();
        file.read_exact_at(piece, place * RANDOM_PIECE as u64)?;
        latencies.push(start.elapsed());
    }
    latencies.sort();
    Ok(latencies[READS * 99 / 100])
}

/// Reads pieces of the beginning of a file past the page cache.
fn read_direct(path: &Path, length: usize, times: u64, span: u64) -> io::Result<()> {
    let file = open_direct(path)?;
    let mut buffer = vec![0_u8; length + RANDOM_PIECE];
    let piece = aligned(&mut buffer, length);
    let mut numbers = Numbers::new();
    for _ in 0..times {
        let place = numbers.next() % (span / length as u64);
        file.read_exact_at(piece, place * length as u64)?;
    }
    Ok(())
}

fn open_direct(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed())
        .open(path)
}

/// So many bytes of a buffer, which is longer by a page, at an address that direct reads want.
fn aligned(buffer: &mut [u8], length: usize) -> &mut [u8] {
    let unaligned = buffer.as_ptr().align_offset(RANDOM_PIECE);
    &mut buffer[unaligned..][..length]
}

/// Gets an object by ranges that lie side by side, one connection each; gives how many bytes came.
fn get(server: &str, path: &str, length: u64, connections: u64) -> io::Result<u64> {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let receiver = || {
            let mut connection = BufReader::new(TcpStream::connect(server)?);
            let mut buffer = vec![0; PIECE];
            let mut received = 0;
            loop {
                let start = next.fetch_add(REQUEST, Ordering::Relaxed);
                if start >= length {
                    return Ok(received);
                }
                let end = (start + REQUEST).min(length);
                received += get_range(&mut connection, server, path, start..end, &mut buffer)?;
            }
        };
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(receiver)).collect();
        let received = threads.into_iter().map(|thread| {
            let result: io::Result<u64> = thread.join().expect("a receiver does not panic");
            result
        });
        received.sum()
    })
}

fn get_range(
    connection: &mut BufReader<TcpStream>,
    server: &str,
    path: &str,
    range: Range<u64>,
    buffer: &mut [u8],
) -> io::Result<u64> {
    let (first, last) = (range.start, range.end - 1);
    // In one piece: of several small ones each waits until the server has acknowledged the one before.
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nRange: bytes={first}-{last}\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut body = connection.take(range.end - range.start);
    let mut received = 0;
    loop {
        match body.read(buffer)? {
            0 => return Ok(received),
            read => received += read as u64,
        }
    }
}

fn read_small(root: &Path, readers: usize) -> io::Result<u64> {
    let (next, total) = (AtomicUsize::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let reader = || {
            let mut buffer = vec![0; SMALL.size];
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= SMALL.files() {
                    return Ok(());
                }
                let length = read(&SMALL.file(root, number), &mut buffer)?;
                total.fetch_add(length, Ordering::Relaxed);
            }
        };
        let threads: Vec<_> = (0..readers).map(|_| scope.spawn(reader)).collect();
        let ended = threads.into_iter().map(|thread| {
            let result: io::Result<()> = thread.join().expect("a reader does not panic");
            result
        });
        ended.collect::<io::Result<()>>()
    })?;
    Ok(total.into_inner())
}

/// As `find -ls` does; gives the number of entries below.
fn walk(dir: &Path) -> io::Result<u64> {
    let mut seen = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        seen += 1;
        if entry.metadata()?.is_dir() {
            seen += walk(&entry.path())?;
        }
    }
    Ok(seen)
}

/// Writes a large file from its start to its end, and closes it.
pub(super) fn write_large(path: &Path, length: u64, end: End) -> io::Result<()> {
    write_numbered(path, 0, length, end)
}

/// As [`write_large`]; files of different numbers have no page in common.
pub(super) fn write_numbered(path: &Path, number: u32, length: u64, end: End) -> io::Result<()> {
    write_pieces(path, number, length, PIECE, end)
}

fn write_pieces(path: &Path, number: u32, length: u64, piece: usize, end: End) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut piece = vec![0; piece];
    fill(&mut piece);
    for index in 0..length / piece.len() as u64 {
        stamp(&mut piece, u64::from(number) << 32 | index);
        file.write_all(&piece)?;
    }
    match end {
        End::Close => Ok(()),
        End::Sync => file.sync_all(),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    OpenOptions::new().write(true).open(to)?.sync_all()
}

/// Numbers without a pattern, the same ones each time.
#[derive(Debug)]
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(super) fn next(&mut self) -> u64 {
        // xorshift64: any generator without short cycles would do.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Bytes that do not repeat, so that no layer below can leave them out.
fn fill(bytes: &mut [u8]) {
    let mut numbers = Numbers::new();
    for word in bytes.chunks_mut(8) {
        word.copy_from_slice(&numbers.next().to_le_bytes()[..word.len()]);
    }
}

/// Makes each page of these bytes another one than for any other number. Far cheaper than filling anew.
fn stamp(bytes: &mut [u8], number: u64) {
    for page in bytes.chunks_mut(4096) {
        if let Some(start) = page.get_mut(..8) {
            start.copy_from_slice(&number.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_all_its_files_and_no_two_are_equal() {
        let temp = tempfile::tempdir().unwrap();
        let shape = Shape {
            dirs: 2,
            files_each: 3,
            size: 20,
        };
        shape.make(temp.path()).unwrap();
        assert_eq!(walk(temp.path()).unwrap(), 2 + 6);
        let mut all: Vec<_> = (0..shape.files())
            .map(|number| fs::read(shape.file(temp.path(), number)).unwrap())
            .collect();
        assert!(all.iter().all(|bytes| bytes.len() == 20));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn work_that_found_less_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().to_owned();
        let error = run(&Work::Walk { dir }).unwrap_err();
        assert_eq!(error.to_string(), "0 entries instead of 101000");
    }
}
