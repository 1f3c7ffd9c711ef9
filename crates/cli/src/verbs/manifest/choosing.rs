//! Which files of a folder are taken, and where their hashes are remembered.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attachfs::manifest::{Hashing, HashingPlaces, Selection, open_hash_caches};
use attachfs::{FileList, GlobConfig};

use crate::args::manifest::{Choice, Extent, Hashing as HashingArgs, Remembering, Scanning};
use crate::exit::Failure;
use crate::places::places_with;

/// The patterns that were given, if any were.
pub(in crate::verbs) fn globs(choice: &Choice) -> Result<Option<GlobConfig>, Failure> {
    if let Some(given) = &choice.globs {
        let text = match given.as_encoded_bytes().first() {
            Some(b'{') => given.as_encoded_bytes().to_vec(),
            _ => std::fs::read(given).with_context(|| {
                format!("cannot read the patterns in {}", Path::new(given).display())
            })?,
        };
        return Ok(Some(
            attachfs::decode_globs(&text).map_err(attachfs::Error::from)?,
        ));
    }
    if choice.include.is_empty() && choice.exclude.is_empty() {
        return Ok(None);
    }
    let mut globs = GlobConfig::default();
    let bytes = |pattern: &std::ffi::OsString| pattern.clone().into_encoded_bytes();
    if !choice.include.is_empty() {
        globs.include = choice.include.iter().map(bytes).collect();
    }
    globs.exclude = choice.exclude.iter().map(bytes).collect();
    Ok(Some(globs))
}

/// The patterns, and how far the folder goes: both may say what becomes of names that begin with a dot.
pub(in crate::verbs) fn choice(choice: &Choice, extent: Extent) -> Result<Selection, Failure> {
    let names_itself = !choice.include.is_empty() || choice.globs.is_some();
    let leaves_out = extent.hidden() == Some(true) && !choice.exclude.is_empty();
    if extent.hidden.is_some() && names_itself || leaves_out {
        return Err(attachfs::Error::usage("with patterns, names that begin with a dot are taken if --include names them: leave out --hidden")
        .into());
    }
    Ok(Selection {
        globs: globs(choice)?,
        hidden: extent.hidden(),
        cross_mounts: extent.cross_mounts(),
        ..Selection::default()
    })
}

/// The error for options that say something of a folder where none is given by `option`.
pub(in crate::verbs) fn only_of_a_folder(option: &str) -> attachfs::Error {
    attachfs::Error::usage(format!(
        "--hidden, --one-file-system and --cross-mounts are for a folder, given by {option}"
    ))
}

/// Which files of a folder are taken.
pub(in crate::verbs) fn selection(scanning: &Scanning) -> Result<Selection, Failure> {
    let files = match (&scanning.files_from, &scanning.optional_from) {
        (None, None) => None,
        (required, optional) => Some(FileList {
            required: listed(required.as_deref())?,
            optional: listed(optional.as_deref())?,
        }),
    };
    Ok(Selection {
        files,
        skip_unreadable: scanning.skip_unreadable,
        ..choice(&scanning.choice, scanning.extent)?
    })
}

/// The paths in a file, one a line; none if there is no file.
fn listed(file: Option<&Path>) -> Result<Vec<PathBuf>, Failure> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let doing = || format!("cannot read the list of files in {}", file.display());
    let reader: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(doing)?)
    };
    let mut paths = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.with_context(doing)?;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if !line.is_empty() {
            paths.push(attachfs::path_of_bytes(line));
        }
    }
    Ok(paths)
}

/// How files are hashed, with the caches open.
pub(in crate::verbs) fn hashing(args: &HashingArgs) -> Result<Hashing, Failure> {
    let places = HashingPlaces {
        cache: places_with(args.remembering.cache_dir.clone())?.cache,
        machine: machine(),
        deadline: deadline(&args.remembering)?,
    };
    Ok(Hashing {
        caches: Some(open_hash_caches(&places)),
        force_rehash: args.force_rehash,
    })
}

/// The directory of the deadline client's caches, if they are to be shared.
pub(in crate::verbs) fn deadline(args: &Remembering) -> Result<Option<PathBuf>, Failure> {
    Ok(match &args.share_deadline_cache {
        None => None,
        Some(named) if named.as_os_str().is_empty() => {
            let home = std::env::var_os("HOME").context(
                "there is no HOME to find the deadline client's cache in: name its directory",
            )?;
            Some(Path::new(&home).join(".deadline/cache"))
        }
        Some(named) => Some(named.clone()),
    })
}

/// The identifier of this machine (machine-id(5)); empty where the system has none.
fn machine() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    id.trim().to_owned()
}
