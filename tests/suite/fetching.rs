//! `attachfs download` of a job: where the files of its roots go, what is asked before, and what cannot be placed.

mod places;
mod runs;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{
    ChunkSize, Content, ContentHash, File, ManifestPath, Mtime, Node, Snapshot,
};

use crate::machine::{Machine, args};

pub(crate) const HEX: &str = "0123456789abcdef0123456789abcdef";

/// The address of the job of these tests.
fn job() -> String {
    format!("deadline://farm-{HEX}/queue-{HEX}/job-{HEX}")
}

/// An output of the job: files below a root, with what is in them.
struct Output<'a> {
    root: &'a str,
    task: u32,
    /// The number of the session action, and the second of its time.
    run: u32,
    files: &'a [(&'a str, &'a str)],
}

/// Files as a manifest, whose objects are put into the machine's store.
fn manifest(machine: &Machine, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let nodes = files.iter().map(|(path, text)| {
        let hash = ContentHash::of(text.as_bytes());
        let object = machine.object(&hash.to_string());
        machine.file(object, text);
        let file = Node::File(File {
            size: text.len() as u64,
            mtime: Mtime(1_700_000_000_123_456),
            runnable: false,
            content: Content::Whole(hash),
        });
        (ManifestPath::new(path.as_bytes()).unwrap(), file)
    });
    let snapshot = Snapshot::new(ChunkSize::WholeFile, None, nodes).unwrap();
    machine.file(
        name,
        encode_snapshot(&snapshot, Format::V2023_03_03).unwrap(),
    )
}

/// Puts an output into the machine's store, as a worker does.
fn put(machine: &Machine, output: &Output<'_>) {
    let manifest = manifest(machine, "out.manifest", output.files);
    machine.ok(args![
        "manifest",
        "upload",
        &manifest,
        "--store",
        machine.store(),
        "--farm",
        format!("farm-{HEX}"),
        "--queue",
        format!("queue-{HEX}"),
        "--job",
        format!("job-{HEX}"),
        "--step",
        format!("step-{HEX}"),
        "--task",
        format!("task-{HEX}-{}", output.task),
        "--session-action",
        format!("sessionaction-{HEX}-{}", output.run),
        "--time",
        format!("2025-01-31T12:00:{:02}.000000Z", output.run),
        "--asset-root",
        output.root,
    ]);
}

/// A job with one output below each of these roots, a file `f` that has the name of the root.
fn job_with(machine: &Machine, roots: &[&str]) {
    for (number, root) in (0..).zip(roots) {
        put(
            machine,
            &Output {
                root,
                task: number,
                run: number + 1,
                files: &[("f", root)],
            },
        );
    }
}

/// The arguments that download the job.
fn download(machine: &Machine, more: &[&str]) -> Vec<OsString> {
    let mut arguments = args!["download", job(), "--store", machine.store()].to_vec();
    arguments.extend(more.iter().map(Into::into));
    arguments
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
