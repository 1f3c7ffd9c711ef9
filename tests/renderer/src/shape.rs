//! Where a ray meets a sphere or the floor.

use std::f64::consts::PI;

use crate::vector::Vector;

/// Nearer hits are the surface that the ray just left.
const NEAREST: f64 = 1e-6;

/// A half line; `direction` has length 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ray {
    pub(crate) origin: Vector,
    pub(crate) direction: Vector,
}

impl Ray {
    pub(crate) fn at(&self, distance: f64) -> Vector {
        self.origin + self.direction * distance
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Sphere { centre: Vector, radius: f64 },
    Floor { height: f64, tile: f64 },
}

impl Shape {
    /// The distance to the first point that the ray meets, if it meets any.
    pub(crate) fn meets(&self, ray: &Ray) -> Option<f64> {
        match *self {
            Self::Sphere { centre, radius } => {
                let from_centre = ray.origin - centre;
                let along = from_centre.dot(ray.direction);
                let under_root = along * along - from_centre.dot(from_centre) + radius * radius;
                if under_root < 0.0 {
                    return None;
                }
                let half = under_root.sqrt();
                [-along - half, -along + half]
                    .into_iter()
                    .find(|&distance| distance > NEAREST)
            }
            Self::Floor { height, .. } => {
                let distance = (height - ray.origin.y) / ray.direction.y;
                (distance > NEAREST && distance.is_finite()).then_some(distance)
            }
        }
    }

    /// The unit normal at a point of the surface, pointing out, or up.
    pub(crate) fn normal(&self, point: Vector) -> Vector {
        match *self {
            Self::Sphere { centre, .. } => (point - centre).unit(),
            Self::Floor { .. } => Vector::new(0.0, 1.0, 0.0),
        }
    }

    /// Where a texture is read for a point of the surface: both numbers from 0 to 1.
    pub(crate) fn texture_place(&self, point: Vector) -> (f64, f64) {
        match *self {
            Self::Sphere { .. } => {
                let normal = self.normal(point);
                let around = normal.z.atan2(normal.x) / (2.0 * PI) + 0.5;
                (around, normal.y.clamp(-1.0, 1.0).acos() / PI)
            }
            Self::Floor { tile, .. } => {
                let (x, z) = (point.x / tile, point.z / tile);
                (x - x.floor(), z - z.floor())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BALL: Shape = Shape::Sphere {
        centre: Vector::new(0.0, 0.0, -5.0),
        radius: 2.0,
    };
    const FLOOR: Shape = Shape::Floor {
        height: -1.0,
        tile: 4.0,
    };

    fn ray(origin: [f64; 3], direction: [f64; 3]) -> Ray {
        Ray {
            origin: origin.into(),
            direction: Vector::from(direction).unit(),
        }
    }

    #[test]
    fn a_ray_meets_the_near_side_of_a_sphere() {
        let met = BALL.meets(&ray([0.0, 0.0, 0.0], [0.0, 0.0, -1.0]));
        assert_eq!(met, Some(3.0));
    }

    #[test]
    fn a_ray_from_inside_a_sphere_meets_the_far_side() {
        let met = BALL.meets(&ray([0.0, 0.0, -5.0], [0.0, 0.0, -1.0]));
        assert_eq!(met, Some(2.0));
    }

    #[test]
    fn a_ray_beside_or_behind_a_sphere_misses_it() {
        assert_eq!(BALL.meets(&ray([3.0, 0.0, 0.0], [0.0, 0.0, -1.0])), None);
        assert_eq!(BALL.meets(&ray([0.0, 0.0, 0.0], [0.0, 0.0, 1.0])), None);
    }

    #[test]
    fn a_ray_that_starts_on_a_surface_does_not_meet_it_again() {
        let met = BALL.meets(&ray([0.0, 0.0, -3.0], [0.0, 0.0, 1.0]));
        assert_eq!(met, None);
    }

    #[test]
    fn the_floor_is_met_from_above_and_never_along_it() {
        assert_eq!(
            FLOOR.meets(&ray([0.0, 2.0, 0.0], [0.0, -1.0, 0.0])),
            Some(3.0)
        );
        assert_eq!(FLOOR.meets(&ray([0.0, 2.0, 0.0], [1.0, 0.0, 0.0])), None);
    }

    #[test]
    fn floor_tiles_repeat_on_both_sides_of_the_origin() {
        let place = |x: f64| FLOOR.texture_place(Vector::new(x, -1.0, 0.0)).0;
        assert_eq!(place(1.0).to_bits(), place(-3.0).to_bits());
    }

    #[test]
    fn the_top_of_a_sphere_is_the_top_of_its_texture() {
        assert!(BALL.texture_place(Vector::new(0.0, 2.0, -5.0)).1 < 1e-9);
    }
}
