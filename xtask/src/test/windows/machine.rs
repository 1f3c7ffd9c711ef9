//! The compiler for C code and Wine, from Debian packages, and a prefix that Wine keeps its files in.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{program, succeed, target};
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
    succeed(prefix.run_with(program("wine", ["wineboot", "--init"]).stdout(std::io::stderr())))?;
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
    let version = [
        "reg",
        "add",
        r"HKCU\Software\Wine",
        "/v",
        "Version",
        "/d",
        "win10",
        "/f",
    ];
    succeed(prefix.run_with(program("wine", version).stdout(std::io::stderr())))?;
    std::fs::write(&ready, "")?;
    Ok(prefix)
}

/// The folder that Wine keeps its files in.
#[derive(Debug)]
pub(super) struct Prefix {
    folder: PathBuf,
}

impl Prefix {
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
