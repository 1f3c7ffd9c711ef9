//! The textures of the example scene, computed rather than drawn, so that the repository says where they come from.
//!
//! Arithmetic only: the same textures come out on every machine. `floor.png` of the scene is a link to `checker.png` and is
//! not made here.

use std::path::Path;

use crate::error::RenderError;
use crate::frame::{self, Picture};

/// A texture's file name, its size and the colour of each of its pixels.
type Recipe = (&'static str, u32, u32, fn(f64, f64) -> [f64; 3]);

const RECIPES: [Recipe; 3] = [
    ("checker.png", 256, 256, checker),
    ("marble.png", 256, 256, marble),
    ("planet.png", 512, 256, planet),
];

/// Writes all textures into the folder.
pub(crate) fn write_textures(folder: &Path) -> Result<(), RenderError> {
    frame::create_directory(folder)?;
    for recipe in RECIPES {
        frame::write_png(&folder.join(recipe.0), &picture(recipe))?;
    }
    Ok(())
}

fn picture((_, width, height, colour): Recipe) -> Picture {
    let mut pixels = Vec::new();
    for row in 0..height {
        for column in 0..width {
            let across = f64::from(column) / f64::from(width);
            let down = f64::from(row) / f64::from(height);
            pixels.extend(colour(across, down).map(|part| (part.clamp(0.0, 1.0) * 255.0) as u8));
        }
    }
    Picture {
        width,
        height,
        pixels,
    }
}

/// Two by two stone tiles.
fn checker(across: f64, down: f64) -> [f64; 3] {
    let grain = noise(across, down, 16, 4) * 0.25;
    if (across < 0.5) == (down < 0.5) {
        [0.30 + grain, 0.32 + grain, 0.36 + grain]
    } else {
        [0.72 + grain, 0.68 + grain, 0.60 + grain]
    }
}

/// White stone with veins where the noise crosses its middle.
fn marble(across: f64, down: f64) -> [f64; 3] {
    let vein = (noise(across, down, 4, 5) - 0.5).abs() * 9.0;
    let tone = vein.min(1.0);
    [0.35 + 0.60 * tone, 0.38 + 0.56 * tone, 0.45 + 0.48 * tone]
}

/// Seas, land and two caps of ice, once around.
fn planet(across: f64, down: f64) -> [f64; 3] {
    let height = noise(across, down, 6, 5);
    let from_pole = down.min(1.0 - down);
    if from_pole + (height - 0.5) * 0.2 < 0.08 {
        [0.92, 0.95, 0.98]
    } else if height > 0.52 {
        let dry = ((height - 0.52) * 5.0).min(1.0);
        [0.20 + 0.45 * dry, 0.45 + 0.05 * dry, 0.15 + 0.15 * dry]
    } else {
        let deep = ((0.52 - height) * 3.0).min(1.0);
        [0.06, 0.35 - 0.22 * deep, 0.62 - 0.25 * deep]
    }
}

/// Smooth noise from 0 to 1 that repeats on all sides: `octaves` layers, the first with `cells` cells a side, each following one
/// twice as fine and half as strong.
fn noise(across: f64, down: f64, cells: u32, octaves: u32) -> f64 {
    let (mut sum, mut weight, mut total) = (0.0, 1.0, 0.0);
    for octave in 0..octaves {
        let cells = cells << octave;
        sum += weight * layer(across * f64::from(cells), down * f64::from(cells), cells);
        total += weight;
        weight *= 0.5;
    }
    sum / total
}

fn layer(x: f64, y: f64, cells: u32) -> f64 {
    let (column, row) = (x as u32, y as u32);
    let (across, down) = (eased(x - f64::from(column)), eased(y - f64::from(row)));
    let corner = |right, below| lattice((column + right) % cells, (row + below) % cells, cells);
    let top = corner(0, 0) * (1.0 - across) + corner(1, 0) * across;
    let bottom = corner(0, 1) * (1.0 - across) + corner(1, 1) * across;
    top * (1.0 - down) + bottom * down
}

/// From 0 to 1 with level ends.
fn eased(part: f64) -> f64 {
    part * part * (3.0 - 2.0 * part)
}

/// A number from 0 to 1 that looks random, fixed for each corner of the lattice.
fn lattice(column: u32, row: u32, layer: u32) -> f64 {
    let mut bits = column ^ row.rotate_left(11) ^ layer.rotate_left(22) ^ 0x9e37_79b9;
    for multiplier in [0x85eb_ca6b_u32, 0xc2b2_ae35] {
        bits = (bits ^ (bits >> 15)).wrapping_mul(multiplier);
    }
    f64::from(bits ^ (bits >> 16)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::texture::Texture;

    #[test]
    fn the_textures_in_the_repository_are_the_ones_made_here() {
        let carried = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scene/textures");
        let fresh = tempfile::tempdir().unwrap();
        write_textures(fresh.path()).unwrap();
        for (name, ..) in RECIPES {
            // Pixels, not bytes: another version of the encoder may pack them differently.
            let (carried, fresh) = (carried.join(name), fresh.path().join(name));
            assert!(
                Texture::read(&carried).unwrap() == Texture::read(&fresh).unwrap(),
                "{name}"
            );
        }
    }

    #[test]
    fn noise_repeats_at_the_edge() {
        let (inside, edge) = (noise(0.0, 0.3, 4, 3), noise(1.0 - 1e-12, 0.3, 4, 3));
        assert!((inside - edge).abs() < 1e-6);
    }
}
