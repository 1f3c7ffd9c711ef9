//! The two sides that most rows have: the same work in a mount and on the local disk.

use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use super::harness::{PageCache, Side};
use super::process;
use super::stage::{Set, Stage};

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
