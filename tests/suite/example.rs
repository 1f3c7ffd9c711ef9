//! The example scene as the repository carries it, rendered in a plain folder by the program itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::program;

fn scene() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scene")
}

#[test]
fn a_clone_keeps_the_link_and_the_executable_script_of_the_scene() {
    let link = fs::read_link(scene().join("textures/floor.png")).unwrap();
    assert_eq!(link, Path::new("checker.png"));
    let script = fs::metadata(scene().join("render.sh")).unwrap();
    assert_eq!(script.permissions().mode() & 0o111, 0o111);
}

#[test]
fn the_script_and_the_program_itself_render_the_same_frames() {
    let folder = tempfile::tempdir().unwrap();
    let (direct, by_script) = (folder.path().join("direct"), folder.path().join("script"));
    let mut commands = [
        Command::new(program("render")),
        Command::new(scene().join("render.sh")),
    ];
    commands[0].arg(scene().join("scene.json")).arg(&direct);
    commands[1]
        .arg(program("render"))
        .arg("scene.json")
        .arg(&by_script);
    for command in &mut commands {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    for number in 1..=4 {
        let name = format!("frame_000{number}.png");
        let (one, other) = (direct.join(&name), by_script.join(&name));
        assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{name}");
    }
    assert_eq!(fs::read_dir(direct).unwrap().count(), 4);
}

#[test]
fn a_range_renders_only_its_frames() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program("render"))
        .arg(scene().join("scene.json"))
        .arg(folder.path())
        .args(["--frames", "3"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["frame_0003.png"]);
}

#[test]
fn a_wrong_command_line_is_told_apart_from_a_failed_render() {
    let code = |arguments: &[&str]| {
        let mut command = Command::new(program("render"));
        command.args(arguments).output().unwrap().status.code()
    };
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&["only-a-scene.json"]), Some(2));
    assert_eq!(code(&["no/such.json", "no/such/folder"]), Some(1));
}
