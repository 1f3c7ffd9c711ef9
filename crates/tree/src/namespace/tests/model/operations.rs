//! Random mutations.

use super::*;

/// A mutation that names things by choice among what there is, so that most of them are possible.
#[derive(Debug, Clone)]
pub(super) struct Op {
    what: u8,
    which: [u8; 3],
    names: [usize; 2],
    numbers: [u64; 2],
}

pub(super) fn any_op() -> impl Strategy<Value = Op> {
    let parts = (
        0..17u8,
        any::<[u8; 3]>(),
        [0..NAMES.len(), 0..NAMES.len()],
        [0..40u64, 0..20u64],
    );
    parts.prop_map(|(what, which, names, numbers)| Op {
        what,
        which,
        names,
        numbers,
    })
}

impl Op {
    pub(super) fn mutation(&self, model: &Model, time: Timestamp) -> Mutation {
        let all: Vec<Ino> = model.entries.keys().copied().collect();
        let pick = |from: &[Ino], which: u8| match from {
            // Something that never was, now and then.
            _ if which == 255 => Ino::from_raw(u64::from(which) << 33),
            [] => Ino::ROOT,
            _ => from[usize::from(which) % from.len()],
        };
        let like = |fits: &dyn Fn(&Entry) -> bool, which: u8| {
            let fitting = |ino: &&Ino| which >= 250 || fits(&model.entries[*ino]);
            pick(
                &all.iter().filter(fitting).copied().collect::<Vec<_>>(),
                which,
            )
        };
        let dir = |which| like(&|entry: &Entry| matches!(entry.thing, Thing::Dir(_)), which);
        let [one, two] = self.names.map(|at| name(NAMES[at]));
        let ino = match self.which[2] {
            255 => all.last().copied().unwrap(),
            gap => Ino::from_overlay(model.next + u64::from(gap == 254)),
        };
        let parent = dir(self.which[0]);
        let attributes = Attributes {
            mode: self.numbers[0].is_multiple_of(2).then_some(0o640),
            uid: Some(7),
            ..Attributes::default()
        };
        match self.what {
            0 => Mutation::CreateFile {
                parent,
                name: one,
                ino,
                attributes,
                time,
            },
            1 => Mutation::CreateDir {
                parent,
                name: one,
                ino,
                attributes,
                time,
            },
            2 => Mutation::CreateSymlink {
                parent,
                name: one,
                ino,
                text: (*two.as_bytes()).into(),
                attributes,
                time,
            },
            3 => Mutation::Link {
                ino: like(
                    &|entry: &Entry| !matches!(entry.thing, Thing::Dir(_)),
                    self.which[1],
                ),
                parent,
                name: one,
                time,
            },
            4 => Mutation::Unlink {
                parent,
                name: one,
                time,
            },
            5 => Mutation::RemoveDir {
                parent,
                name: one,
                time,
            },
            6..=8 => Mutation::Rename {
                from_parent: parent,
                from_name: one,
                to_parent: dir(self.which[1]),
                to_name: two,
                time,
            },
            9 => Mutation::SetAttributes {
                ino: pick(&all, self.which[1]),
                change: AttributeChange {
                    mode: Some(0o700),
                    mtime: self.numbers[0].is_multiple_of(2).then_some(time),
                    ..AttributeChange::default()
                },
                time,
            },
            10 => Mutation::CopyUp {
                ino: like(
                    &|entry: &Entry| matches!(entry.thing, Thing::Base(_)),
                    self.which[1],
                ),
                keep: match self.numbers[1] {
                    0..5 => u64::MAX,
                    5..8 => 0,
                    _ => self.numbers[0],
                },
                time,
            },
            11 => Mutation::CreateSpecial {
                parent,
                name: one,
                ino,
                special: if self.numbers[0].is_multiple_of(2) {
                    Special::Fifo
                } else {
                    Special::Socket
                },
                attributes,
                time,
            },
            12 | 13 => Mutation::Exchange {
                from_parent: parent,
                from_name: one,
                to_parent: dir(self.which[1]),
                to_name: two,
                time,
            },
            14 => Mutation::SetXattr {
                ino: pick(&all, self.which[1]),
                name: (*one.as_bytes()).into(),
                value: (*two.as_bytes()).into(),
                time,
            },
            15 => Mutation::RemoveXattr {
                ino: like(&|entry: &Entry| !entry.xattrs.is_empty(), self.which[1]),
                name: (*one.as_bytes()).into(),
                time,
            },
            _ => {
                let ino = like(
                    &|entry: &Entry| matches!(entry.thing, Thing::Mapped(..)),
                    self.which[1],
                );
                if self.numbers[1].is_multiple_of(3) {
                    Mutation::Resize {
                        ino,
                        size: self.numbers[0],
                        time,
                    }
                } else {
                    Mutation::Write {
                        ino,
                        offset: self.numbers[0],
                        len: self.numbers[1],
                        time,
                    }
                }
            }
        }
    }
}
