//! `cargo xtask soak --blender`: Blender renders a frame of a scene from mounts, and each has to be the one that it renders from the disk.
//!
//! `scene.py` makes the scene: a file that links objects of two libraries, with textures, and inputs that nothing uses. That the frame
//! needs each other input, and none of those, is shown on the disk first, by taking inputs away. Then it is rendered from
//!
//! ```text
//!     a mount with an empty cache     frame written to the mount; the report names what was not read; commit has the frame
//!     one with the cache as it is     what is read is recorded
//!     one with an empty cache         fetched ahead by that recording
//!     one without opens, read-only    frame written elsewhere
//! ```

mod picture;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::reads::{built, json};
use crate::bench::bucket::Bucket;
use crate::bench::program::{Mount, Program, What};
use crate::cargo::{root, shown, succeed};
use crate::test::packages::{Installed, install_missing};

/// What the frame is made of.
const USED: [&str; 6] = [
    "scene.blend",
    "libraries/props.blend",
    "libraries/tower.blend",
    "textures/crate.png",
    "textures/ground.png",
    "textures/tower.png",
];
/// What is in the manifest and not in the frame.
const UNUSED: [&str; 3] = [
    "libraries/unused.blend",
    "textures/spare.png",
    "textures/unused.png",
];
/// What Blender makes of `frames/frame_####`.
const FRAME: &str = "frames/frame_0001.png";
/// A frame takes seconds; whatever takes this long hangs.
const LONGEST: Duration = Duration::from_mins(10);

/// Blender, with a home and logs in a directory.
pub(super) struct Blender {
    dir: PathBuf,
}

impl Blender {
    pub(super) fn in_dir(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("home"))?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// The file for what a run of this name says.
    pub(super) fn log(&self, name: &str) -> Result<fs::File> {
        let path = self.dir.join(format!("blender-{name}.log"));
        fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))
    }

    /// A command line of Blender, without what users set.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command
            .args([&LONGEST.as_secs().to_string(), "blender", "--background"])
            .args(["--factory-startup", "-noaudio", "--threads", "2"])
            .env("HOME", self.dir.join("home"))
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command line of it, and keeps what it says in a log of this name. Blender ends with success after some errors, so callers look
    /// for what it should have made.
    pub(super) fn finish(&self, name: &str, command: &mut Command) -> Result<()> {
        let log = self.log(name)?;
        let status = command
            .stderr(log.try_clone()?)
            .stdout(log)
            .status()
            .with_context(|| format!("cannot start {}", shown(command)))?;
        ensure!(
            status.success(),
            "{} ended with {status}; see its log",
            shown(command)
        );
        Ok(())
    }

    /// Makes the scene.
    pub(super) fn make_scene(&self, project: &Path) -> Result<()> {
        let script = root().join("xtask/src/soak/blender/scene.py");
        let mut make = self.command();
        make.args(["--python-exit-code", "1", "--python"])
            .arg(script)
            .arg("--")
            .arg(project);
        self.finish("scene", &mut make)
    }
}

/// Where all of it happens.
struct Stage {
    dir: PathBuf,
    blender: Blender,
    program: Program,
    bucket: Bucket,
    /// The frame as it is rendered from the disk.
    frame: Vec<u8>,
}

/// Fails when a frame is another one than that from the disk, or when attachfs tells wrongly what it was made of.
pub(super) fn run() -> Result<ExitCode> {
    if let Installed::Missing(reason) = install_missing(&[("blender", "blender")])? {
        println!("skipped: there is no Blender: {reason}");
        return Ok(ExitCode::SUCCESS);
    }
    let dir = std::env::temp_dir().join(format!("attachfs-blender-{}", std::process::id()));
    match Stage::prepare(&dir).and_then(|mut stage| stage.soak()) {
        Ok(()) => {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot delete {}", dir.display()))?;
            println!("the soak passed");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            println!("BROKEN: {error:#}");
            println!("logs and frames are in {}", dir.display());
            Ok(ExitCode::FAILURE)
        }
    }
}

