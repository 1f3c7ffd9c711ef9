//! The same work on both sides: how much of another row's ratio may be noise of this machine.

use std::rc::Rc;

use super::harness::{Memory, PageCache, Row};
use super::sides::local;
use super::stage::{Set, Stage};
use super::work::{self, LARGE};

/// Reading 1 GiB of the local disk, compared with itself.
pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let row = |name: &str, page_cache| {
        let reading = || {
            local(stage, page_cache, |stage| {
                work::command(["read-large"], &[&stage.large()])
            })
        };
        Row {
            name: name.to_owned(),
            compared: "the same again (noise)".to_owned(),
            page_cache,
            touches: LARGE,
            needs: vec![Set::LargeWhole],
            rival: None,
            ours: reading(),
            other: reading(),
            bar: None,
            memory: Memory::PEAK,
        }
    };
    vec![
        row("local disk: cold read of 1 GiB", PageCache::Cold),
        row("local disk: warm read of 1 GiB", PageCache::Warm),
    ]
}
