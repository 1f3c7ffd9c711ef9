//! What is done: one system call a step, drawn from a seed and from nothing else, so that the same seed gives the same steps.
//!
//! Names are few, so that steps meet each other: most succeed, and those that do not must fail alike in a mount and on a disk.

use std::fmt;

use crate::soak::reads::mixed;

/// Numbers from a seed.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(mixed(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = mixed(self.0);
        self.0
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// One of few paths, of up to three names.
    pub(super) fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..self.below(3) {
            path.push_str(self.of(&DIRS));
            path.push('/');
        }
        path.push_str(self.of(&NAMES));
        path
    }

    /// The path of a FIFO: no other step has it, since who opens one waits for another who does.
    fn fifo_path(&mut self) -> String {
        format!("{}.{}", self.path(), self.of(&FIFOS))
    }

    /// Most files are small, some have several MiB; many lengths lie at the borders of blocks and requests.
    pub(super) fn length(&mut self) -> u64 {
        const KIB: u64 = 1 << 10;
        let length = match self.below(16) {
            0..=4 => self.below(100),
            5..=8 => self.below(9000),
            9..=11 => 4 * KIB * self.below(64),
            12..=13 => self.below(400 * KIB),
            14 => KIB * KIB - 5 + self.below(10),
            _ => self.below(3 << 20),
        };
        if self.one_in(8) {
            length.next_multiple_of(4 * KIB)
        } else {
            length
        }
    }
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Those that are directories more often than not.
const DIRS: [&str; 2] = ["e", "f"];
/// Files that are open across steps; the first is for steps that open, write and close.
pub(super) const SLOTS: usize = 5;
const FIFOS: [&str; 2] = ["fifo", "pipe"];
const XATTRS: [&str; 3] = ["user.one", "user.two", "user.three"];

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct How {
    pub(super) reads: bool,
    pub(super) writes: bool,
    pub(super) appends: bool,
    pub(super) creates: bool,
    pub(super) truncates: bool,
    pub(super) exclusive: bool,
    pub(super) durable: bool,
}

/// How room of a file is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Reserved,
    ReservedBeyond,
    Punched,
    Zeroed,
    ZeroedWithin,
}

/// A system call. Bytes that are written follow from `fill` and their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Open {
        slot: usize,
        at: String,
        how: How,
    },
    Close {
        slot: usize,
    },
    Write {
        slot: usize,
        offset: u64,
        length: u64,
        fill: u64,
    },
    /// Where the file's position is, which is its end if it was opened to append.
    Append {
        slot: usize,
        length: u64,
        fill: u64,
    },
    Read {
        slot: usize,
        offset: u64,
        length: u64,
    },
    SetLength {
        slot: usize,
        length: u64,
    },
    Room {
        slot: usize,
        room: Room,
        offset: u64,
        length: u64,
    },
    Sync {
        slot: usize,
        data: bool,
    },
    /// Stores through a shared mapping of what is there, and msync, in a process of its own.
    Map {
        at: String,
        offset: u64,
        length: u64,
        fill: u8,
    },
    Truncate {
        at: String,
        length: u64,
    },
    ReadAll {
        at: String,
    },
    MakeDir {
        at: String,
    },
    RemoveDir {
        at: String,
    },
    Unlink {
        at: String,
    },
    Rename {
        from: String,
        to: String,
    },
    RenameNew {
        from: String,
        to: String,
    },
    Exchange {
        from: String,
        to: String,
    },
    Link {
        from: String,
        to: String,
    },
    Symlink {
        to: String,
        at: String,
    },
    Mode {
        at: String,
        mode: u32,
    },
    Times {
        at: String,
        seconds: i64,
        nanoseconds: i64,
    },
    SetAttribute {
        at: String,
        name: &'static str,
        length: u64,
        fill: u64,
    },
    RemoveAttribute {
        at: String,
        name: &'static str,
    },
    List {
        at: String,
    },
    Look {
        at: String,
    },
    SyncDir {
        at: String,
    },
    MakeFifo {
        at: String,
    },
}

