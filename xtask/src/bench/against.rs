//! Two builds of the program, in pairs: every row that runs the program, with the earlier build as its other side.
//!
//! What a peer needs is not asked for. A row that stands once for each peer stands here once.

use std::rc::Rc;

use super::harness::{Memory, Row};
use super::stage::Stage;
use super::{committing, folders, mounting, programs, reading, transfers, writing};

/// The most time that a row may take, by that of the earlier build.
const BAR: f64 = 1.05;

/// The rows of both stages, which differ in their program and in where they write.
pub(super) fn rows(now: &Rc<Stage>, earlier: &Rc<Stage>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (row, before) in of_the_program(now).into_iter().zip(of_the_program(earlier)) {
        if rows.iter().any(|known| known.name == row.name) {
            continue;
        }
        rows.push(Row {
            compared: "an earlier build".to_owned(),
            rival: None,
            other: before.ours,
            bar: Some(BAR),
            memory: Memory {
                bar: None,
                ..row.memory
            },
            ..row
        });
    }
    rows
}

fn of_the_program(stage: &Rc<Stage>) -> Vec<Row> {
    let groups = [
        mounting::rows(stage),
        reading::rows(stage),
        writing::rows(stage),
        programs::rows(stage),
        committing::rows(stage),
        folders::rows(stage),
        transfers::rows(stage),
    ];
    groups.into_iter().flatten().collect()
}
