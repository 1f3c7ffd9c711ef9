//! One frame: its pixels, and its file.
//!
//! A file appears under its final name only when it is whole: it is written beside it as `frame_0001.png.part` and renamed.
//! A run that was stopped leaves at most such a part, which the next run overwrites.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use png::{BitDepth, ColorType, Encoder};

use crate::error::RenderError;
use crate::scene::Scene;
use crate::trace;
use crate::vector::Vector;
use crate::world::World;

/// Red, green, blue, 8 bits each, row by row from the top.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixels: Vec<u8>,
}

/// Traces frame `number`, counted from 1.
pub(crate) fn render(world: &World, scene: &Scene, number: u32) -> Picture {
    let view = scene.camera.view(number, scene.frames);
    let (width, height) = (f64::from(scene.width), f64::from(scene.height));
    let step = 1.0 / f64::from(scene.samples);
    let share = step * step;
    let mut pixels = Vec::with_capacity(3 * scene.width as usize * scene.height as usize);
    for row in 0..scene.height {
        for column in 0..scene.width {
            let mut light = Vector::ZERO;
            for down in 0..scene.samples {
                for across in 0..scene.samples {
                    let x = f64::from(column) + (f64::from(across) + 0.5) * step;
                    let y = f64::from(row) + (f64::from(down) + 0.5) * step;
                    let ray = view.ray((2.0 * x - width) / width, (height - 2.0 * y) / width);
                    light += clipped(trace::light_along(world, &ray)) * share;
                }
            }
            pixels.extend([light.x, light.y, light.z].map(stored));
        }
    }
    Picture {
        width: scene.width,
        height: scene.height,
        pixels,
    }
}

/// Before samples are mixed, so that one glaring sample does not hide the edge it is on.
fn clipped(light: Vector) -> Vector {
    Vector::new(light.x.min(1.0), light.y.min(1.0), light.z.min(1.0))
}

/// Gamma 2, as textures are read.
fn stored(light: f64) -> u8 {
    (light.clamp(0.0, 1.0).sqrt() * 255.0).round() as u8
}

/// Makes the folder and those above it.
pub(crate) fn create_directory(path: &Path) -> Result<(), RenderError> {
    fs::create_dir_all(path).map_err(|source| RenderError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Writes the picture as `frame_NNNN.png` and returns its path.
pub(crate) fn write(folder: &Path, number: u32, picture: &Picture) -> Result<PathBuf, RenderError> {
    let path = folder.join(format!("frame_{number:04}.png"));
    let part = folder.join(format!("frame_{number:04}.png.part"));
    write_png(&part, picture)?;
    fs::rename(&part, &path).map_err(|source| RenderError::Write {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

/// Writes the picture where it is said, replacing what is there.
pub(crate) fn write_png(path: &Path, picture: &Picture) -> Result<(), RenderError> {
    let write_error = |source| RenderError::Write {
        path: path.to_owned(),
        source,
    };
    let encode_error = |source| match source {
        png::EncodingError::IoError(source) => write_error(source),
        source => RenderError::Encode {
            path: path.to_owned(),
            source,
        },
    };
    let mut file = BufWriter::new(File::create(path).map_err(write_error)?);
    let mut encoder = Encoder::new(&mut file, picture.width, picture.height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(encode_error)?;
    writer
        .write_image_data(&picture.pixels)
        .map_err(encode_error)?;
    writer.finish().map_err(encode_error)?;
    file.flush().map_err(write_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::with_causes;
    use crate::scene::tests::{SMALL, load_text};

    /// The scene that the repository carries, small enough for a test.
    fn example() -> (World, Scene) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scene/scene.json");
        let mut scene = Scene::load(&path).unwrap();
        (scene.width, scene.height) = (64, 36);
        (World::load(&scene).unwrap(), scene)
    }

    #[test]
    fn a_red_ball_in_ambient_light_is_one_known_pixel() {
        let scene = load_text(SMALL).unwrap();
        let picture = render(&World::load(&scene).unwrap(), &scene, 1);
        // A quarter of the light is half of the stored value: gamma is 2.
        assert_eq!(picture.pixels, [128, 0, 0]);
    }

    #[test]
    fn a_frame_rendered_twice_is_the_same_file_to_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        for name in ["first", "second"] {
            let (world, scene) = example();
            let output = folder.path().join(name);
            create_directory(&output).unwrap();
            let path = write(&output, 2, &render(&world, &scene, 2)).unwrap();
            assert!(path.ends_with("frame_0002.png"));
            files.push(fs::read(path).unwrap());
        }
        assert_eq!(files[0], files[1]);
    }

    #[test]
    fn the_camera_path_makes_frames_differ() {
        let (world, scene) = example();
        assert_ne!(render(&world, &scene, 1), render(&world, &scene, 2));
    }

    #[test]
    fn only_the_finished_frame_is_left_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let picture = Picture {
            width: 1,
            height: 1,
            pixels: vec![1, 2, 3],
        };
        write(folder.path(), 12, &picture).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["frame_0012.png"]);
    }

    #[test]
    fn an_output_folder_that_is_not_there_is_named() {
        let picture = Picture {
            width: 1,
            height: 1,
            pixels: vec![0; 3],
        };
        let said = with_causes(&write(Path::new("no/such/folder"), 1, &picture).unwrap_err());
        assert!(
            said.starts_with("cannot write no/such/folder/frame_0001.png"),
            "{said}"
        );
    }
}
