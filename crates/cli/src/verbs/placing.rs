//! Where the roots of jobs are on this machine, as it was typed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use attachfs::{Error, Placing, PlacingOptions, StorageProfile, parse_rules};

use super::naming::document;
use crate::args::placing::PlacingArgs;

/// Reads what the options name.
pub(super) fn placing(args: &PlacingArgs) -> Result<Placing, Error> {
    Placing::new(&placing_options(args)?)
}

/// As [`placing`], to be added to.
pub(super) fn placing_options(args: &PlacingArgs) -> Result<PlacingOptions, Error> {
    let rules = document(args.path_mapping_rules.as_deref(), parse_rules)?;
    let profiles = args.storage_profile_json.iter();
    let profiles = profiles.map(|path| profile(Some(path)));
    let profiles: Vec<Option<StorageProfile>> = profiles.collect::<Result<_, _>>()?;
    let map_roots = args.map_root.iter().map(|mapped| mapped_root(mapped));
    Ok(PlacingOptions {
        map_roots: map_roots.collect::<Result<_, _>>()?,
        rules: rules.unwrap_or_default(),
        profiles: profiles.into_iter().flatten().collect(),
        local: profile(args.local_storage_profile_json.as_deref())?,
        own_roots: args.ignore_storage_profiles,
    })
}

fn profile(path: Option<&Path>) -> Result<Option<StorageProfile>, Error> {
    document(path, |bytes| String::from_utf8_lossy(bytes).parse())
}

/// A root, and the folder that has its place; a relative one is one of the working directory.
fn mapped_root(text: &OsStr) -> Result<(String, PathBuf), Error> {
    let bytes = text.as_encoded_bytes();
    let equals = bytes.iter().rposition(|&byte| byte == b'=');
    let Some((root, folder)) = equals.map(|at| (&bytes[..at], &bytes[at + 1..])) else {
        return Err(Error::usage("--map-root wants a root, `=` and a folder"));
    };
    let Ok(root) = str::from_utf8(root) else {
        return Err(Error::usage("a root of --map-root is not UTF-8"));
    };
    if folder.is_empty() {
        return Err(Error::usage(
            "there is no folder after the `=` of --map-root",
        ));
    }
    Ok((
        root.to_owned(),
        attachfs::real_folder(&attachfs::path_of_bytes(folder))?,
    ))
}
