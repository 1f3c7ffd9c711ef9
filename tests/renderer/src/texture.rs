//! Pictures read from PNG files, looked up between their pixels.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use png::{ColorType, Decoder, Limits, Transformations};

use crate::error::RenderError;
use crate::vector::Vector;

/// A texture that would need more memory than this is refused.
const MOST_BYTES: usize = 256 << 20;

/// A picture in linear light.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Texture {
    width: usize,
    height: usize,
    /// Row by row from the top left; `width * height` of them, at least one.
    pixels: Vec<[u8; 3]>,
}

impl Texture {
    /// Reads grey, palette and colour pictures of any depth; transparency is left out.
    pub(crate) fn read(path: &Path) -> Result<Self, RenderError> {
        let decode_error = |source| RenderError::Decode {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(|source| RenderError::Read {
            path: path.to_owned(),
            source,
        })?;
        let limits = Limits { bytes: MOST_BYTES };
        let mut decoder = Decoder::new_with_limits(BufReader::new(file), limits);
        decoder.set_transformations(Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().map_err(decode_error)?;
        let size = reader
            .output_buffer_size()
            .filter(|&size| size <= MOST_BYTES)
            .ok_or_else(|| decode_error(png::DecodingError::LimitsExceeded))?;
        let mut bytes = vec![0; size];
        let info = reader.next_frame(&mut bytes).map_err(decode_error)?;
        bytes.truncate(info.buffer_size());
        let pixels = match info.color_type {
            ColorType::Grayscale => bytes.iter().map(|&grey| [grey; 3]).collect(),
            ColorType::GrayscaleAlpha => bytes.chunks_exact(2).map(|p| [p[0]; 3]).collect(),
            ColorType::Rgb | ColorType::Indexed => {
                bytes.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect()
            }
            ColorType::Rgba => bytes.chunks_exact(4).map(|p| [p[0], p[1], p[2]]).collect(),
        };
        Ok(Self {
            width: info.width as usize,
            height: info.height as usize,
            pixels,
        })
    }

    /// The colour at a place from 0 to 1 each way, (0, 0) at the top left; the picture repeats on all sides.
    pub(crate) fn colour(&self, (across, down): (f64, f64)) -> Vector {
        let (column, column_part) = split(across, self.width);
        let (row, row_part) = split(down, self.height);
        let next_column = (column + 1) % self.width;
        let next_row = (row + 1) % self.height;
        let top = self
            .pixel(column, row)
            .mix(self.pixel(next_column, row), column_part);
        let bottom = self
            .pixel(column, next_row)
            .mix(self.pixel(next_column, next_row), column_part);
        top.mix(bottom, row_part)
    }

    fn pixel(&self, column: usize, row: usize) -> Vector {
        let [red, green, blue] = self.pixels[row * self.width + column];
        Vector::new(linear(red), linear(green), linear(blue))
    }
}

/// The pixel at or before a place, and how far the place is from its middle toward the next one.
fn split(place: f64, count: usize) -> (usize, f64) {
    let position = (place * count as f64 - 0.5).rem_euclid(count as f64);
    let pixel = (position as usize).min(count - 1);
    (pixel, (position - pixel as f64).clamp(0.0, 1.0))
}

/// Gamma 2, whose inverse is a square root: both are exact to the last bit on every machine.
fn linear(value: u8) -> f64 {
    let part = f64::from(value) / 255.0;
    part * part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::with_causes;

    fn black_and_white() -> Texture {
        Texture {
            width: 2,
            height: 1,
            pixels: vec![[0; 3], [255; 3]],
        }
    }

    #[test]
    fn the_middle_of_a_pixel_has_its_colour() {
        assert_eq!(
            black_and_white().colour((0.75, 0.5)),
            Vector::new(1.0, 1.0, 1.0)
        );
        assert_eq!(black_and_white().colour((0.25, 0.5)), Vector::ZERO);
    }

    #[test]
    fn between_two_pixels_the_light_is_mixed() {
        assert!((black_and_white().colour((0.5, 0.5)).x - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_right_edge_meets_the_left_one() {
        let texture = black_and_white();
        assert_eq!(texture.colour((0.0, 0.5)), texture.colour((1.0, 0.5)));
    }

    #[test]
    fn a_file_that_is_no_picture_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor.png");
        std::fs::write(&path, b"not a picture").unwrap();
        let said = with_causes(&Texture::read(&path).unwrap_err());
        assert!(
            said.contains("cannot decode texture") && said.contains("floor.png"),
            "{said}"
        );
    }
}
