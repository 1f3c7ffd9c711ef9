//! The scene file: what it may say, and the limits that keep a wrong one from eating the machine.
//!
//! After [`Scene::load`] every number is finite and in its range and every named material exists; nothing after it checks again.
//! Paths of textures are kept relative to the scene file's folder; [`crate::world`] reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::camera::Camera;
use crate::error::RenderError;
use crate::vector::Vector;

const LONGEST_SIDE: u32 = 8192;
const MOST_FRAMES: u32 = 9999;
const MOST_SAMPLES: u32 = 8;
const MOST_BOUNCES: u32 = 8;

/// A scene whose numbers have been checked. Colours are linear light, lengths have no unit, y is up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scene {
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    pub(crate) frames: u32,
    /// Rays per pixel along one side: 2 is four rays.
    pub(crate) samples: u32,
    /// How often a ray is reflected before what it would see is taken as black.
    pub(crate) bounces: u32,
    pub(crate) sky: Sky,
    /// Light that arrives everywhere.
    pub(crate) ambient: Vector,
    pub(crate) camera: Camera,
    pub(crate) lights: Vec<Light>,
    pub(crate) materials: BTreeMap<String, Material>,
    pub(crate) floor: Option<Floor>,
    pub(crate) spheres: Vec<Sphere>,
    /// Where the scene file is; textures are looked up from here.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
    #[serde(skip)]
    pub(crate) path: PathBuf,
}

/// What rays see that hit nothing.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sky {
    pub(crate) horizon: Vector,
    pub(crate) zenith: Vector,
}

/// A point that shines equally in all directions and does not fade with distance.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Light {
    pub(crate) position: Vector,
    pub(crate) colour: Vector,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Material {
    pub(crate) paint: Paint,
    /// The part of the light that is mirrored, 0 to 1.
    #[serde(default)]
    pub(crate) mirror: f64,
    /// Exponent of the highlight; 0 is none.
    #[serde(default)]
    pub(crate) shine: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Paint {
    Colour(Vector),
    /// A PNG file, relative to the scene file.
    Texture(PathBuf),
}

/// The plane y = `height`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Floor {
    pub(crate) height: f64,
    /// The length of one tile of the texture.
    pub(crate) tile: f64,
    pub(crate) material: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sphere {
    pub(crate) centre: Vector,
    pub(crate) radius: f64,
    pub(crate) material: String,
}

impl Scene {
    pub(crate) fn load(path: &Path) -> Result<Self, RenderError> {
        let text = std::fs::read(path).map_err(|source| RenderError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut scene: Self =
            serde_json::from_slice(&text).map_err(|source| RenderError::SceneSyntax {
                path: path.to_owned(),
                source,
            })?;
        path.clone_into(&mut scene.path);
        scene.folder = path.parent().map(Path::to_owned).unwrap_or_default();
        match scene.check() {
            Ok(()) => Ok(scene),
            Err(reason) => Err(scene.wrong(reason)),
        }
    }

    /// An error that names the scene file.
    pub(crate) fn wrong(&self, reason: String) -> RenderError {
        RenderError::SceneMeaning {
            path: self.path.clone(),
            reason,
        }
    }

    fn check(&self) -> Result<(), String> {
        within("width", self.width, 1, LONGEST_SIDE)?;
        within("height", self.height, 1, LONGEST_SIDE)?;
        within("frames", self.frames, 1, MOST_FRAMES)?;
        within("samples", self.samples, 1, MOST_SAMPLES)?;
        within("bounces", self.bounces, 0, MOST_BOUNCES)?;
        self.camera.check()?;
        for (name, material) in &self.materials {
            if !(0.0..=1.0).contains(&material.mirror) {
                return Err(format!("material {name}: mirror is not between 0 and 1"));
            }
        }
        for (index, sphere) in self.spheres.iter().enumerate() {
            if !(sphere.radius > 0.0 && sphere.centre.is_finite()) {
                return Err(format!("sphere {index}: the radius is not above 0"));
            }
            self.knows(&format!("sphere {index}"), &sphere.material)?;
        }
        if let Some(floor) = &self.floor {
            if !(floor.tile > 0.0 && floor.height.is_finite()) {
                return Err("floor: the length of a tile is not above 0".to_owned());
            }
            self.knows("floor", &floor.material)?;
        }
        Ok(())
    }

    fn knows(&self, user: &str, material: &str) -> Result<(), String> {
        if self.materials.contains_key(material) {
            Ok(())
        } else {
            Err(format!("{user}: there is no material {material}"))
        }
    }
}

fn within(what: &str, value: u32, least: u32, most: u32) -> Result<(), String> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("{what} is {value}, not {least} to {most}"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::with_causes;

    /// A red ball over nothing, seen from the front, in one pixel.
    pub(crate) const SMALL: &str = r#"{
        "width": 1, "height": 1, "frames": 1, "samples": 1, "bounces": 1,
        "sky": {"horizon": [0, 0, 0], "zenith": [0, 0, 0]},
        "ambient": [0.25, 0.25, 0.25],
        "camera": {"field_of_view": 40, "path": [{"eye": [0, 0, 5], "look_at": [0, 0, 0]}]},
        "lights": [],
        "materials": {"red": {"paint": {"colour": [1, 0, 0]}}},
        "floor": null,
        "spheres": [{"centre": [0, 0, 0], "radius": 1, "material": "red"}]
    }"#;

    pub(crate) fn load_text(text: &str) -> Result<Scene, RenderError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scene.json");
        std::fs::write(&path, text).unwrap();
        Scene::load(&path)
    }

    fn complaint(from: &str, to: &str) -> String {
        assert!(SMALL.contains(from), "{from}");
        with_causes(&load_text(&SMALL.replace(from, to)).unwrap_err())
    }

    #[test]
    fn an_unknown_material_is_named() {
        let said = complaint(r#""material": "red""#, r#""material": "gold""#);
        assert!(
            said.contains("scene.json") && said.contains("no material gold"),
            "{said}"
        );
    }

    #[test]
    fn a_width_that_would_eat_the_memory_is_refused() {
        let said = complaint(r#""width": 1"#, r#""width": 4000000000"#);
        assert!(said.contains("width is 4000000000"), "{said}");
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let said = complaint(r#""radius": 1"#, r#""radius": 1, "radios": 1"#);
        assert!(said.contains("radios"), "{said}");
    }

    #[test]
    fn a_scene_that_is_not_there_is_named() {
        let said = with_causes(&Scene::load(Path::new("no/such/scene.json")).unwrap_err());
        assert!(
            said.starts_with("cannot read no/such/scene.json: "),
            "{said}"
        );
    }
}
