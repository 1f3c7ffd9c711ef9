//! The two sides that most rows have: the same work in a mount and on the local disk.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use anyhow::Result;

use super::harness::{PageCache, Side};
use super::process;
use super::program::Program;
use super::stage::{Set, Stage};

/// Ours, and the other.
pub(super) type Pair = (Side, Side);

/// Work on the local disk.
pub(super) fn local(
    stage: &Rc<Stage>,
    page_cache: PageCache,
    work: impl Fn(&Stage) -> Command + 'static,
) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        if page_cache == PageCache::Warm {
            process::run(&mut work(&stage))?;
        }
        process::run(&mut work(&stage))
    })
}

/// Work in a mount, which is made anew for each run; its memory is that of the process that serves it.
pub(super) fn mounted(
    stage: &Rc<Stage>,
    set: Set,
    page_cache: PageCache,
    work: impl Fn(&Path) -> Command + 'static,
) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        let mount = stage.mount(set, &stage.fresh()?)?;
        if page_cache == PageCache::Warm {
            process::run(&mut work(mount.point()))?;
        }
        let run = process::run_watching(mount.process(), &mut work(mount.point()))?;
        mount.unmount()?;
        Ok(run)
    })
}

/// Work that writes, in a mount with these options and on the local disk. `place` gives a path that no run had before: for the session,
/// which is where the mount's files come to be, and for the local directory. `prepare` is not timed. What the work leaves under the name
/// `large` is deleted.
pub(super) fn both(
    stage: &Rc<Stage>,
    options: &'static [&'static str],
    place: fn(&Stage) -> Result<PathBuf>,
    prepare: fn(&Stage, &Path) -> Result<()>,
    work: fn(&Stage, &Path) -> Command,
) -> Pair {
    let (mounted, local) = (Rc::clone(stage), Rc::clone(stage));
    let ours = move || {
        let session = place(&mounted)?;
        let mut mount = mounted.start_mount(Set::Little, &mounted.store(), &session, options)?;
        mount.wait_until_ready()?;
        prepare(&mounted, mount.point())?;
        let mut work = work(&mounted, mount.point());
        mounted.program().run_by_its_user(&mut work);
        let run = process::run_watching(mount.process(), &mut work)?;
        remove_large(mounted.program(), mount.point())?;
        mount.unmount()?;
        Ok(run)
    };
    let other = move || {
        let dir = place(&local)?;
        local.program().make_dir(&dir)?;
        prepare(&local, &dir)?;
        let mut work = work(&local, &dir);
        local.program().run_by_its_user(&mut work);
        let run = process::run(&mut work)?;
        remove_large(local.program(), &dir)?;
        Ok(run)
    };
    (Box::new(ours), Box::new(other))
}

/// As the user of the program: nobody else can in a mount.
fn remove_large(program: &Program, dir: &Path) -> Result<()> {
    let mut remove = Command::new("rm");
    remove.arg("-f").arg(dir.join("large"));
    program.run_by_its_user(&mut remove);
    process::run(&mut remove).map(drop)
}
