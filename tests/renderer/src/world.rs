//! The scene ready to trace: surfaces whose textures have been read.
//!
//! All textures are read before the first frame, each file once, so that a missing one costs no rendering.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use crate::error::RenderError;
use crate::scene::{Light, Material, Paint, Scene, Sky};
use crate::shape::{Ray, Shape};
use crate::texture::Texture;
use crate::vector::Vector;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) surfaces: Vec<Surface>,
    pub(crate) lights: Vec<Light>,
    pub(crate) sky: Sky,
    pub(crate) ambient: Vector,
    pub(crate) bounces: u32,
}

#[derive(Debug)]
pub(crate) struct Surface {
    pub(crate) shape: Shape,
    pub(crate) colour: Colour,
    pub(crate) mirror: f64,
    pub(crate) shine: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum Colour {
    Plain(Vector),
    Textured(Rc<Texture>),
}

impl Surface {
    pub(crate) fn colour_at(&self, point: Vector) -> Vector {
        match &self.colour {
            Colour::Plain(colour) => *colour,
            Colour::Textured(texture) => texture.colour(self.shape.texture_place(point)),
        }
    }
}

impl World {
    /// Reads every texture that a surface uses.
    pub(crate) fn load(scene: &Scene) -> Result<Self, RenderError> {
        let mut textures = BTreeMap::new();
        let mut surfaces = Vec::new();
        if let Some(floor) = &scene.floor {
            let shape = Shape::Floor {
                height: floor.height,
                tile: floor.tile,
            };
            surfaces.push(surface(scene, shape, &floor.material, &mut textures)?);
        }
        for sphere in &scene.spheres {
            let shape = Shape::Sphere {
                centre: sphere.centre,
                radius: sphere.radius,
            };
            surfaces.push(surface(scene, shape, &sphere.material, &mut textures)?);
        }
        Ok(Self {
            surfaces,
            lights: scene.lights.clone(),
            sky: scene.sky,
            ambient: scene.ambient,
            bounces: scene.bounces,
        })
    }

    /// The surface that the ray meets first, and how far away it is.
    pub(crate) fn first_hit(&self, ray: &Ray) -> Option<(f64, &Surface)> {
        let mut first: Option<(f64, &Surface)> = None;
        for surface in &self.surfaces {
            if let Some(distance) = surface.shape.meets(ray)
                && first.is_none_or(|(nearest, _)| distance < nearest)
            {
                first = Some((distance, surface));
            }
        }
        first
    }

    /// Whether something stands between the ray's origin and a point this far along it.
    pub(crate) fn blocked(&self, ray: &Ray, length: f64) -> bool {
        self.surfaces
            .iter()
            .any(|surface| surface.shape.meets(ray).is_some_and(|met| met < length))
    }
}

fn surface(
    scene: &Scene,
    shape: Shape,
    material: &str,
    textures: &mut BTreeMap<PathBuf, Rc<Texture>>,
) -> Result<Surface, RenderError> {
    let Material {
        paint,
        mirror,
        shine,
    } = &scene.materials[material];
    let colour = match paint {
        Paint::Colour(colour) => Colour::Plain(*colour),
        Paint::Texture(path) => {
            if !textures.contains_key(path) {
                let texture = Texture::read(&scene.folder.join(path))?;
                textures.insert(path.clone(), Rc::new(texture));
            }
            Colour::Textured(Rc::clone(&textures[path]))
        }
    };
    Ok(Surface {
        shape,
        colour,
        mirror: *mirror,
        shine: *shine,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::with_causes;
    use crate::scene::tests::{SMALL, load_text};

    #[test]
    fn a_missing_texture_is_named_by_its_place_beside_the_scene() {
        let text = SMALL.replace(r#""colour": [1, 0, 0]"#, r#""texture": "textures/red.png""#);
        let scene = load_text(&text).unwrap();
        let said = with_causes(&World::load(&scene).unwrap_err());
        let path = scene.folder.join("textures/red.png");
        assert!(
            said.starts_with(&format!("cannot read {}: ", path.display())),
            "{said}"
        );
    }

    #[test]
    fn the_nearest_of_two_surfaces_is_hit() {
        let two = SMALL.replace(
            r#""spheres": ["#,
            r#""spheres": [{"centre": [0, 0, -9], "radius": 1, "material": "red"}, "#,
        );
        let world = World::load(&load_text(&two).unwrap()).unwrap();
        let ray = Ray {
            origin: Vector::new(0.0, 0.0, 5.0),
            direction: Vector::new(0.0, 0.0, -1.0),
        };
        assert_eq!(
            world.first_hit(&ray).unwrap().0.to_bits(),
            4.0_f64.to_bits()
        );
        assert!(world.blocked(&ray, 4.5));
        assert!(!world.blocked(&ray, 3.5));
    }
}