impl Step {
    /// A change that no earlier one made, which keeps a session that would otherwise end when it is unmounted.
    pub(super) fn kept(round: u64) -> Vec<Self> {
        let how = How {
            writes: true,
            creates: true,
            truncates: true,
            ..How::default()
        };
        vec![
            Self::Open {
                slot: 0,
                at: "kept".to_owned(),
                how,
            },
            Self::Append {
                slot: 0,
                length: 100 + round,
                fill: round,
            },
            Self::Close { slot: 0 },
        ]
    }

    /// Opens files that stay open.
    pub(super) fn opened(random: &mut Random) -> Vec<Self> {
        let open = |slot| Self::Open {
            slot,
            at: random.path(),
            how: How::draw(random),
        };
        (1..SLOTS).map(open).collect()
    }

    /// What the next steps are: a call, or a few that belong together.
    pub(super) fn draw(random: &mut Random) -> Vec<Self> {
        let at = random.path();
        let slot = 1 + random.below(SLOTS as u64 - 1) as usize;
        let fill = random.next();
        let one = match random.below(104) {
            0..=13 => return Self::rewritten(random, at, fill),
            14..=20 => {
                return vec![Self::Open {
                    slot,
                    at,
                    how: How::draw(random),
                }];
            }
            21..=23 => Self::Close { slot },
            24..=35 => Self::Write {
                slot,
                offset: random.length(),
                length: random.length(),
                fill,
            },
            36..=39 => return Self::blocks(random, slot, fill),
            40..=42 => Self::Append {
                slot,
                length: random.length(),
                fill,
            },
            43..=48 => Self::Read {
                slot,
                offset: random.length(),
                length: random.length(),
            },
            49..=51 => Self::SetLength {
                slot,
                length: random.length(),
            },
            52..=55 => Self::Room {
                slot,
                room: random.of(&[
                    Room::Reserved,
                    Room::ReservedBeyond,
                    Room::Punched,
                    Room::Zeroed,
                    Room::ZeroedWithin,
                ]),
                offset: random.length(),
                length: 1 + random.length(),
            },
            56..=57 => Self::Sync {
                slot,
                data: random.one_in(2),
            },
            58 => Self::Map {
                at,
                offset: random.length(),
                length: 1 + random.length(),
                fill: fill as u8,
            },
            59..=61 => Self::Truncate {
                at,
                length: random.length(),
            },
            62..=66 => Self::ReadAll { at },
            67..=71 => Self::MakeDir { at },
            72..=73 => Self::RemoveDir { at },
            74..=76 => Self::Unlink { at },
            77..=82 => Self::Rename {
                from: random.path(),
                to: at,
            },
            83 => Self::RenameNew {
                from: random.path(),
                to: at,
            },
            84 => Self::Exchange {
                from: random.path(),
                to: at,
            },
            85..=86 => Self::Link {
                from: random.path(),
                to: at,
            },
            87 => Self::Symlink {
                to: random.of(&NAMES).to_owned(),
                at,
            },
            88..=89 => Self::Mode {
                at,
                mode: random.of(&[0o644, 0o755, 0o600, 0o700, 0o444, 0o751]),
            },
            90..=91 => Self::Times {
                at,
                // Long ago, or to come: both are told from times of writes.
                seconds: random.of(&[1_000_000, 1_500_000_000, 4_000_000_000])
                    + random.below(1_000_000) as i64,
                nanoseconds: 1000 * random.below(1_000_000) as i64,
            },
            92..=93 => Self::SetAttribute {
                at,
                name: random.of(&XATTRS),
                length: random.below(200),
                fill,
            },
            94 => Self::RemoveAttribute {
                at,
                name: random.of(&XATTRS),
            },
            95..=96 => Self::List { at },
            97..=98 => Self::Look { at },
            99 => Self::SyncDir { at },
            100..=101 => Self::MakeFifo {
                at: random.fifo_path(),
            },
            102 => Self::Rename {
                from: random.fifo_path(),
                to: random.fifo_path(),
            },
            _ => Self::Unlink {
                at: random.fifo_path(),
            },
        };
        vec![one]
    }