impl Stage {
    fn prepare(dir: &Path) -> Result<Self> {
        let (path, server) = built()?;
        Ok(Self {
            dir: dir.to_owned(),
            blender: Blender::in_dir(dir)?,
            program: Program::at(&path, dir.join("home"))?,
            bucket: Bucket::start_built(&server, 0)?,
            frame: Vec::new(),
        })
    }

    fn soak(&mut self) -> Result<()> {
        let from_disk = self.render_from_disk()?;
        let manifest = self.snapshot()?;
        let trace = self.dir.join("trace");
        let trace = trace.to_str().context("a path that is not text")?;
        let times = [
            ("the disk", from_disk),
            ("a mount, nothing in the cache", self.cold(&manifest)?),
            (
                "a mount, all in the cache, recorded",
                self.warm(&manifest, trace)?,
            ),
            (
                "a mount, nothing in the cache, fetched ahead by the recording",
                self.ahead(&manifest, trace)?,
            ),
            (
                "a read-only mount without opens, all in the cache",
                self.without_opens(&manifest)?,
            ),
        ];
        println!("\n| the frame from | s |\n|---|---|");
        for (from, time) in times {
            println!("| {from} | {:.2} |", time.as_secs_f64());
        }
        Ok(())
    }

    /// Makes the scene and its frame, and makes sure that the frame is the same again and needs what it should.
    fn render_from_disk(&mut self) -> Result<Duration> {
        let project = self.dir.join("project");
        self.blender.make_scene(&project)?;
        let inputs = files(&project)?;
        let expected = USED.iter().chain(&UNUSED).map(|&path| path.to_owned());
        ensure!(
            inputs == expected.collect(),
            "the scene has other files: {inputs:?}"
        );

        let (frame, time) = self.render("disk", &project, &self.dir.join("disk"))?;
        self.frame = frame;
        let (again, _) = self.render("disk-again", &project, &self.dir.join("disk-again"))?;
        self.compare("rendered from the disk again", &again)?;

        for (number, path) in USED.iter().enumerate().skip(1) {
            let (there, away) = (project.join(path), self.dir.join("away"));
            fs::rename(&there, &away)?;
            let name = format!("without-{number}");
            let rendered = self.render(&name, &project, &self.dir.join(&name));
            fs::rename(&away, &there)?;
            if let Ok((frame, _)) = rendered {
                let same = picture::difference(&self.frame, &frame)?.is_none();
                ensure!(
                    !same,
                    "the frame is the same without {path}: it shows nothing"
                );
            }
        }
        let away = self.dir.join("away");
        fs::create_dir(&away)?;
        for (number, path) in UNUSED.iter().enumerate() {
            fs::rename(project.join(path), away.join(number.to_string()))?;
        }
        let (frame, _) = self.render("used-only", &project, &self.dir.join("used-only"))?;
        for (number, path) in UNUSED.iter().enumerate() {
            fs::rename(away.join(number.to_string()), project.join(path))?;
        }
        self.compare("rendered from the disk without the unused inputs", &frame)?;
        Ok(time)
    }

    /// Puts the scene into the store and takes it from the disk, where it cannot be read by mistake.
    fn snapshot(&self) -> Result<PathBuf> {
        let (project, manifest) = (self.dir.join("project"), self.dir.join("base.manifest"));
        let mut snapshot = self.program.over_s3(&self.bucket);
        snapshot.arg("snapshot").arg(&project);
        snapshot.arg("-o").arg(&manifest);
        snapshot.args(["--store", &Bucket::address("blender")]);
        succeed(snapshot.stdout(Stdio::null()))?;
        fs::remove_dir_all(&project)?;
        Ok(manifest)
    }

