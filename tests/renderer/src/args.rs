//! The command line, parsed by hand: the renderer builds in seconds and needs two operands and one option.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::RenderError;

/// Printed by `--help`, and after a mistake.
pub(crate) const USAGE: &str = "\
Usage: render SCENE.json OUT_DIR [--frames A-B]
       render --make-textures DIR

Renders the scene's frames to OUT_DIR/frame_0001.png and so on.
Textures are read from paths relative to the scene file.

  --frames A-B         only these frames, both included; A alone is one frame
  --make-textures DIR  writes the textures of the example scene
  -h, --help           this text
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Help,
    MakeTextures {
        directory: PathBuf,
    },
    Render {
        scene: PathBuf,
        output: PathBuf,
        /// `None` is every frame of the scene.
        frames: Option<FrameRange>,
    },
}

/// Frame numbers from 1, first and last included, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameRange {
    first: u32,
    last: u32,
}

impl FrameRange {
    /// The range as frame numbers, if the scene has them all.
    pub(crate) fn within(self, frames: u32) -> Result<RangeInclusive<u32>, RenderError> {
        if self.last > frames {
            return Err(RenderError::NoSuchFrame {
                frame: self.last,
                frames,
            });
        }
        Ok(self.first..=self.last)
    }
}

impl FromStr for FrameRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if 1 <= first && first <= last => Ok(Self { first, last }),
            _ => Err(format!(
                "--frames {text}: not a range of frame numbers from 1, such as 1-4"
            )),
        }
    }
}

/// The task, or a sentence that says what is wrong with the arguments.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Task, String> {
    let mut arguments = arguments.into_iter();
    let mut operands = Vec::new();
    let mut frames = None;
    let mut only_operands = false;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            _ if only_operands => operands.push(PathBuf::from(argument)),
            Some("--") => only_operands = true,
            Some("-h" | "--help") => return Ok(Task::Help),
            Some("--make-textures") => {
                let directory = arguments.next().ok_or("--make-textures needs a folder")?;
                return Ok(Task::MakeTextures {
                    directory: directory.into(),
                });
            }
            Some("--frames") => {
                let range = arguments.next().ok_or("--frames needs a range")?;
                frames = Some(range.to_string_lossy().parse()?);
            }
            Some(option) if option.starts_with("--frames=") => {
                frames = Some(option["--frames=".len()..].parse()?);
            }
            Some(option) if option.starts_with('-') => {
                return Err(format!("there is no option {option}"));
            }
            _ => operands.push(PathBuf::from(argument)),
        }
    }
    match <[PathBuf; 2]>::try_from(operands) {
        Ok([scene, output]) => Ok(Task::Render {
            scene,
            output,
            frames,
        }),
        Err(others) => Err(format!(
            "expected a scene file and an output folder, got {} of these",
            others.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Task, String> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn options_may_stand_before_and_after_the_operands() {
        let expected = Ok(Task::Render {
            scene: "a.json".into(),
            output: "out".into(),
            frames: Some(FrameRange { first: 2, last: 3 }),
        });
        assert_eq!(parsed(&["a.json", "out", "--frames", "2-3"]), expected);
        assert_eq!(parsed(&["--frames=2-3", "a.json", "out"]), expected);
    }

    #[test]
    fn a_single_number_is_a_range_of_one_frame() {
        assert_eq!("7".parse(), Ok(FrameRange { first: 7, last: 7 }));
    }

    #[test]
    fn frame_zero_and_backward_ranges_are_refused() {
        for wrong in ["0", "0-2", "3-2", "1-", "-2", "a-b", ""] {
            assert!(wrong.parse::<FrameRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn frames_beyond_the_scene_are_refused() {
        let range: FrameRange = "3-5".parse().unwrap();
        assert!(range.within(4).is_err());
        assert_eq!(range.within(5).unwrap(), 3..=5);
    }

    #[test]
    fn a_missing_output_folder_is_a_mistake() {
        assert!(parsed(&["a.json"]).unwrap_err().contains("got 1"));
    }
}
