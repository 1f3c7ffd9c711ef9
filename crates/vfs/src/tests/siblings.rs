//! Files that are read one after the other are fetched before they are opened. Counted in requests.

use attachfs_store::{Call, CallKind};

use super::world::{Given, Kernel, READ, World, bytes, tempdir};

/// Directories of files of one chunk, with the names that a listing has them in.
fn world(dirs: usize, files: usize) -> (World, Vec<String>) {
    let names: Vec<_> = (0..dirs)
        .flat_map(|dir| (0..files).map(move |file| format!("d{dir:02}/f{file:03}")))
        .collect();
    let given = names.iter().enumerate().map(|(number, name)| {
        let mut content = bytes(500);
        content.extend(number.to_le_bytes());
        (name.as_str(), Given::File(content))
    });
    (World::new(&given.collect::<Vec<_>>()), names)
}

/// How many objects were asked for.
fn asked(world: &World) -> usize {
    world.record.count(CallKind::Get)
}

/// Reads files in this order, and says how many had to wait for a request of their own.
fn waits(world: &World, kernel: &Kernel, names: &[String]) -> usize {
    let mut waits = 0;
    for name in names {
        let handle = kernel.open(name, READ, false).unwrap();
        let outcome = kernel.vfs.read(handle, 0, 4096).unwrap();
        if let crate::ReadOutcome::Pending(read) = outcome {
            let before = asked(world);
            kernel.wait(read).unwrap();
            waits += usize::from(asked(world) > before);
        }
        // What was fetched ahead has come before the next file is opened.
        kernel.idle(&world.record);
        kernel.close(handle);
    }
    waits
}

#[test]
fn files_that_are_read_one_after_the_other_are_fetched_before_they_are_opened() {
    let (world, names) = world(3, 100);
    let session = tempdir();
    let kernel = world.create(session.path());
    let waits = waits(&world, &kernel, &names);
    assert!(waits <= 4, "{waits} of 300 files were waited for");
    assert_eq!(asked(&world), 300, "each once");
}

#[test]
fn more_and_more_files_are_fetched_ahead_but_not_more_than_a_bounded_number() {
    let (world, names) = world(1, 400);
    let session = tempdir();
    let kernel = world.create(session.path());
    let mut ahead = Vec::new();
    for read in 1..=40 {
        waits(&world, &kernel, &names[read - 1..read]);
        ahead.push(asked(&world) - read);
    }
    assert_eq!(ahead[..3], [0, 0, 4]);
    assert!(ahead.is_sorted(), "{ahead:?}");
    assert_eq!(ahead[39], 128);
}

#[test]
fn files_that_are_read_in_no_order_are_not_followed_by_others() {
    let (world, names) = world(10, 50);
    let session = tempdir();
    let kernel = world.create(session.path());
    let some: Vec<_> = [7, 401, 33, 250, 499, 120, 300, 77, 200, 444]
        .map(|at: usize| names[at].clone())
        .into();
    assert_eq!(waits(&world, &kernel, &some), 10);
    assert_eq!(asked(&world), 10);
}

#[test]
fn several_readers_of_one_list_are_followed_as_one() {
    let (world, names) = world(1, 200);
    let session = tempdir();
    let kernel = world.create(session.path());
    // Four readers, of which each is a little early or late.
    let mixed: Vec<_> = names
        .chunks(4)
        .flat_map(|four| [2, 0, 3, 1].map(|at: usize| four[at].clone()))
        .collect();
    let waits = waits(&world, &kernel, &mixed);
    assert!(waits <= 10, "{waits} of 200 files were waited for");
    assert_eq!(asked(&world), 200);
}

#[test]
fn what_was_written_or_deleted_is_not_fetched_ahead() {
    let (world, names) = world(1, 20);
    let session = tempdir();
    let kernel = world.create(session.path());
    kernel.patch(&names[5], 0, b"mine");
    kernel.unlink(&names[6]).unwrap();
    waits(&world, &kernel, &names[..4]);
    let gets = world.record.calls().into_iter();
    let fetched: Vec<_> = gets
        .filter_map(|call| match call {
            Call::Get { chunk, .. } => Some(chunk),
            _ => None,
        })
        .collect();
    let hash = |name: &String| {
        let ino = kernel.stat(name).unwrap().ino;
        world.tree.layout(ino).unwrap().hashes()[0]
    };
    assert!(fetched.contains(&hash(&names[7])));
    assert!(!fetched.contains(&hash(&names[5])));
    assert_eq!(fetched.len(), 4 + 8);
}
