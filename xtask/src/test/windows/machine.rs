//! The compiler for C code and Wine, from Debian packages, and a prefix that Wine keeps its files in.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, ensure};

use crate::cargo::{program, shown, succeed, target};
use crate::test::packages::{self, Installed};

/// With threads as POSIX has them.
const C_COMPILER: &str = "x86_64-w64-mingw32-gcc-posix";
const CPP_COMPILER: &str = "x86_64-w64-mingw32-g++-posix";

/// Programs, and the packages that have them.
const NEEDED: [(&str, &str); 3] = [
    (C_COMPILER, "gcc-mingw-w64-x86-64-posix"),
    (CPP_COMPILER, "g++-mingw-w64-x86-64-posix"),
    ("wine", "wine wine64"),
];

/// Installs the programs that are missing. Says why, if they cannot be had.
pub(super) fn install() -> Result<Option<String>> {
    Ok(match packages::install_missing(&NEEDED)? {
        Installed::All(_) => None,
        Installed::Missing(reason) => Some(reason),
    })
}

/// Lets a command compile and link for Windows.
pub(super) fn build_with(command: &mut Command) {
    command
        .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER", C_COMPILER)
        .env("CC_x86_64_pc_windows_gnu", C_COMPILER)
        .env("CXX_x86_64_pc_windows_gnu", CPP_COMPILER);
}

/// What Wine keeps, made now if it is not there.
pub(super) fn prefix() -> Result<Prefix> {
    let prefix = Prefix {
        folder: target().join("windows/wine"),
    };
    // Written last.
    let ready = prefix.folder.join("ready");
    if ready.exists() {
        return Ok(prefix);
    }
    std::fs::create_dir_all(&prefix.folder).context("cannot make a folder for Wine")?;
    prefix.wine(&["wineboot", "--init"])?;
    let library = prefix
        .folder
        .join("drive_c/windows/system32/bcryptprimitives.dll");
    if !library.exists() {
        let source = prefix.folder.join("process_prng.c");
        std::fs::write(&source, include_str!("process_prng.c"))?;
        let mut compile = program(C_COMPILER, ["-shared", "-O1", "-o"]);
        succeed(compile.arg(&library).arg(&source).arg("-ladvapi32"))?;
    }
    // Windows 7 is what it says it is otherwise.
    let key = r"HKCU\Software\Wine";
    prefix.wine(&["reg", "add", key, "/v", "Version", "/d", "win10", "/f"])?;
    std::fs::write(&ready, "")?;
    Ok(prefix)
}

/// What a program under Wine ends with, from `run`, which is asked again if Wine's server killed the program.
///
/// The server kills each process that has exited, as Windows counts it, and is still there a second later: a slow disk is enough. The code
/// that the program ended with is lost then. A program that is killed each time is the caller's to complain of.
pub(super) fn unless_killed<T>(mut run: impl FnMut() -> Result<(ExitStatus, T)>) -> Result<T> {
    const SIGKILL: i32 = 9;
    for _ in 0..4 {
        let (status, result) = run()?;
        if status.signal() != Some(SIGKILL) {
            return Ok(result);
        }
        println!("Wine killed a program at its end, which is run again");
    }
    Ok(run()?.1)
}

/// The folder that Wine keeps its files in.
#[derive(Debug)]
pub(super) struct Prefix {
    folder: PathBuf,
}

impl Prefix {
    /// Runs a program of Wine's own, which has to succeed.
    fn wine(&self, arguments: &[&str]) -> Result<()> {
        let mut command = program("wine", arguments.iter().copied());
        let command = self.run_with(command.stdout(std::io::stderr()));
        let status = unless_killed(|| {
            let status = command.status().context("cannot start wine")?;
            Ok((status, status))
        })?;
        ensure!(status.success(), "{} ended with {status}", shown(command));
        Ok(())
    }

    /// Lets a command, or the tests that it starts, run under Wine.
    pub(super) fn run_with<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", "wine")
            .env("WINEPREFIX", &self.folder)
            // Neither a browser nor .NET is wanted, nor anybody asked for them.
            .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
            .env("WINEDEBUG", "-all")
            .env_remove("DISPLAY")
    }
}
