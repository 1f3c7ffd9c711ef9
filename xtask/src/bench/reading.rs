//! Reading through a mount of a directory store, compared with the same files on the local disk.
//!
//! Cold: nothing is in the page cache, the store's objects and the local files included. Warm: the same work was done just
//! before, in the same mount.

use std::path::Path;
use std::rc::Rc;

use super::harness::{Memory, PageCache, Row};
use super::sides::{local, mounted};
use super::stage::{Set, Stage};
use super::work::{self, LARGE};

const GIB: u64 = 1 << 30;
const BOTH: [(PageCache, &str); 2] = [(PageCache::Cold, "cold"), (PageCache::Warm, "warm")];

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (page_cache, state) in BOTH {
        rows.push(walk(stage, page_cache, state));
    }
    for (set, objects) in [
        (Set::LargeWhole, "1 object"),
        (Set::LargeInChunks, "4 objects"),
    ] {
        for (page_cache, state) in BOTH {
            rows.push(large(
                stage,
                page_cache,
                set,
                &format!("{state} read of 1 GiB, {objects}"),
            ));
        }
    }
    for (readers, who) in [("1", "1 reader"), ("16", "16 readers")] {
        for (page_cache, state) in BOTH {
            let name = format!("{state} read of 5,000 files of 64 KiB, {who}");
            rows.push(small(stage, page_cache, readers, name));
        }
    }
    rows
}

fn walk(stage: &Rc<Stage>, page_cache: PageCache, state: &str) -> Row {
    Row {
        name: format!("{state} walk of 100,000 files in 1,000 directories (find -ls)"),
        compared: "the same on the local disk".to_owned(),
        page_cache,
        touches: GIB,
        needs: vec![Set::Many],
        rival: None,
        ours: mounted(stage, Set::Many, page_cache, |mount| {
            work::command(["walk"], &[mount])
        }),
        other: local(stage, page_cache, |stage| {
            work::command(["walk"], &[&stage.dir(Set::Many)])
        }),
        bar: None,
        memory: Memory::PEAK,
    }
}

fn large(stage: &Rc<Stage>, page_cache: PageCache, set: Set, name: &str) -> Row {
    Row {
        name: name.to_owned(),
        compared: "the same on the local disk".to_owned(),
        page_cache,
        // The object and the mount's file in the page cache, and what the program keeps.
        touches: 2 * LARGE + GIB,
        needs: vec![set],
        rival: None,
        ours: mounted(stage, set, page_cache, |mount| {
            work::command(["read-large"], &[&mount.join("large")])
        }),
        other: local(stage, page_cache, |stage| {
            work::command(["read-large"], &[&stage.large()])
        }),
        bar: None,
        memory: Memory::PEAK,
    }
}

fn small(stage: &Rc<Stage>, page_cache: PageCache, readers: &'static str, name: String) -> Row {
    let reading = move |dir: &Path| work::command(["read-small", readers], &[dir]);
    Row {
        name,
        compared: "the same on the local disk".to_owned(),
        page_cache,
        touches: 2 * GIB,
        needs: vec![Set::Small],
        rival: None,
        ours: mounted(stage, Set::Small, page_cache, reading),
        other: local(stage, page_cache, move |stage| {
            reading(&stage.dir(Set::Small))
        }),
        bar: None,
        memory: Memory::PEAK,
    }
}
