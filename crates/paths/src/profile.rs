//! Storage profiles: where the file systems of a studio are on one kind of machine.
//!
//! Read as `aws deadline get-storage-profile` and `get-storage-profile-for-queue` print them; what else they say (who made the
//! profile, and when) is left aside.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::fields::{self, FieldProblem};
use crate::{MappingRule, PathFormat};

const ID: &str = "storageProfileId";
const NAME: &str = "displayName";
const FAMILY: &str = "osFamily";
const LOCATIONS: &str = "fileSystemLocations";

/// The kind of machine that a profile is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OsFamily {
    /// Linux.
    Linux,
    /// macOS.
    MacOs,
    /// Windows.
    Windows,
}

/// Who has the files of a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocationType {
    /// Every machine that has the location: its files are not uploaded.
    Shared,
    /// This machine: what a job needs of it is uploaded, as one root.
    Local,
}

/// One file system of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileSystemLocation {
    /// The same in all profiles that have the location; case counts.
    pub name: String,
    /// Where it is on machines of this profile, in their format. Never empty.
    pub path: String,
    /// Who has its files.
    pub kind: LocationType,
}

/// A storage profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageProfile {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The machines it is for.
    pub family: OsFamily,
    /// Its locations, in their order.
    pub locations: Vec<FileSystemLocation>,
}

/// Why a text is no storage profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not JSON.
    #[error("the storage profile is no JSON")]
    Json(#[source] serde_json::Error),
    /// JSON, and no object.
    #[error("the storage profile is no object")]
    NotAnObject,
    /// A field that is not as it should be.
    #[error("the storage profile cannot be used: {field} {problem}")]
    Field {
        /// Its name and where it is, `fileSystemLocations[2].type` for example; counted from 0.
        field: String,
        /// What is wrong.
        problem: FieldProblem,
    },
}

impl OsFamily {
    /// How paths are written on such machines.
    pub fn path_format(self) -> PathFormat {
        match self {
            Self::Linux | Self::MacOs => PathFormat::Posix,
            Self::Windows => PathFormat::Windows,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::MacOs => "macos",
            Self::Windows => "windows",
        }
    }
}

/// In lower case, as Deadline Cloud's client writes it.
impl fmt::Display for OsFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As it is in documents: `SHARED` or `LOCAL`.
impl fmt::Display for LocationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "SHARED",
            Self::Local => "LOCAL",
        })
    }
}

impl StorageProfile {
    /// How paths are written on the profile's machines.
    pub fn path_format(&self) -> PathFormat {
        self.family.path_format()
    }

    /// Reads the document, as `FromStr` does.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ProfileError> {
        match serde_json::from_slice(bytes).map_err(ProfileError::Json)? {
            Value::Object(profile) => {
                parse(&profile).map_err(|(field, problem)| ProfileError::Field { field, problem })
            }
            _ => Err(ProfileError::NotAnObject),
        }
    }

    /// The profile as a document, with the fields that are kept of it: what `FromStr` reads.
    pub fn to_json(&self) -> String {
        let locations = self.locations.iter();
        let locations: Vec<Value> = locations
            .map(|of| json!({ "name": of.name, "path": of.path, "type": of.kind.to_string() }))
            .collect();
        json!({
            ID: self.id, NAME: self.name, FAMILY: self.family.as_str(), LOCATIONS: locations,
        })
        .to_string()
    }
}

impl FromStr for StorageProfile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        Self::from_json(text.as_bytes())
    }
}

type Parsed<T> = Result<T, (String, FieldProblem)>;

fn parse(profile: &Map<String, Value>) -> Parsed<StorageProfile> {
    let at = |field: &'static str| move |problem| (field.to_owned(), problem);
    let family = fields::one_of(profile, FAMILY, "LINUX, MACOS or WINDOWS", |text| {
        let mut all = [OsFamily::Linux, OsFamily::MacOs, OsFamily::Windows].into_iter();
        all.find(|family| family.as_str().eq_ignore_ascii_case(text))
    });
    let locations = match profile.get(LOCATIONS) {
        // Left out by the service where there are none.
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(locations)) => {
            let parsed = locations.iter().enumerate().map(|(index, location)| {
                let place = format!("{LOCATIONS}[{index}]");
                parse_location(&place, location)
            });
            parsed.collect::<Parsed<_>>()?
        }
        Some(_) => return Err((LOCATIONS.to_owned(), FieldProblem::NotAList)),
    };
    Ok(StorageProfile {
        id: fields::text(profile, ID).map_err(at(ID))?.to_owned(),
        name: fields::text(profile, NAME).map_err(at(NAME))?.to_owned(),
        family: family.map_err(at(FAMILY))?,
        locations,
    })
}

fn parse_location(place: &str, location: &Value) -> Parsed<FileSystemLocation> {
    let Value::Object(location) = location else {
        return Err((place.to_owned(), FieldProblem::NotAnObject));
    };
    let at = |field: &'static str| move |problem| (format!("{place}.{field}"), problem);
    let kind = fields::one_of(location, "type", "SHARED or LOCAL", |text| match text {
        "SHARED" => Some(LocationType::Shared),
        "LOCAL" => Some(LocationType::Local),
        _ => None,
    });
    Ok(FileSystemLocation {
        name: fields::text(location, "name")
            .map_err(at("name"))?
            .to_owned(),
        path: fields::text(location, "path")
            .map_err(at("path"))?
            .to_owned(),
        kind: kind.map_err(at("type"))?,
    })
}

/// Rules from the machines of one profile to those of another: one for each location that both have, of whatever type, in
/// the order of the source; none if it is the same profile. A name that a profile has twice counts as its last one says.
/// As `_generate_path_mapping_rules` of AWS's library.
pub fn rules_between(source: &StorageProfile, destination: &StorageProfile) -> Vec<MappingRule> {
    if source.id == destination.id {
        return Vec::new();
    }
    let last = |profile: &StorageProfile, name: &str| {
        let mut locations = profile.locations.iter().rev();
        let found = locations.find(|location| location.name == name);
        found.map(|location| location.path.clone())
    };
    let is_first = |index: usize| {
        let (before, rest) = source.locations.split_at(index);
        let name = rest.first().map(|location| &location.name);
        !before.iter().any(|location| Some(&location.name) == name)
    };
    let firsts = source.locations.iter().enumerate();
    firsts
        .filter(|&(index, _)| is_first(index))
        .filter_map(|(_, location)| {
            Some(MappingRule {
                source_format: source.path_format(),
                source: last(source, &location.name)?,
                destination: last(destination, &location.name)?,
            })
        })
        .collect()
}