    /// With an empty cache: what a worker does that never saw the job.
    fn cold(&self, manifest: &Path) -> Result<Duration> {
        let store = Bucket::address("blender");
        let session = self.dir.join("cold-session");
        let mount = self.mount(manifest, &store, &session, "cache", &[])?;
        let point = mount.point().to_owned();
        let (frame, time) = self.render("cold", &point, &point)?;
        self.compare("rendered from a mount with an empty cache", &frame)?;

        let report = json(self.program.command(["report", "--json"]).arg(&point))?;
        check_report(&report)?;
        let diff = self.dir.join("diff.manifest");
        let mut umount = self.program.over_s3(&self.bucket);
        umount.args(["umount", "--commit", "--output"]).arg(&diff);
        succeed(umount.arg(&point).stdout(Stdio::null()))?;
        mount.wait_until_ended()?;
        let mut ls = self.program.command(["ls", "-R", "--json"]);
        let listed = json(ls.arg(&diff))?;
        let written: Vec<_> = texts(&listed, "path")?
            .into_iter()
            .filter(|path| path != "frames")
            .collect();
        ensure!(
            written == [FRAME],
            "the diff has {written:?}, not just the frame"
        );
        let mut cat = self.program.over_s3(&self.bucket);
        cat.args(["cat", "--store", &store]).arg(&diff).arg(FRAME);
        let committed = cat.output()?;
        ensure!(
            committed.status.success() && committed.stdout == frame,
            "the frame that was committed has other bytes than the one in the mount"
        );
        Ok(time)
    }

    /// Again on the same host, with what the first left in the cache, and recorded.
    fn warm(&self, manifest: &Path, trace: &str) -> Result<Duration> {
        self.bucket.reset_counters()?;
        let options = ["--record-trace", trace];
        let nothing = |_: &Path| Ok(());
        let (frame, time) = self.render_from_mount("warm", manifest, "cache", &options, nothing)?;
        self.compare("rendered from a mount with a warm cache", &frame)?;
        let sent = self.bucket.sent()?;
        // A mount asks for one byte of an object, to see that the store answers.
        ensure!(
            sent < 1 << 10,
            "the store sent {sent} bytes again that are in the cache"
        );
        ensure!(
            fs::metadata(trace).is_ok_and(|file| file.len() > 0),
            "no trace was written to {trace}"
        );
        Ok(time)
    }

    /// On another host that has the recording.
    fn ahead(&self, manifest: &Path, trace: &str) -> Result<Duration> {
        let options = ["--prefetch-trace", trace];
        let stats = |point: &Path| {
            let stats = json(self.program.command(["stats", "--json"]).arg(point))?;
            ensure!(
                stats["prefetch"]["bytes"]
                    .as_u64()
                    .is_some_and(|bytes| bytes > 0),
                "nothing was fetched ahead by {trace}: {}",
                stats["prefetch"]
            );
            Ok(())
        };
        let cache = "other-cache";
        let (frame, time) = self.render_from_mount("ahead", manifest, cache, &options, stats)?;
        self.compare(
            "rendered from a mount that fetches ahead by a trace",
            &frame,
        )?;
        Ok(time)
    }

    /// Where the kernel opens files by itself, nothing can be written to the mount.
    fn without_opens(&self, manifest: &Path) -> Result<Duration> {
        let store = Bucket::address("blender");
        let session = self.dir.join("no-open-session");
        let options = ["--read-only", "--no-open"];
        let mount = self.mount(manifest, &store, &session, "cache", &options)?;
        let point = mount.point().to_owned();
        let (frame, time) = self.render("no-open", &point, &self.dir.join("no-open"))?;
        self.compare("rendered from a read-only mount without opens", &frame)?;
        mount.unmount()?;
        Ok(time)
    }

