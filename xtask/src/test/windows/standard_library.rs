//! Rust's standard library for Windows.
//!
//! A toolchain that has the target is taken as it is. Else the library is built, in half a minute, from the sources of just
//! this version: those of the toolchain, or of Debian's package `rust-src`, which the suite of backports has for more
//! versions than the one that is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::TARGET;
use crate::cargo::{cargo, program, shown, succeed, target};
use crate::test::exists;

/// Where Debian keeps what is newer than its stable release.
const SUITE: &str = "trixie-backports";

/// What signs Debian's packages.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A standard library that programs can be built with.
#[derive(Debug)]
pub(super) struct StandardLibrary {
    /// Where it is, unless the toolchain has it.
    sysroot: Option<PathBuf>,
}

impl StandardLibrary {
    /// Lets a command build with it, where every warning is an error.
    pub(super) fn build_with(&self, command: &mut Command) {
        let mut flags = "-Dwarnings".to_owned();
        if let Some(sysroot) = &self.sysroot {
            flags += &format!(" --sysroot={}", sysroot.display());
        }
        command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTFLAGS", flags);
    }
}

/// The library, built now if it is missing; else why it cannot be.
pub(super) fn ready() -> Result<Result<StandardLibrary, String>> {
    let own = asked("rustc", ["--print", "target-libdir", "--target", TARGET])?;
    if has_library(Path::new(&own)) {
        return Ok(Ok(StandardLibrary { sysroot: None }));
    }
    let release = release()?;
    let place = target().join("windows").join(&release);
    let sysroot = place.join("sysroot");
    let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    if !has_library(&libraries) {
        let sources = match sources(&release, &place)? {
            Ok(sources) => sources,
            Err(reason) => return Ok(Err(reason)),
        };
        build(&sources, &place, &libraries)?;
    }
    Ok(Ok(StandardLibrary {
        sysroot: Some(sysroot),
    }))
}

fn has_library(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().starts_with("libtest-"))
}

/// What a program prints.
fn asked<'a>(name: &str, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
    let mut command = program(name, arguments);
    let output = command.output();
    let output = output.with_context(|| format!("cannot start {}", shown(&command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {said}", shown(&command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of the compiler.
fn release() -> Result<String> {
    let said = asked("rustc", ["--version", "--verbose"])?;
    let mut lines = said.lines();
    let release = lines.find_map(|line| line.strip_prefix("release: "));
    Ok(release
        .context("rustc does not say which it is")?
        .to_owned())
}

/// The folder `library` of Rust's sources.
fn sources(release: &str, place: &Path) -> Result<Result<PathBuf, String>> {
    let toolchain = PathBuf::from(asked("rustc", ["--print", "sysroot"])?);
    let own = toolchain.join("lib/rustlib/src/rust/library");
    if own.exists() {
        return Ok(Ok(own));
    }
    let sources = place.join("sources");
    let library = sources.join(format!("usr/src/rustc-{release}/library"));
    if library.exists() {
        return Ok(Ok(library));
    }
    let unavailable = |why: &str| Ok(Err(format!("no sources of Rust's standard library: {why}")));
    if !exists("apt-get") || !exists("dpkg-deb") {
        return unavailable("the toolchain has none, and this is no Debian");
    }
    let Some(mirror) = mirror() else {
        return unavailable("apt's list names no mirror");
    };
    let apt = Apt::new(&place.join("apt"), &mirror)?;
    if succeed(&mut apt.command("apt-get", ["update", "--quiet=2"])).is_err() {
        return unavailable("Debian's list of packages cannot be had");
    }
    let mut madison = apt.command("apt-cache", ["madison", "rust-src"]);
    let listed = madison.output().context("cannot start apt-cache")?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let Some(version) = version_of(&listed, release) else {
        return unavailable(&format!("{SUITE} has no rust-src {release}"));
    };
    let mut download = apt.command("apt-get", ["--quiet=2", "download"]);
    download.arg(format!("rust-src={version}"));
    if succeed(download.current_dir(&apt.folder)).is_err() {
        return unavailable(&format!("rust-src {version} cannot be downloaded"));
    }
    let archives = fs::read_dir(&apt.folder)?
        .flatten()
        .map(|entry| entry.path());
    let is_archive = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "deb");
    let archive = archives.into_iter().find(is_archive);
    let archive = archive.context("apt-get has downloaded nothing")?;
    let unpacked = place.join("unpacking");
    let mut unpack = program("dpkg-deb", ["--extract"]);
    succeed(unpack.arg(&archive).arg(&unpacked))?;
    fs::rename(&unpacked, &sources)?;
    if !library.exists() {
        bail!("{} is not in rust-src {version}", library.display());
    }
    Ok(Ok(library))
}

/// The package's version that is of this release, in what `apt-cache madison` prints.
fn version_of(listed: &str, release: &str) -> Option<String> {
    let versions = listed.lines().filter_map(|line| line.split('|').nth(1));
    let mut versions = versions.map(str::trim);
    let start = format!("{release}+");
    versions
        .find(|version| version.starts_with(&start))
        .map(str::to_owned)
}

/// Where this machine's packages come from.
fn mirror() -> Option<String> {
    let files = [
        "/etc/apt/sources.list.d/debian.sources",
        "/etc/apt/sources.list",
    ];
    let texts = files
        .into_iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    texts.into_iter().find_map(|text| mirror_in(&text))
}

/// Of either form of apt's list: `URIs: ADDRESS`, or `deb [OPTIONS] ADDRESS SUITE`.
fn mirror_in(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        match words.next()? {
            "URIs:" | "deb" => {}
            _ => return None,
        }
        words.find(|word| word.contains("://")).map(str::to_owned)
    })
}

