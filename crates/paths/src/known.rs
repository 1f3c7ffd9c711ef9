//! Places that somebody has named, and inputs that lie in none of them.
//!
//! A job bundle from elsewhere may list any file of the machine as an input. So what a person did not name, in an
//! option, in the settings, as a parameter or as a location of the storage profile, is asked about before it is uploaded.
//! As `_filter_redundant_known_paths` and `_classify_asset_paths` of AWS's client; nothing is ever known by a working
//! directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::foreign::write_escaped;
use crate::place::{Place, PlaceKey, is_within};
use crate::{AssetRoots, ForeignPath, PathFormat};

/// How many paths a short list has.
const SHORT: usize = 5;

/// Who names a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KnownFrom {
    /// An option of the command.
    Option,
    /// The directory of the job bundle.
    Bundle,
    /// A location of the storage profile that is LOCAL.
    Location,
    /// The setting `settings.known_asset_paths`.
    Settings,
    /// A parameter of the type PATH that was given with the command.
    Parameter,
}

/// What is known before it is looked at. A relative path, an empty one and one of another user's home (`~other/x`) name
/// nothing: see [`KnownPaths::ignored`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownSource<'a> {
    /// A path of an option.
    Option(&'a [u8]),
    /// The directory of the bundle, absolute.
    Bundle(&'a [u8]),
    /// The path of a LOCAL location.
    Location(&'a [u8]),
    /// The whole setting: paths with [`PathFormat::list_separator`] between them.
    Settings(&'a str),
    /// The value of a parameter that names a directory.
    DirectoryParameter(&'a [u8]),
    /// The value of a parameter that names a file: its directory is known.
    FileParameter(&'a [u8]),
}

/// A place that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPath {
    /// The path, with `~` expanded and without `..`.
    pub path: Vec<u8>,
    /// Who named it first.
    pub from: KnownFrom,
}

/// All places that are known, none of which lies in another one.
#[derive(Debug, Clone)]
pub struct KnownPaths {
    format: PathFormat,
    paths: Vec<KnownPath>,
    /// In the same order.
    keys: Vec<PlaceKey>,
    ignored: Vec<Vec<u8>>,
}

impl KnownPaths {
    /// Puts them together, those of a machine of this format. `~` and what begins with `~/` is below `home`; without a home it
    /// names nothing. A place in another one is left out; of the same place the first spelling stays. They are in the
    /// order of their depth.
    pub fn new<'a>(
        format: PathFormat,
        home: Option<&[u8]>,
        sources: impl IntoIterator<Item = KnownSource<'a>>,
    ) -> Self {
        let mut known = Self {
            format,
            paths: Vec::new(),
            keys: Vec::new(),
            ignored: Vec::new(),
        };
        let mut found: Vec<(PlaceKey, KnownPath)> = Vec::new();
        for (from, text, is_file) in sources.into_iter().flat_map(|of| of.texts(format)) {
            let expanded = expand(format, home, text);
            let place = Place::of(format, &expanded);
            // A path without a separator has no directory by text, whatever it is.
            let place = if is_file { place.parent() } else { place };
            if place.is_fixed() {
                let path = place.text();
                found.push((place.key(), KnownPath { path, from }));
            } else if !text.is_empty() {
                known.ignored.push(text.to_vec());
            }
        }
        // Stable, so of two spellings the first one comes first.
        found.sort_by_key(|(key, _)| key.len());
        for (key, path) in found {
            if !known.has(&key) {
                known.keys.push(key);
                known.paths.push(path);
            }
        }
        known
    }

    /// The places, the least deep first.
    pub fn paths(&self) -> &[KnownPath] {
        &self.paths
    }

    /// What was given and names no place: relative, or without a home. To be told as a warning.
    pub fn ignored(&self) -> &[Vec<u8>] {
        &self.ignored
    }

    /// Whether a path, taken as a text of this machine, lies in a place that is known.
    pub fn contains(&self, path: impl AsRef<[u8]>) -> bool {
        self.has(&Place::of(self.format, path.as_ref()).key())
    }

    fn has(&self, key: &PlaceKey) -> bool {
        self.keys.iter().any(|known| is_within(key, known))
    }

    /// What lies nowhere that is known of all that would be uploaded, now or by the workers.
    pub fn unknown(&self, roots: &AssetRoots) -> UnknownPaths {
        let inputs = roots.roots.iter().flat_map(|root| &root.inputs);
        // Many files have the same directory.
        let texts: BTreeSet<_> = inputs
            .map(|input| input.parent().as_bytes().to_vec())
            .collect();
        let mut inputs: Vec<(PlaceKey, Vec<u8>)> = Vec::new();
        for (key, path) in self.unknown_among(texts.iter().map(Vec::as_slice)) {
            // They are sorted, so what lies in another one follows it.
            let above = inputs.last();
            if !above.is_some_and(|(above, _)| key.starts_with(above)) {
                inputs.push((key, path));
            }
        }
        let outputs = roots.roots.iter().flat_map(|root| &root.outputs);
        let outputs = self.unknown_among(outputs.map(ForeignPath::as_bytes));
        UnknownPaths {
            format: self.format,
            input_dirs: inputs.into_iter().map(|(_, path)| path).collect(),
            output_dirs: outputs.into_values().collect(),
        }
    }

    fn unknown_among<'a>(
        &self,
        paths: impl Iterator<Item = &'a [u8]>,
    ) -> BTreeMap<PlaceKey, Vec<u8>> {
        let mut unknown = BTreeMap::new();
        for path in paths {
            let place = Place::of(self.format, path);
            let key = place.key();
            if !self.has(&key) {
                unknown.entry(key).or_insert_with(|| place.text());
            }
        }
        unknown
    }
}

impl<'a> KnownSource<'a> {
    /// The paths in it, each with its source and whether its directory is meant.
    fn texts(self, format: PathFormat) -> Vec<(KnownFrom, &'a [u8], bool)> {
        match self {
            Self::Option(path) => vec![(KnownFrom::Option, path, false)],
            Self::Bundle(path) => vec![(KnownFrom::Bundle, path, false)],
            Self::Location(path) => vec![(KnownFrom::Location, path, false)],
            Self::Settings(list) => {
                let paths = list.trim().split(format.list_separator());
                paths
                    .map(|path| (KnownFrom::Settings, path.as_bytes(), false))
                    .collect()
            }
            Self::DirectoryParameter(path) => vec![(KnownFrom::Parameter, path, false)],
            Self::FileParameter(path) => vec![(KnownFrom::Parameter, path, true)],
        }
    }
}

/// `~` as the home directory.
fn expand(format: PathFormat, home: Option<&[u8]>, text: &[u8]) -> Vec<u8> {
    match (text, home) {
        (b"~", Some(home)) => home.to_vec(),
        ([b'~', next, rest @ ..], Some(home)) if format.separates(*next) => {
            [home, &[format.separator()], rest].concat()
        }
        _ => text.to_vec(),
    }
}

/// What is to be asked about before anything is uploaded. The answer that is taken without one is No.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPaths {
    format: PathFormat,
    /// Directories with inputs, none of which lies in another one; sorted.
    pub input_dirs: Vec<Vec<u8>>,
    /// Directories that workers will upload from; sorted.
    pub output_dirs: Vec<Vec<u8>>,
}

impl UnknownPaths {
    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.input_dirs.is_empty() && self.output_dirs.is_empty()
    }
}

/// A short list, safe to show, a line each: all of up to 5 directories, of more the first 4 and how many there are besides. Inputs
/// come first, `(output) ` stands before the others.
impl fmt::Display for UnknownPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inputs = self.input_dirs.iter().map(|path| ("", path));
        let outputs = self.output_dirs.iter().map(|path| ("(output) ", path));
        let count = self.input_dirs.len() + self.output_dirs.len();
        let shown = if count <= SHORT { count } else { SHORT - 1 };
        for (number, (label, path)) in inputs.chain(outputs).take(shown).enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            f.write_str(label)?;
            write_escaped(f, self.format, path)?;
        }
        match count - shown {
            0 => Ok(()),
            more => write!(f, "\n... and {more} more"),
        }
    }
}
