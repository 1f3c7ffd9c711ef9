//! Three numbers: a point, a direction or a linear colour.

use std::ops::{Add, AddAssign, Mul, Neg, Sub};

/// Written as `[x, y, z]` in a scene; y is up.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(from = "[f64; 3]")]
pub(crate) struct Vector {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) z: f64,
}

impl Vector {
    pub(crate) const ZERO: Self = Self::new(0.0, 0.0, 0.0);

    pub(crate) const fn new(x: f64, y: f64, z: f64) -> Self {
        Self { x, y, z }
    }

    pub(crate) fn dot(self, other: Self) -> f64 {
        self.x * other.x + self.y * other.y + self.z * other.z
    }

    pub(crate) fn cross(self, other: Self) -> Self {
        Self::new(
            self.y * other.z - self.z * other.y,
            self.z * other.x - self.x * other.z,
            self.x * other.y - self.y * other.x,
        )
    }

    pub(crate) fn length(self) -> f64 {
        self.dot(self).sqrt()
    }

    /// The same direction with length 1. The zero vector has no direction and stays as it is.
    pub(crate) fn unit(self) -> Self {
        let length = self.length();
        if length > 0.0 {
            self * (1.0 / length)
        } else {
            self
        }
    }

    /// The direction that a ray along `self` leaves a mirror with this unit normal.
    pub(crate) fn reflected(self, normal: Self) -> Self {
        self - normal * (2.0 * self.dot(normal))
    }

    /// From `self` at 0 to `other` at 1.
    pub(crate) fn mix(self, other: Self, part: f64) -> Self {
        self * (1.0 - part) + other * part
    }

    pub(crate) fn is_finite(self) -> bool {
        self.x.is_finite() && self.y.is_finite() && self.z.is_finite()
    }
}

impl From<[f64; 3]> for Vector {
    fn from([x, y, z]: [f64; 3]) -> Self {
        Self::new(x, y, z)
    }
}

impl Add for Vector {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::new(self.x + other.x, self.y + other.y, self.z + other.z)
    }
}

impl AddAssign for Vector {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Vector {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::new(self.x - other.x, self.y - other.y, self.z - other.z)
    }
}

impl Neg for Vector {
    type Output = Self;
    fn neg(self) -> Self {
        Self::new(-self.x, -self.y, -self.z)
    }
}

impl Mul<f64> for Vector {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Self::new(self.x * factor, self.y * factor, self.z * factor)
    }
}

/// Component by component: light filtered by a colour.
impl Mul for Vector {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self::new(self.x * other.x, self.y * other.y, self.z * other.z)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_turns_only_the_part_along_its_normal() {
        let down_and_along = Vector::new(3.0, -2.0, 1.0);
        let up = Vector::new(0.0, 1.0, 0.0);
        assert_eq!(down_and_along.reflected(up), Vector::new(3.0, 2.0, 1.0));
    }

    #[test]
    fn the_zero_vector_has_no_unit() {
        assert_eq!(Vector::ZERO.unit(), Vector::ZERO);
    }

    #[test]
    fn the_cross_product_of_x_and_y_is_z() {
        let (x, y) = (Vector::new(1.0, 0.0, 0.0), Vector::new(0.0, 1.0, 0.0));
        assert_eq!(x.cross(y), Vector::new(0.0, 0.0, 1.0));
    }
}
