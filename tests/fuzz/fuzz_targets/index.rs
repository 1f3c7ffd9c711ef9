#![no_main]

use attachfs_manifest::ContentHash;
use attachfs_tree::{BaseKind, BaseTree, Ino};
use libfuzzer_sys::fuzz_target;
use xxhash_rust::xxh3::xxh3_64;

// A saved tree that somebody forged, its checksums put right: whatever it says, looking at all of it ends,
// and without a panic.
fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    seal(&mut bytes);
    let Some(layers) = bytes.get(16..32) else {
        return;
    };
    let layers = ContentHash::from_bytes(layers.try_into().expect("16 bytes"));
    let Ok(tree) = BaseTree::open(Box::new(bytes), layers, Box::new(|_| None)) else {
        return;
    };
    let mut open = vec![Ino::ROOT];
    let mut looked_at = 0_u32;
    while let Some(ino) = open.pop() {
        looked_at += 1;
        if looked_at > 10_000 {
            break;
        }
        let _ = (tree.parent(ino), tree.path(ino), tree.content(ino));
        if let Some(layout) = tree.layout(ino) {
            let _ = layout.pieces(0..u64::MAX).take(100).count();
        }
        if let Some(name) = tree.name(ino) {
            let _ = tree.parent(ino).and_then(|parent| tree.child(parent, name));
        }
        if let Some(BaseKind::Dir) = tree.kind(ino) {
            open.extend(tree.children(ino).take(1000));
        }
    }
    let _ = tree.child_at(Ino::ROOT, usize::MAX);
});

/// Puts the checksums of the header and of all pages right, as far as there are any (the layout is in
/// `crates/tree/src/base/index.rs`).
fn seal(bytes: &mut [u8]) {
    const FIXED: usize = 80;
    if bytes.len() < FIXED {
        return;
    }
    bytes[..8].copy_from_slice(b"attfstre");
    bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let len = bytes.len() as u64;
    bytes[56..64].copy_from_slice(&len.to_le_bytes());
    let counts = bytes[64..FIXED].as_chunks::<4>().0;
    let pages = counts.iter().map(|count| u32::from_le_bytes(*count) as usize);
    let pages: usize = pages.fold(0, usize::saturating_add);
    let Some(header) = pages.checked_mul(16).and_then(|table| table.checked_add(FIXED)) else {
        return;
    };
    if header + 8 > bytes.len() {
        return;
    }
    let mut at = header + 8;
    for row in (FIXED..header).step_by(16) {
        let len = u64::from_le_bytes(bytes[row..row + 8].try_into().expect("8 bytes"));
        let end = usize::try_from(len).ok().and_then(|len| at.checked_add(len));
        let Some(page) = end.and_then(|end| bytes.get(at..end)) else {
            break;
        };
        let sum = xxh3_64(page).to_le_bytes();
        at += page.len();
        bytes[row + 8..row + 16].copy_from_slice(&sum);
    }
    let sum = xxh3_64(&bytes[..header]).to_le_bytes();
    bytes[header..header + 8].copy_from_slice(&sum);
}
