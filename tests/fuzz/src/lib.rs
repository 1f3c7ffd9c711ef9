//! What holds for whatever bytes a reader is given: the laws that the fuzz targets try to break. The suite holds all
//! inputs that were kept against them in every run.

use attachfs_manifest::wire::{Format, Manifest, decode, decode_globs, decode_lenient, encode};
use attachfs_manifest::{ContentHash, ManifestPath, PathFilter};
use attachfs_tree::{BaseKind, BaseTree, Ino};
use xxhash_rust::xxh3::xxh3_64;

/// Decodes bytes strictly and leniently, and checks what has to hold of the results. Texts of other
/// formats than those that `wanted` names are left to other targets.
///
/// # Panics
/// If a law does not hold.
pub fn check_manifest(bytes: &[u8], wanted: fn(Format) -> bool) {
    let strict = decode(bytes);
    if let Ok((format, manifest)) = &strict
        && wanted(*format)
    {
        check_text(*format, manifest);
    }
    match (decode_lenient(bytes), &strict) {
        (Ok(lenient), Ok((format, manifest))) => {
            assert_eq!((lenient.format, &lenient.manifest), (*format, manifest));
            assert_eq!(lenient.fault, None);
        }
        (Ok(lenient), Err(error)) => {
            assert_eq!(lenient.fault.as_ref(), Some(error));
            if wanted(lenient.format) {
                check_text(lenient.format, &lenient.manifest);
            }
        }
        (Err(error), Ok(_)) => panic!("only strictly: {error}"),
        (Err(_), Err(error)) => {
            // Whatever is said is said without a panic.
            let _ = error.to_string();
        }
    }
}

/// What was read is written, and what was written is read as the same.
fn check_text(format: Format, manifest: &Manifest) {
    let written = match format {
        Format::Draft2025_12_04 => Format::V2025_12,
        format => format,
    };
    let text = encode(manifest, written).expect("what was read can be written");
    let (again, read) = decode(&text).expect("what was written can be read");
    assert_eq!(again, written);
    let text_again = encode(&read, written).expect("what was read can be written");
    assert_eq!(text, text_again);
    if let (Manifest::Snapshot(read), Manifest::Snapshot(manifest)) = (&read, manifest) {
        // The formats list the directories above a link's target, so more may be read than was written.
        assert!(read.len() >= manifest.len() || written == Format::V2023_03_03);
        assert_eq!(read.total_size(), manifest.total_size());
    }
}

/// A list of patterns, a NUL, and paths to try: whatever a walk would not go into holds nothing that is chosen, and what
/// matches is the same from the text and from its parts.
///
/// # Panics
/// If that does not hold.
pub fn check_globs(bytes: &[u8]) {
    let (config, paths) = match bytes.iter().position(|&byte| byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &bytes[..0]),
    };
    let Ok(globs) = decode_globs(config) else {
        return;
    };
    let Ok(filter) = PathFilter::new(&globs.include, &globs.exclude) else {
        return;
    };
    for path in paths.split(|&byte| byte == 0).filter(|path| is_path(path)) {
        let matches = filter.matches(path);
        let mut state = filter.start();
        let mut is_reached = true;
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        let (name, above) = names.split_last().expect("a path has a name");
        for directory in above {
            state = filter.enter(&state, directory);
            is_reached &= filter.may_take_below(&state);
        }
        assert_eq!(matches, filter.takes_file(&state, name));
        assert!(
            !matches || is_reached,
            "{:?}",
            String::from_utf8_lossy(path)
        );
    }
}

fn is_path(path: &[u8]) -> bool {
    ManifestPath::new(path).is_ok()
}

/// A saved tree that somebody forged, its checksums put right: whatever it says, looking at all of it ends, and without a
/// panic.
///
/// # Panics
/// If it does not.
pub fn check_index(bytes: &[u8]) {
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
}

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
    let pages = counts
        .iter()
        .map(|count| u32::from_le_bytes(*count) as usize);
    let pages: usize = pages.fold(0, usize::saturating_add);
    let Some(header) = pages
        .checked_mul(16)
        .and_then(|table| table.checked_add(FIXED))
    else {
        return;
    };
    if header + 8 > bytes.len() {
        return;
    }
    let mut at = header + 8;
    for row in (FIXED..header).step_by(16) {
        let len = u64::from_le_bytes(bytes[row..row + 8].try_into().expect("8 bytes"));
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| at.checked_add(len));
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
