//! The light that arrives along a ray: diffuse and highlight from each light that is not in shadow, ambient light, mirrors.

use crate::scene::Light;
use crate::shape::Ray;
use crate::vector::Vector;
use crate::world::{Surface, World};

/// Linear light from where the ray comes from; may be above 1.
pub(crate) fn light_along(world: &World, ray: &Ray) -> Vector {
    follow(world, ray, world.bounces)
}

fn follow(world: &World, ray: &Ray, bounces: u32) -> Vector {
    let Some((distance, surface)) = world.first_hit(ray) else {
        return sky(world, ray);
    };
    let point = ray.at(distance);
    let outward = surface.shape.normal(point);
    // Seen from inside, a surface faces the other way.
    let normal = if outward.dot(ray.direction) > 0.0 {
        -outward
    } else {
        outward
    };
    let colour = surface.colour_at(point);
    let mut own = world.ambient * colour;
    for light in &world.lights {
        own += from_light(world, light, surface, colour, point, normal, ray.direction);
    }
    if surface.mirror == 0.0 || bounces == 0 {
        return own * (1.0 - surface.mirror);
    }
    let mirrored = Ray {
        origin: point,
        direction: ray.direction.reflected(normal).unit(),
    };
    own.mix(follow(world, &mirrored, bounces - 1), surface.mirror)
}

fn from_light(
    world: &World,
    light: &Light,
    surface: &Surface,
    colour: Vector,
    point: Vector,
    normal: Vector,
    sight: Vector,
) -> Vector {
    let way = light.position - point;
    let to_light = Ray {
        origin: point,
        direction: way.unit(),
    };
    let facing = to_light.direction.dot(normal);
    if facing <= 0.0 || world.blocked(&to_light, way.length()) {
        return Vector::ZERO;
    }
    let diffuse = light.colour * colour * facing;
    if surface.shine == 0 {
        return diffuse;
    }
    let highlight = sight.reflected(normal).dot(to_light.direction).max(0.0);
    diffuse + light.colour * raised(highlight, surface.shine)
}

/// Multiplications only, so that every machine gets the same bits.
fn raised(base: f64, mut exponent: u32) -> f64 {
    let (mut result, mut square) = (1.0, base);
    while exponent > 0 {
        if exponent % 2 == 1 {
            result *= square;
        }
        square *= square;
        exponent /= 2;
    }
    result
}

fn sky(world: &World, ray: &Ray) -> Vector {
    let height = ray.direction.y.clamp(0.0, 1.0);
    world.sky.horizon.mix(world.sky.zenith, height.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::tests::{SMALL, load_text};

    const STRAIGHT: Ray = Ray {
        origin: Vector::new(0.0, 0.0, 5.0),
        direction: Vector::new(0.0, 0.0, -1.0),
    };

    fn seen(changes: &[(&str, &str)]) -> Vector {
        let mut text = SMALL.to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        light_along(&World::load(&load_text(&text).unwrap()).unwrap(), &STRAIGHT)
    }

    const LAMP: (&str, &str) = (
        r#""lights": []"#,
        r#""lights": [{"position": [0, 0, 9], "colour": [0.5, 0.5, 0.5]}]"#,
    );

    #[test]
    fn without_lights_a_surface_shows_ambient_light_in_its_colour() {
        assert_eq!(seen(&[]), Vector::new(0.25, 0.0, 0.0));
    }

    #[test]
    fn a_light_straight_ahead_adds_all_its_light() {
        assert_eq!(seen(&[LAMP]), Vector::new(0.75, 0.0, 0.0));
    }

    #[test]
    fn a_light_behind_another_ball_casts_a_shadow() {
        let between = (
            r#""spheres": ["#,
            r#""spheres": [{"centre": [0, 0, 7], "radius": 1, "material": "red"}, "#,
        );
        assert_eq!(seen(&[LAMP, between]), Vector::new(0.25, 0.0, 0.0));
    }

    #[test]
    fn a_perfect_mirror_shows_what_is_behind_the_eye() {
        let mirror = (
            r#"{"paint": {"colour": [1, 0, 0]}}"#,
            r#"{"paint": {"colour": [1, 0, 0]}, "mirror": 1}"#,
        );
        let sky = (r#""horizon": [0, 0, 0]"#, r#""horizon": [0, 0, 1]"#);
        assert_eq!(seen(&[mirror, sky]), Vector::new(0.0, 0.0, 1.0));
    }

    #[test]
    fn a_ray_that_meets_nothing_sees_the_horizon() {
        let away = (r#""centre": [0, 0, 0]"#, r#""centre": [50, 0, 0]"#);
        let sky = (r#""horizon": [0, 0, 0]"#, r#""horizon": [0, 1, 0]"#);
        assert_eq!(seen(&[away, sky]), Vector::new(0.0, 1.0, 0.0));
    }

    #[test]
    fn raising_to_a_power_multiplies_that_often() {
        assert_eq!(raised(2.0, 10).to_bits(), 1024.0_f64.to_bits());
        assert_eq!(raised(7.0, 0).to_bits(), 1.0_f64.to_bits());
    }
}
