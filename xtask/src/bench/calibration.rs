//! The same work on both sides: how much of another row's ratio may be noise of this machine.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::harness::{PageCache, Row, Side};
use super::process;

const FILE_SIZE: u64 = 1 << 30;

/// Reading 1 GiB of the local disk, compared with itself.
pub(super) fn rows(folder: &Path) -> Result<Vec<Row>> {
    let path = folder.join("calibration");
    write_file(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let row = |name: &str, page_cache| Row {
        name: name.to_owned(),
        compared: "the same again (noise)".to_owned(),
        page_cache,
        touches: FILE_SIZE,
        ours: reading(&path),
        other: reading(&path),
        bar: None,
    };
    Ok(vec![
        row("local disk: cold read of 1 GiB", PageCache::Cold),
        row("local disk: warm read of 1 GiB", PageCache::Warm),
    ])
}

fn reading(path: &Path) -> Side {
    let path: PathBuf = path.to_owned();
    Box::new(move || process::run(Command::new("cat").arg(&path)))
}

/// Writes the file unless it is there; its bytes do not repeat within a block, so that no layer below can leave them out.
fn write_file(path: &Path) -> std::io::Result<()> {
    if path.metadata().is_ok_and(|found| found.len() == FILE_SIZE) {
        return Ok(());
    }
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..FILE_SIZE / 8 {
        // xorshift64: any generator without short cycles would do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    file.into_inner()?.sync_all()
}
