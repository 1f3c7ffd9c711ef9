//! `render`: the small renderer of the example scene.
//!
//! It stands for the programs that run on a farm: it reads a scene description and the textures that the scene names, and writes
//! one PNG per frame, first under a temporary name and then renamed. It is a plain CPU ray tracer. The same scene always gives
//! the same bytes: there is one thread, no clock and no random number, so that frames rendered in a mount can be compared
//! with frames rendered in a plain folder.
//!
//! [`scene`] reads the description, [`world`] turns it into surfaces with loaded textures, [`trace`] computes light,
//! [`frame`] makes files of it. [`generate`] made the textures of the example scene.

mod args;
mod camera;
mod error;
mod frame;
mod generate;
mod scene;
mod shape;
mod texture;
mod trace;
mod vector;
mod world;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use args::{FrameRange, Task};
use error::RenderError;
use scene::Scene;
use world::World;

fn main() -> ExitCode {
    let task = match args::parse(std::env::args_os().skip(1)) {
        Ok(task) => task,
        Err(wrong) => {
            report(&format!("render: {wrong}\n\n{}", args::USAGE));
            return ExitCode::from(2);
        }
    };
    let done = match task {
        Task::Help => {
            // A reader that went away has read all it wanted.
            let _ = std::io::stdout().write_all(args::USAGE.as_bytes());
            Ok(())
        }
        Task::MakeTextures { directory } => generate::write_textures(&directory),
        Task::Render {
            scene,
            output,
            frames,
        } => render(&scene, &output, frames),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("render: {}\n", error::with_causes(&error)));
            ExitCode::FAILURE
        }
    }
}

fn render(scene: &Path, output: &Path, frames: Option<FrameRange>) -> Result<(), RenderError> {
    let scene = Scene::load(scene)?;
    let frames = frames.map_or(Ok(1..=scene.frames), |range| range.within(scene.frames))?;
    let world = World::load(&scene)?;
    frame::create_directory(output)?;
    for number in frames {
        let written = frame::write(output, number, &frame::render(&world, &scene, number))?;
        report(&format!("{}\n", written.display()));
    }
    Ok(())
}

/// Progress and errors go to standard error; if nobody listens, the frames still count.
fn report(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