    /// Renders into a mount and drops what was written.
    fn render_from_mount(
        &self,
        name: &str,
        manifest: &Path,
        cache: &str,
        options: &[&str],
        check: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<(Vec<u8>, Duration)> {
        let store = Bucket::address("blender");
        let session = self.dir.join(format!("{name}-session"));
        let mount = self.mount(manifest, &store, &session, cache, options)?;
        let point = mount.point().to_owned();
        let rendered = self.render(name, &point, &point)?;
        check(&point)?;
        mount.unmount()?;
        let mut discard = self.program.command(["discard", "--yes"]);
        succeed(discard.arg(&session).stdout(Stdio::null()))?;
        Ok(rendered)
    }

    fn mount(
        &self,
        manifest: &Path,
        store: &str,
        session: &Path,
        cache: &str,
        options: &[&str],
    ) -> Result<Mount<'_>> {
        let cache = self.dir.join(cache);
        let log = session.with_extension("log");
        let (cache, log) = (cache.to_str(), log.to_str());
        let (cache, log) = cache.zip(log).context("a path that is not text")?;
        let mut all = vec!["--cache-dir", cache, "--log", log];
        all.extend(options);
        let what = What {
            manifest,
            store: store.as_ref(),
            bucket: Some(&self.bucket),
            options: &all,
            session,
        };
        let mut mount = self.program.start_mount(&what, self.dir.join("mount"))?;
        mount.wait_until_ready()?;
        Ok(mount)
    }

    /// Renders the scene in `project` to a frame below `to`. Gives the frame's file and how long Blender took.
    fn render(&self, name: &str, project: &Path, to: &Path) -> Result<(Vec<u8>, Duration)> {
        println!("  {name}");
        let mut render = self.blender.command();
        render.arg(project.join("scene.blend"));
        render
            .arg("--render-output")
            .arg(to.join("frames/frame_####"));
        render.args(["--render-frame", "1"]);
        let start = Instant::now();
        self.blender.finish(name, &mut render)?;
        let time = start.elapsed();
        let path = to.join(FRAME);
        let frame = fs::read(&path);
        let frame = frame.with_context(|| format!("Blender made no {}", path.display()))?;
        Ok((frame, time))
    }

    /// Fails if this frame has other pixels than the one from the disk; then it is kept.
    fn compare(&self, what: &str, frame: &[u8]) -> Result<()> {
        let Some(difference) = picture::difference(&self.frame, frame)? else {
            return Ok(());
        };
        let path = self.dir.join("other.png");
        fs::write(&path, frame)?;
        bail!(
            "the frame {what} is another one than that from the disk: {difference}; it is {}, that from the disk is {}",
            path.display(),
            self.dir.join("disk").join(FRAME).display()
        )
    }
}

/// Never read is what nothing uses, all of it and nothing else; and no input was looked for in vain.
fn check_report(report: &Value) -> Result<()> {
    let sorted = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
    let unread: BTreeSet<String> = texts(&report["never_read"], "path")?.into_iter().collect();
    ensure!(
        unread == sorted(&UNUSED),
        "the report says that these were never read: {unread:?}; it should be {UNUSED:?}"
    );
    let read: BTreeSet<String> = texts(&report["read"], "path")?.into_iter().collect();
    ensure!(
        read == sorted(&USED),
        "the report says that these were read: {read:?}; it should be {USED:?}"
    );
    // Blender looks for the frame and its directory before it makes them.
    let missing = texts(&report["missing"]["listed"], "path")?;
    let inputs: Vec<_> = missing
        .iter()
        .filter(|path| !path.starts_with("frames"))
        .collect();
    ensure!(
        inputs.is_empty(),
        "the report says that these were missing: {inputs:?}"
    );
    let sums = &report["inputs"]["never_read"]["files"];
    ensure!(
        sums.as_u64() == Some(UNUSED.len() as u64) && report["reads_failed"] == 0,
        "the report's sums do not fit: never read {sums}, failed {}",
        report["reads_failed"]
    );
    Ok(())
}

/// This field of each entry of a list.
fn texts(list: &Value, field: &str) -> Result<Vec<String>> {
    let list = list.as_array().context("no list")?;
    let texts = list.iter().map(|entry| {
        let text = entry[field].as_str();
        Ok(text
            .with_context(|| format!("no {field} in {entry}"))?
            .to_owned())
    });
    texts.collect()
}

/// All files below a directory.
fn files(dir: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                let path = path.strip_prefix(dir)?;
                found.insert(path.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}
