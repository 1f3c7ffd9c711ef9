//! Where the eye is at each frame, and the ray through each point of the picture.

use serde::Deserialize;

use crate::shape::Ray;
use crate::vector::Vector;

/// A camera that moves in straight lines from key to key; the keys are spread evenly over the frames.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Camera {
    /// The angle between the left and the right edge of the picture, in degrees.
    field_of_view: f64,
    path: Vec<Key>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    eye: Vector,
    look_at: Vector,
}

/// The camera of one frame.
#[derive(Debug)]
pub(crate) struct View {
    eye: Vector,
    forward: Vector,
    /// From the middle of the picture to its right edge.
    right: Vector,
    /// As long as `right`: a picture that is not square covers more or less of it.
    up: Vector,
}

impl Camera {
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1.0..=170.0).contains(&self.field_of_view) {
            return Err("camera: field_of_view is not 1 to 170 degrees".to_owned());
        }
        if self.path.is_empty() {
            return Err("camera: the path has no key".to_owned());
        }
        for (index, key) in self.path.iter().enumerate() {
            let sight = key.look_at - key.eye;
            if !sight.is_finite() || sight.cross(UP).length() == 0.0 {
                return Err(format!("camera: key {index} looks nowhere or straight up"));
            }
        }
        Ok(())
    }

    /// The view of frame `number` of `frames`, counted from 1.
    pub(crate) fn view(&self, number: u32, frames: u32) -> View {
        let last_key = self.path.len() - 1;
        let position = if frames > 1 {
            f64::from(number - 1) / f64::from(frames - 1) * last_key as f64
        } else {
            0.0
        };
        let key = (position as usize).min(last_key);
        let (from, to) = (self.path[key], self.path[(key + 1).min(last_key)]);
        let part = position - key as f64;
        let eye = from.eye.mix(to.eye, part);
        let forward = (from.look_at.mix(to.look_at, part) - eye).unit();
        let half_width = (self.field_of_view.to_radians() / 2.0).tan();
        let right = forward.cross(UP).unit();
        View {
            eye,
            forward,
            up: right.cross(forward) * half_width,
            right: right * half_width,
        }
    }
}

const UP: Vector = Vector::new(0.0, 1.0, 0.0);

impl View {
    /// The ray through a point of the picture: `x` from -1 (left) to 1 (right), `y` in the same unit, up.
    pub(crate) fn ray(&self, x: f64, y: f64) -> Ray {
        Ray {
            origin: self.eye,
            direction: (self.forward + self.right * x + self.up * y).unit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moving() -> Camera {
        serde_json::from_str(
            r#"{"field_of_view": 90, "path": [
                {"eye": [0, 0, 4], "look_at": [0, 0, 0]},
                {"eye": [8, 0, 4], "look_at": [8, 0, 0]}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_first_and_last_frames_are_the_first_and_last_keys() {
        assert_eq!(moving().view(1, 5).eye, Vector::new(0.0, 0.0, 4.0));
        assert_eq!(moving().view(5, 5).eye, Vector::new(8.0, 0.0, 4.0));
    }

    #[test]
    fn the_middle_frame_is_half_way() {
        assert_eq!(moving().view(3, 5).eye, Vector::new(4.0, 0.0, 4.0));
    }

    #[test]
    fn the_middle_of_the_picture_is_straight_ahead() {
        let ray = moving().view(1, 1).ray(0.0, 0.0);
        assert_eq!(ray.direction, Vector::new(0.0, 0.0, -1.0));
    }

    #[test]
    fn ninety_degrees_put_the_right_edge_at_forty_five() {
        let ray = moving().view(1, 1).ray(1.0, 0.0);
        assert!((ray.direction.x + ray.direction.z).abs() < 1e-12);
    }

    #[test]
    fn a_key_that_looks_straight_up_is_refused() {
        let mut camera = moving();
        camera.path[1].look_at = Vector::new(8.0, 5.0, 4.0);
        assert!(camera.check().unwrap_err().contains("key 1"));
    }
}
