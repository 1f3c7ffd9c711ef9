//! `cargo xtask soak --hosts`: two hosts share a bucket. One renders a job with Blender, task by task; the other sees the frames.
//!
//! Each host is a network namespace with a cache, a state directory and a home of its own; the S3 server is reached over the network.
//!
//! ```text
//!     render host    for each task: mount the inputs, render, unmount and commit, publish as the task's output
//!     artist's host  browses the job all the time: each frame has to appear within --refresh of its publishing
//!                    a file manager's pattern (list, stat, first 64 KiB of each frame) reads less than 2 % of the bytes
//!                    what is read whole, printed and downloaded has the bytes that Blender wrote
//! ```

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::blender::Blender;
use super::reads::{built, json};
use crate::bench::bucket::Bucket;
use crate::bench::program::Program;
use crate::cargo::{program, succeed};
use crate::test::packages::{Installed, install_missing};

/// How soon the artist wants to see frames.
const REFRESH: Duration = Duration::from_secs(5);
/// So much longer it may take on a busy machine: a listing, a manifest, and the look itself.
const SLACK: Duration = Duration::from_secs(2);
/// One task each.
const FRAMES: u32 = 4;
/// What a file manager reads of each file for its thumbnail.
const BEGINNING: usize = 64 << 10;
/// The most of all bytes that may be read for that.
const MOST: f64 = 0.02;
/// The root of the job's files on the machine that submitted it.
const ROOT: &str = "/proj/film";

const FARM: &str = "farm-00000000000000000000000000000001";
const QUEUE: &str = "queue-00000000000000000000000000000002";
const JOB: &str = "job-00000000000000000000000000000003";
const STEP: &str = "step-00000000000000000000000000000004";

/// Of the network for tests of devices (RFC 2544): no machine here has an address in it.
const NETWORK: &str = "198.18";

/// A host: a network namespace, and the directories of its user.
struct Host {
    namespace: String,
    program: Program,
    dir: PathBuf,
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its end of the cable goes with it.
        let deleted = program("ip", ["netns", "delete", &self.namespace]).status();
        if !deleted.is_ok_and(|status| status.success()) {
            println!("the network namespace {} stays behind", self.namespace);
        }
    }
}

impl Host {
    /// Makes a host with a cable to this machine, which has the first address of it.
    fn start(number: u8, program_path: &Path, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let namespace = format!("attachfs-{}-{number}", std::process::id());
        ip(&["netns", "add", &namespace])?;
        let host = Self {
            program: Program::at(program_path, dir.clone())?,
            namespace,
            dir,
        };
        let name = &*host.namespace;
        let cable = format!("afs{}-{number}", std::process::id() % 100_000);
        ip(&[
            "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", name,
        ])?;
        let ours = format!("{}/24", address(number, 1));
        ip(&["address", "add", &ours, "dev", &cable])?;
        ip(&["link", "set", &cable, "up"])?;
        let theirs = format!("{}/24", address(number, 2));
        ip(&["-n", name, "address", "add", &theirs, "dev", "eth0"])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&[
            "-n",
            name,
            "route",
            "add",
            "default",
            "via",
            &address(number, 1),
        ])?;
        Ok(host)
    }

    /// The same command on this host.
    fn on(&self, command: &Command) -> Command {
        let mut here = Command::new("nsenter");
        here.arg(format!("--net=/run/netns/{}", self.namespace));
        here.arg("--").arg(command.get_program());
        here.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => here.env(name, value),
                None => here.env_remove(name),
            };
        }
        here.stdin(Stdio::null());
        here
    }

    /// A command line of attachfs on this host that reaches the bucket.
    fn attachfs<'a>(
        &self,
        bucket: &Bucket,
        words: impl IntoIterator<Item = &'a str>,
        paths: &[&Path],
    ) -> Command {
        let mut command = self.program.over_s3(bucket);
        command.args(words).args(paths);
        self.on(&command)
    }
}

fn address(host: u8, end: u8) -> String {
    format!("{NETWORK}.{host}.{end}")
}

fn ip(words: &[&str]) -> Result<()> {
    succeed(&mut program("ip", words.iter().copied()))
}