    /// `>` over a file, or one that is made anew, sometimes by a name that is then renamed over the file.
    fn rewritten(random: &mut Random, at: String, fill: u64) -> Vec<Self> {
        let how = How {
            creates: true,
            truncates: random.below(4) > 0,
            exclusive: random.one_in(8),
            durable: random.one_in(16),
            reads: random.one_in(3),
            writes: true,
            appends: random.one_in(8),
        };
        let beside = random.one_in(4).then(|| format!("{at}.new"));
        let open = beside.clone().unwrap_or_else(|| at.clone());
        let mut steps = vec![Self::Open {
            slot: 0,
            at: open,
            how,
        }];
        for number in 0..random.below(4) {
            steps.push(Self::Append {
                slot: 0,
                length: random.length(),
                fill: fill ^ number,
            });
        }
        if random.one_in(6) {
            steps.push(Self::Sync {
                slot: 0,
                data: random.one_in(2),
            });
        }
        steps.push(Self::Close { slot: 0 });
        if let Some(from) = beside {
            steps.push(Self::Rename { from, to: at });
        }
        steps
    }

    /// Writes of 4 KiB, one after the other.
    fn blocks(random: &mut Random, slot: usize, fill: u64) -> Vec<Self> {
        let start = 4096 * random.below(100);
        let many = 1 + random.below(20);
        let step = |number| Self::Write {
            slot,
            offset: start + 4096 * number,
            length: 4096,
            fill,
        };
        (0..many).map(step).collect()
    }

    /// Whether the step, where there is no room for all of it, is done in part: a mapping of a hole is a signal after some of it was stored, and room
    /// that ext4 could not reserve beyond the end of a file makes it longer all the same.
    pub(super) fn is_partial_without_room(&self) -> bool {
        match self {
            Self::Map { .. } => true,
            Self::Room { room, .. } => matches!(room, Room::Reserved | Room::Zeroed),
            _ => false,
        }
    }

    /// Its kind, for a summary.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Close { .. } => "close",
            Self::Write { .. } => "write",
            Self::Append { .. } => "append",
            Self::Read { .. } | Self::ReadAll { .. } => "read",
            Self::SetLength { .. } | Self::Truncate { .. } => "truncate",
            Self::Room { .. } => "fallocate",
            Self::Sync { .. } | Self::SyncDir { .. } => "fsync",
            Self::Map { .. } => "mmap",
            Self::MakeDir { .. } => "mkdir",
            Self::RemoveDir { .. } => "rmdir",
            Self::Unlink { .. } => "unlink",
            Self::Rename { .. } | Self::RenameNew { .. } => "rename",
            Self::Exchange { .. } => "exchange",
            Self::Link { .. } => "link",
            Self::Symlink { .. } => "symlink",
            Self::Mode { .. } => "chmod",
            Self::Times { .. } => "utimens",
            Self::SetAttribute { .. } | Self::RemoveAttribute { .. } => "setxattr",
            Self::List { .. } => "readdir",
            Self::Look { .. } => "stat",
            Self::MakeFifo { .. } => "mkfifo",
        }
    }
}

impl How {
    fn draw(random: &mut Random) -> Self {
        let writes = random.below(4) > 0;
        Self {
            reads: !writes || random.below(4) > 0,
            writes,
            appends: writes && random.one_in(5),
            creates: writes && random.one_in(2),
            truncates: writes && random.one_in(6),
            exclusive: writes && random.one_in(10),
            durable: writes && random.one_in(12),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The bytes that a step writes: each has its own for each place.
pub(super) fn bytes(fill: u64, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length as usize + 8);
    for word in 0..length.div_ceil(8) {
        // An eighth of all blocks is zeros, as in real files.
        let drawn = if mixed(fill ^ ((offset + 8 * word) >> 12)).is_multiple_of(8) {
            0
        } else {
            mixed(fill ^ (offset + 8 * word))
        };
        bytes.extend_from_slice(&drawn.to_le_bytes());
    }
    bytes.truncate(length as usize);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_steps_and_all_kinds_come() {
        let drawn = |seed| {
            let mut random = Random::new(seed);
            let steps: Vec<_> = (0..3000).flat_map(|_| Step::draw(&mut random)).collect();
            steps
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        let kinds: std::collections::BTreeSet<_> = drawn(1).iter().map(Step::kind).collect();
        assert_eq!(kinds.len(), 22, "{kinds:?}");
    }
}
