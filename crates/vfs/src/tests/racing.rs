//! Many threads use the same few names: no operation fails for an internal reason, and the final
//! state is that of the journal.

use std::collections::HashSet;

use super::world::{Given, Kernel, READ, READ_WRITE, World, bytes, tempdir};
use super::writing::scratch_files;
use crate::FsErrorKind;

/// Pseudo-random numbers from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX generator.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

const NAMES: [&str; 6] = ["a", "b", "d/a", "d/b", "e", "d"];

fn step(kernel: &Kernel, draw: &mut Draw) -> Result<(), FsErrorKind> {
    let (at, other) = (
        NAMES[draw.below(NAMES.len())],
        NAMES[draw.below(NAMES.len())],
    );
    let use_file = |handle, draw: &mut Draw| {
        let offset = draw.below(2600) as u64;
        let done = kernel.write(handle, offset, &[offset as u8; 40]);
        let read = kernel.read(handle, 0, 3000).map_err(|error| error.kind());
        kernel.close(handle);
        done.and(read).map(drop)
    };
    match draw.below(10) {
        0 | 1 => use_file(kernel.create(at)?, draw),
        2 | 3 => use_file(kernel.open(at, READ_WRITE, draw.below(4) == 0)?, draw),
        4 => {
            let handle = kernel.open(at, READ, false)?;
            let read = kernel.read(handle, 0, 3000).map_err(|error| error.kind());
            kernel.close(handle);
            read.map(drop)
        }
        5 => kernel.unlink(at),
        6 => kernel.rename(at, other),
        7 => kernel.link(at, other),
        8 => match kernel.truncate(at, draw.below(3000) as u64) {
            // A kernel refers to the file between the look-up and the cut. Here another thread may remove its scratch
            // file in between.
            Err(FsErrorKind::Io) => Ok(()),
            cut => cut.map(drop),
        },
        _ => {
            let frozen = kernel.vfs.freeze().unwrap();
            for ino in frozen.namespace().touched().map(|(ino, _)| ino) {
                let content = frozen.namespace().content(ino);
                let has_scratch =
                    content.is_some_and(|content| *content != attachfs_tree::FileContent::Base);
                if has_scratch && frozen.namespace().link_count(ino) > 0 {
                    kernel.vfs.open_scratch(ino).map_err(|error| error.kind())?;
                }
            }
            kernel.vfs.fsyncdir().map_err(|error| error.kind())
        }
    }
}

#[test]
fn threads_that_race_for_the_same_names_leave_a_sound_session() {
    let world = World::new(&[
        ("a", Given::File(bytes(2500))),
        ("d/a", Given::File(bytes(10))),
        ("d/b", Given::File(bytes(1000))),
    ]);
    let dir = tempdir();
    let kernel = world.create(dir.path());
    let expected = HashSet::from([
        FsErrorKind::NotFound,
        FsErrorKind::Exists,
        FsErrorKind::NotADirectory,
        FsErrorKind::IsADirectory,
        FsErrorKind::NotEmpty,
        FsErrorKind::Invalid,
    ]);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (kernel, expected) = (&kernel, &expected);
            scope.spawn(move || {
                let mut draw = Draw(seed);
                for _ in 0..3000 {
                    if let Err(error) = step(kernel, &mut draw) {
                        assert!(expected.contains(&error), "{error:?}");
                    }
                }
            });
        }
    });
    let shown = kernel.dump();
    let frozen = kernel.vfs.freeze().unwrap();
    let is_written =
        |content: &attachfs_tree::FileContent| *content != attachfs_tree::FileContent::Base;
    let namespace = frozen.namespace();
    let files = namespace
        .touched()
        .filter(|(ino, _)| namespace.content(*ino).is_some_and(is_written));
    let files = files.count();
    assert!(frozen.writers().is_empty());
    drop(frozen);
    drop(kernel);
    assert_eq!(scratch_files(dir.path()), files, "no more and no fewer");
    assert_eq!(world.recover(dir.path()).unwrap().dump(), shown);
}

#[test]
fn an_input_that_is_emptied_while_it_is_written_to_stays_readable() {
    let world = World::new(&[("log", Given::File(bytes(2500)))]);
    let dir = tempdir();
    let kernel = world.create(dir.path());
    for round in 0..300 {
        let writer = kernel.open("log", READ_WRITE, false).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for offset in [50, 500, 50] {
                    assert_eq!(kernel.write(writer, offset, b"ten bytes!"), Ok(10));
                }
            });
            let emptied = kernel.open("log", READ_WRITE, true).unwrap();
            kernel.close(emptied);
            let longer = 20 + round % 7 * 100;
            kernel.truncate("log", longer).unwrap();
        });
        for handle in kernel.vfs.handles.all_files() {
            kernel.close(handle);
        }
        let size = kernel.stat("log").unwrap().size;
        assert_eq!(kernel.cat("log").len() as u64, size, "round {round}");
    }
}