/// Fails when a frame comes late, has other bytes, or when browsing reads too much.
pub(super) fn run(programs: Option<&Path>) -> Result<ExitCode> {
    let needed = [
        ("blender", "blender"),
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
    ];
    if let Installed::Missing(reason) = install_missing(&needed)? {
        println!("skipped: a program is missing: {reason}");
        return Ok(ExitCode::SUCCESS);
    }
    let dir = std::env::temp_dir().join(format!("attachfs-hosts-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    match Farm::start(&dir, programs).and_then(|farm| farm.soak()) {
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

/// Two hosts and a bucket.
struct Farm {
    render: Host,
    artist: Host,
    bucket: Bucket,
    blender: Blender,
    store: String,
    job: String,
}

impl Farm {
    fn start(dir: &Path, programs: Option<&Path>) -> Result<Self> {
        let (path, server) = match programs {
            Some(dir) => (dir.join("attachfs"), dir.join("attachfs-fast-s3")),
            None => built()?,
        };
        let render = Host::start(1, &path, dir.join("render"))?;
        let artist = Host::start(2, &path, dir.join("artist"))?;
        Ok(Self {
            bucket: Bucket::start_at(&server, &address(1, 1), 0)?,
            blender: Blender::in_dir(dir)?,
            render,
            artist,
            store: Bucket::address("farm"),
            job: format!("deadline://{FARM}/{QUEUE}/{JOB}"),
        })
    }

    fn soak(&self) -> Result<()> {
        let inputs = self.submit()?;
        let shown = Browsing::start(self, "browsing")?;
        let mut late = Vec::new();
        for task in 0..FRAMES {
            println!("  task {task}");
            self.render(&inputs, task)?;
            late.push(shown.wait_for(task)?);
        }
        shown.end()?;
        for (task, time) in late.iter().enumerate() {
            println!(
                "  frame of task {task} seen after {:.2} s",
                time.as_secs_f64()
            );
        }
        self.look_as_a_file_manager()?;
        self.fetch()
    }

    /// Makes the scene and puts it into the store; gives its manifest.
    fn submit(&self) -> Result<PathBuf> {
        let project = self.artist.dir.join("project");
        self.blender.make_scene(&project)?;
        let manifest = self.render.dir.join("inputs.manifest");
        let words = ["snapshot", "--store", &self.store, "-o"];
        let mut snapshot = self
            .artist
            .attachfs(&self.bucket, words, &[&manifest, &project]);
        succeed(snapshot.stdout(Stdio::null()))?;
        fs::remove_dir_all(&project)?;
        Ok(manifest)
    }

    /// What the worker of a task does. The frame is kept beside, to compare it.
    fn render(&self, inputs: &Path, task: u32) -> Result<()> {
        let host = &self.render;
        let point = host.dir.join("mnt");
        fs::create_dir_all(&point)?;
        let words = ["mount", "--store", &self.store, "--output-dir", "frames"];
        let mut mount = host.attachfs(&self.bucket, words, &[inputs, &point]);
        succeed(mount.stdout(Stdio::null()))?;
        let frame = point.join("frames").join(name_of(task));
        let rendered = self.render_into(&point, task, host);
        let copied = rendered.and_then(|()| {
            let copied = fs::copy(&frame, host.dir.join(name_of(task)));
            copied.with_context(|| format!("Blender made no {}", frame.display()))
        });
        let manifest = host.dir.join(format!("{task}.manifest"));
        let _ = fs::remove_file(&manifest);
        let words = ["umount", "--commit", "--format", "2023-03-03", "--output"];
        let mut umount = host.attachfs(&self.bucket, words, &[&manifest, &point]);
        succeed(umount.stdout(Stdio::null()))?;
        copied?;

        let task_id = format!("task-00000000000000000000000000000005-{task}");
        let action = format!("sessionaction-00000000000000000000000000000006-{task}");
        let time = format!("2025-01-31T12:00:{task:02}.000000Z");
        let of = [
            "--farm", FARM, "--queue", QUEUE, "--job", JOB, "--step", STEP,
        ];
        let mut words = vec!["manifest", "upload", "--store", &self.store];
        words.extend(of);
        words.extend(["--task", &task_id, "--session-action", &action]);
        words.extend(["--time", &time, "--asset-root", ROOT]);
        let mut publish = host.attachfs(&self.bucket, words, &[&manifest]);
        succeed(publish.stdout(Stdio::null()))
    }

    fn render_into(&self, point: &Path, task: u32, host: &Host) -> Result<()> {
        // One sample, many pixels, no compression: 33 MB.
        let settings = format!(
            "import bpy; scene = bpy.context.scene; scene.cycles.samples = 1; scene.cycles.seed = {task}; \
             render = scene.render; render.resolution_x, render.resolution_y = 1920, 1080; \
             made = render.image_settings; made.file_format = 'OPEN_EXR'; made.color_mode = 'RGBA'; \
             made.color_depth = '32'; made.exr_codec = 'NONE'"
        );
        let mut render = self.blender.command();
        render.arg(point.join("scene.blend"));
        render.args(["--python-expr", &settings, "--render-output"]);
        render.arg(point.join("frames/frame_####"));
        render.args(["--render-frame", &(task + 1).to_string()]);
        self.blender
            .finish(&format!("task-{task}"), &mut host.on(&render))
    }

    /// Lists, stats and reads the beginning of each frame, on a host whose cache is empty.
    fn look_as_a_file_manager(&self) -> Result<()> {
        let shown = Browsing::start(self, "thumbnails")?;
        shown.wait_for(FRAMES - 1)?;
        self.bucket.reset_counters()?;
        let mut all = 0;
        for task in 0..FRAMES {
            let path = shown.find(task)?.context("a frame is gone")?;
            all += fs::metadata(&path)?.len();
            let mut beginning = vec![0; BEGINNING];
            File::open(&path)?.read_exact(&mut beginning)?;
            let wanted = fs::read(self.render.dir.join(name_of(task)))?;
            ensure!(
                wanted.starts_with(&beginning),
                "{} begins with other bytes than Blender wrote",
                path.display()
            );
        }
        let sent = self.bucket.sent()?;
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let share = sent as f64 / all as f64;
        println!(
            "  a file manager reads {:.2} % of {all} bytes",
            share * 100.0
        );
        ensure!(
            all > u64::from(FRAMES) * 20_000_000,
            "the frames have only {all} bytes"
        );
        ensure!(share < MOST, "the store sent {sent} of {all} bytes");
        for task in 0..FRAMES {
            let path = shown.find(task)?.context("a frame is gone")?;
            self.compare("browsed", task, &fs::read(path)?)?;
        }
        shown.end()
    }

    /// What is listed, printed and downloaded without a mount.
    fn fetch(&self) -> Result<()> {
        let host = &self.artist;
        let mut jobs = host.attachfs(
            &self.bucket,
            ["jobs", "--json", "--store", &self.store],
            &[],
        );
        let jobs = json(&mut jobs)?.to_string();
        ensure!(jobs.contains(JOB), "`jobs` does not list {JOB}: {jobs}");
        let to = host.dir.join("downloaded");
        let words = ["download", "--store", &self.store, "--yes", &self.job];
        let mut download = host.attachfs(&self.bucket, words, &[&to]);
        succeed(download.stdout(Stdio::null()))?;
        for task in 0..FRAMES {
            let frame = to.join("frames").join(name_of(task));
            let bytes = fs::read(&frame).with_context(|| format!("no {}", frame.display()))?;
            self.compare("downloaded", task, &bytes)?;
        }
        Ok(())
    }

    fn compare(&self, how: &str, task: u32, bytes: &[u8]) -> Result<()> {
        let wanted = fs::read(self.render.dir.join(name_of(task)))?;
        ensure!(
            bytes == wanted,
            "the frame of task {task} that was {how} has other bytes than the one that Blender wrote"
        );
        Ok(())
    }
}

/// What Blender makes of `frame_####`.
fn name_of(task: u32) -> String {
    format!("frame_{:04}.exr", task + 1)
}

/// A mount on the artist's host that shows the job.
struct Browsing<'a> {
    farm: &'a Farm,
    point: PathBuf,
}

impl<'a> Browsing<'a> {
    fn start(farm: &'a Farm, name: &str) -> Result<Self> {
        let host = &farm.artist;
        let point = host.dir.join(name);
        let cache = host.dir.join(format!("{name}-cache"));
        fs::create_dir_all(&point)?;
        let refresh = REFRESH.as_secs().to_string();
        let cache = cache.to_str().context("a path that is not text")?;
        let words = ["browse", "--store", &farm.store, "--refresh", &refresh];
        let words = words.into_iter().chain(["--cache-dir", cache, &farm.job]);
        let mut browse = host.attachfs(&farm.bucket, words, &[&point]);
        succeed(browse.stdout(Stdio::null()))?;
        Ok(Self { farm, point })
    }

    /// The frame of a task, if it is shown: listed from the top, as a person opens folders.
    fn find(&self, task: u32) -> Result<Option<PathBuf>> {
        for root in entries(&self.point.join("latest"))? {
            let frame = root.join("frames").join(name_of(task));
            if root.join("frames").is_dir() && entries(&root.join("frames"))?.contains(&frame) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Waits until the frame of a task that was just published is shown, and has all its bytes.
    fn wait_for(&self, task: u32) -> Result<Duration> {
        let since = Instant::now();
        loop {
            if let Some(frame) = self.find(task)? {
                let wanted = fs::metadata(self.farm.render.dir.join(name_of(task)))?.len();
                let found = fs::metadata(&frame)?.len();
                ensure!(found == wanted, "{} has {found} bytes", frame.display());
                return Ok(since.elapsed());
            }
            ensure!(
                since.elapsed() < REFRESH + SLACK,
                "the frame of task {task} is not shown after {:?}",
                since.elapsed()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn end(self) -> Result<()> {
        let host = &self.farm.artist;
        let mut umount = host.attachfs(&self.farm.bucket, ["umount"], &[&self.point]);
        succeed(umount.stdout(Stdio::null()))
    }
}

impl Drop for Browsing<'_> {
    fn drop(&mut self) {
        // After a failure the mount is still there.
        let host = &self.farm.artist;
        let mut umount = host.attachfs(&self.farm.bucket, ["umount", "--force"], &[&self.point]);
        let _ = umount.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// The paths in a directory; none if it is not there yet.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot list {}", dir.display()))?,
    };
    entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()
        .with_context(|| format!("cannot list {}", dir.display()))
}
