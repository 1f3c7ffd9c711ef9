//! Names that are made of roots: of files, of directories, of keys.

use std::fmt::Display;

use attachfs_manifest::ContentHash;
use sha3::Shake256;
use sha3::digest::{ExtendableOutput as _, Update as _, XofReader as _};

use crate::{ForeignPath, MappingRule, PathFormat};

/// The directory of a session that has what is below a root: `assetroot-` and 20 hexadecimal digits, the first 10 bytes of
/// SHAKE-256 over the root as the job has it.
pub fn asset_root_dir_name(root: &str) -> String {
    let mut hash = Shake256::default();
    hash.update(root.as_bytes());
    let mut number = [0; 16];
    hash.finalize_xof().read(&mut number[6..]);
    let number = u128::from_be_bytes(number);
    format!("assetroot-{number:020x}")
}

/// The rules of a session without storage profiles: each root is at its own directory of the session's, which is
/// `session_dir` on a machine of the format `host`. A root that is given twice has one rule.
///
/// Roots that belong to a file-system location are not to be given if there are rules for it ([`rules_between`]); without
/// such rules they are placed in the session as any.
///
/// [`rules_between`]: crate::rules_between
pub fn session_rules<'a>(
    session_dir: &str,
    host: PathFormat,
    roots: impl IntoIterator<Item = (PathFormat, &'a str)>,
) -> Vec<MappingRule> {
    let mut rules: Vec<MappingRule> = Vec::new();
    let session = ForeignPath::parse(host, session_dir);
    for (source_format, root) in roots {
        let place = session.join(asset_root_dir_name(root));
        let rule = MappingRule {
            source_format,
            source: root.to_owned(),
            destination: String::from_utf8_lossy(place.as_bytes()).into_owned(),
        };
        match rules.iter_mut().find(|of| of.source == root) {
            Some(of) => *of = rule,
            None => rules.push(rule),
        }
    }
    rules
}

/// What stands for a root in the key of its input manifest, before `_input`: the hash of the root as its system's Python
/// writes it, without a separator at the end for example.
pub fn input_root_hash(format: PathFormat, root: &str) -> ContentHash {
    ContentHash::of(ForeignPath::parse(format, root).as_bytes())
}

/// What stands for a root and its file-system location in the key of an output manifest, before `_output`: the hash of both
/// as they are written in the job.
pub fn output_root_hash(location: Option<&str>, root: &str) -> ContentHash {
    ContentHash::of([location.unwrap_or_default(), root].concat().as_bytes())
}

/// The file that `deadline manifest snapshot` writes: the name or else the root, with `_` for `/`, `\` and `:` and the first
/// `_` left out; the hash of the root as it was given; and the time, which is to be the local one as
/// `2025-01-31T12-00-00`.
pub fn snapshot_file_name(name: Option<&str>, root: &str, time: impl Display) -> String {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => file_name(name, root, time),
        None => file_name(&root.replace(['/', '\\', ':'], "_"), root, time),
    }
}

/// The file that `deadline manifest download` writes for a root. It is made as that of a snapshot, but only `/` becomes
/// `_`: a root of Windows keeps its backslashes.
pub fn downloaded_file_name(root: &str, time: impl Display) -> String {
    file_name(&root.replace('/', "_"), root, time)
}

fn file_name(name: &str, root: &str, time: impl Display) -> String {
    let name = name.strip_prefix('_').unwrap_or(name);
    let hash = ContentHash::of(root.as_bytes());
    format!("{name}-{hash}-{time}.manifest")
}
