//! What ends a round.

use super::halts::Halt;
use super::steps::Random;

/// Drawn before the round, from the seed alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing: what is there is compared.
    Compared,
    /// The process is killed after so many milliseconds of work.
    KilledWhileWorking(u64),
    /// A worker kills the process before one of its steps.
    KilledAtStep(u64),
    /// It is killed while nobody works, with files open or not.
    KilledAtRest,
    Unmounted,
    /// SIGTERM.
    Terminated,
    Committed(Disturbance),
    /// While workers go on; killed after so many milliseconds, or not.
    CommittedWhileWorking(Option<u64>),
    /// It has so much room while they work; killed or not.
    FullDisk(u64, bool),
    /// A mount may keep so many bytes; killed or not.
    Bounded(u64, bool),
    /// Nobody writes, until closed files are sent.
    Rested,
    /// All is committed by the unmount; killed after so many milliseconds, or not.
    UnmountedAndCommitted(Option<u64>),
}

/// What disturbs a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Disturbance {
    None,
    /// These faults of the store, for so many milliseconds.
    Store(&'static str, u64),
    /// The process that commits is killed after so many milliseconds.
    Killed(u64),
    /// The session is not mounted; the process that commits is killed after so many milliseconds or at a step, or not at all.
    Offline(Option<u64>, Option<Halt>),
}

/// Faults of the store, in thousandths.
const FAULTS: [&str; 16] = [
    "chunk_internal=200&chunk_slow_down=200",
    "chunk_cut=300",
    "chunk_close=300",
    "chunk_failed=300",
    "chunk_internal=1000",
    "chunk_cut=50&chunk_close=50&chunk_failed=50&chunk_internal=50&manifest_close=300&manifest_failed=300",
    "manifest_internal=1000",
    "manifest_cut=1000",
    "manifest_close=1000",
    "manifest_failed=1000",
    "manifest_silence=1000",
    "chunk_silence=200",
    "chunk_expired=1000&manifest_expired=1000&expired=1000",
    "manifest_expired=1000",
    "silence=1000&chunk_silence=1000&manifest_silence=1000",
    "internal=200&slow_down=100&cut=200&close=100",
];

impl Event {
    pub(super) fn draw(random: &mut Random) -> Self {
        match random.below(120) {
            0..=9 => Self::Compared,
            10..=34 => Self::KilledWhileWorking(random.below(1500)),
            35..=39 => Self::KilledAtStep(random.below(100)),
            40..=44 => Self::KilledAtRest,
            45..=50 => Self::Unmounted,
            51..=53 => Self::Terminated,
            54..=78 => Self::Committed(Disturbance::draw(random)),
            79..=87 => Self::CommittedWhileWorking(random.one_in(2).then(|| random.below(400))),
            88..=99 => Self::FullDisk(random.of(&[0, 100 << 10, 1 << 20]), random.one_in(3)),
            100..=105 => Self::Bounded(random.of(&[1 << 20, 8 << 20, 64 << 20]), random.one_in(3)),
            106..=112 => Self::Rested,
            _ => Self::UnmountedAndCommitted(random.one_in(2).then(|| random.below(400))),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Compared => "compared",
            Self::KilledWhileWorking(_) => "killed while working",
            Self::KilledAtStep(_) => "killed at a step",
            Self::KilledAtRest => "killed at rest",
            Self::Unmounted => "unmounted",
            Self::Terminated => "terminated",
            Self::Committed(Disturbance::None) => "committed",
            Self::Committed(Disturbance::Store(..)) => "committed over a failing store",
            Self::Committed(Disturbance::Killed(_)) => "commit killed",
            Self::Committed(Disturbance::Offline(None, None)) => "committed offline",
            Self::Committed(Disturbance::Offline(..)) => "commit offline killed",
            Self::CommittedWhileWorking(None) => "committed while working",
            Self::CommittedWhileWorking(Some(_)) => "killed while committing and working",
            Self::FullDisk(_, false) => "full disk",
            Self::FullDisk(_, true) => "killed on a full disk",
            Self::Bounded(_, false) => "bounded",
            Self::Bounded(_, true) => "killed while bounded",
            Self::Rested => "rested",
            Self::UnmountedAndCommitted(None) => "unmounted and committed",
            Self::UnmountedAndCommitted(Some(_)) => "killed in umount --commit",
        }
    }
}

impl Disturbance {
    fn draw(random: &mut Random) -> Self {
        match random.below(10) {
            0 => Self::None,
            1..=5 => {
                let faults = random.of(&FAULTS);
                // The network is away for a minute.
                let is_long = faults.starts_with("silence") && random.one_in(3);
                Self::Store(
                    faults,
                    if is_long {
                        65_000
                    } else {
                        500 + random.below(6000)
                    },
                )
            }
            6..=7 => Self::Killed(random.below(300)),
            _ => match random.below(3) {
                0 => Self::Offline(None, None),
                1 => Self::Offline(Some(random.below(200)), None),
                _ => Self::Offline(None, Some(Halt::draw(random))),
            },
        }
    }
}