/// Debian's tools with a list of packages of their own: what is installed on this machine stays out of it.
#[derive(Debug)]
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path, mirror: &str) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(folder.join(part)).context("cannot make a folder for apt")?;
        }
        fs::write(folder.join("status"), "")?;
        let line = format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n");
        fs::write(folder.join("sources.list"), line)?;
        let folder = folder.to_owned();
        Ok(Self { folder })
    }

    fn command<'a>(&self, name: &str, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = program(name, []);
        for (option, part) in [
            ("Dir::State", "state"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::sourceparts", "parts"),
        ] {
            let part = self.folder.join(part);
            command
                .arg("-o")
                .arg(format!("{option}={}", part.display()));
        }
        // The folder may be one that only this user can read.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command.args(arguments);
        command
    }
}

/// Builds the library and puts it where a compiler looks for it.
fn build(sources: &Path, place: &Path, libraries: &Path) -> Result<()> {
    println!("building Rust's standard library for {TARGET}, once");
    let package = place.join("package");
    fs::create_dir_all(package.join("src")).context("cannot make a folder to build in")?;
    fs::write(package.join("src/lib.rs"), "")?;
    let manifest = "[package]\nname = \"nothing\"\nedition = \"2024\"\n\n[workspace]\n";
    fs::write(package.join("Cargo.toml"), manifest)?;
    let mut build = cargo([
        "build",
        "--quiet",
        "--release",
        "-Zbuild-std=std,panic_unwind,panic_abort,test,proc_macro",
        "--target",
        TARGET,
        "--manifest-path",
    ]);
    build
        .arg(package.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", package.join("target"))
        // The standard library is built with what only its own compiler may use, and this is that compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", sources);
    succeed(&mut build)?;
    let built = package.join("target").join(TARGET).join("release/deps");
    let unfinished = place.join("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&unfinished)?;
    for entry in fs::read_dir(&built).context("nothing was built")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".rlib") && !name.starts_with("libnothing-") {
            fs::copy(&path, unfinished.join(&*name))?;
        }
    }
    if libraries.exists() {
        fs::remove_dir_all(libraries)?;
    }
    let above = libraries.parent().context("the library has a place")?;
    fs::create_dir_all(above)?;
    // Complete or not at all.
    fs::rename(&unfinished, libraries)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_found_in_both_forms_of_the_list() {
        let new = "Types: deb\nURIs: http://mirror.example/debian\nSuites: stable\n";
        assert_eq!(mirror_in(new).unwrap(), "http://mirror.example/debian");
        let old = "# deb\ndeb [arch=amd64] https://mirror.example/debian stable main\n";
        assert_eq!(mirror_in(old).unwrap(), "https://mirror.example/debian");
        assert_eq!(mirror_in("Types: deb\n"), None);
    }

    #[test]
    fn the_package_is_of_just_this_release() {
        let listed =
            " rust-src | 1.96.0+dfsg1-1 | somewhere\n rust-src | 1.95.0+dfsg1-2 | somewhere\n";
        assert_eq!(version_of(listed, "1.95.0").unwrap(), "1.95.0+dfsg1-2");
        assert_eq!(version_of(listed, "1.95"), None);
    }
}
