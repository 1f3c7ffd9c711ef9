//! Sees and disturbs durable steps, in tests.
//!
//! A recorder is of a directory, not of a thread: tests that run at the same time have directories of their
//! own, and the steps of a test are taken by whatever threads its code starts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use super::{LEFT_OUT, Step};

static RECORDERS: Mutex<Vec<Arc<Shared>>> = Mutex::new(Vec::new());
static STEP_LEFT_OUT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(LEFT_OUT).ok());

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The step.
    pub step: Step,
    /// The file or directory.
    pub path: PathBuf,
}

/// When a watcher is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The step is about to be taken.
    Before,
    /// It was taken, successfully.
    After,
}

type Watcher = Box<dyn FnMut(When, &Taken) + Send>;

/// The steps below a directory, as long as it lives.
#[derive(Debug)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: Vec<Taken>,
    failures: Vec<(Step, i32)>,
    left: Option<usize>,
    watcher: Option<Watcher>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// Records the steps about a directory and all below it.
    pub fn on(dir: &Path) -> Self {
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            state: Mutex::default(),
        });
        RECORDERS.lock().push(shared.clone());
        Self(shared)
    }

    /// The steps that were taken successfully, in their order.
    pub fn taken(&self) -> Vec<Taken> {
        self.0.state.lock().taken.clone()
    }

    /// As [`taken`](Self::taken), each with the last part of its path.
    pub fn order(&self) -> Vec<(Step, String)> {
        let named = |taken: &Taken| {
            let name = taken.path.file_name().unwrap_or_default();
            (taken.step, name.to_string_lossy().into_owned())
        };
        self.0.state.lock().taken.iter().map(named).collect()
    }

    /// Forgets what was recorded.
    pub fn clear(&self) {
        self.0.state.lock().taken.clear();
    }

    /// The next step of this name fails with an error number, and is not taken.
    pub fn fail(&self, step: Step, errno: i32) {
        self.0.state.lock().failures.push((step, errno));
    }

    /// After this many more steps all steps fail, as if the process had ended.
    pub fn stop_after(&self, steps: usize) {
        self.0.state.lock().left = Some(steps);
    }

    /// Calls a function before and after each step; one at a time. It takes no step itself.
    pub fn watch(&self, watcher: impl FnMut(When, &Taken) + Send + 'static) {
        self.0.state.lock().watcher = Some(Box::new(watcher));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        RECORDERS
            .lock()
            .retain(|shared| !Arc::ptr_eq(shared, &self.0));
    }
}

impl State {
    fn begin(&mut self, taken: &Taken) -> io::Result<()> {
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| io::Error::other("the test stops here"))?;
        }
        let failure = self
            .failures
            .iter()
            .position(|(step, _)| *step == taken.step);
        if let Some(at) = failure {
            let (_, errno) = self.failures.remove(at);
            return Err(io::Error::from_raw_os_error(errno));
        }
        if let Some(watcher) = &mut self.watcher {
            watcher(When::Before, taken);
        }
        Ok(())
    }

    fn end(&mut self, taken: &Taken) {
        if let Some(watcher) = &mut self.watcher {
            watcher(When::After, taken);
        }
        self.taken.push(taken.clone());
    }
}

pub(super) fn perform(
    step: Step,
    about: impl FnOnce() -> PathBuf,
    act: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    if let Some(name) = &*STEP_LEFT_OUT
        && *name == format!("{step:?}")
    {
        return Ok(());
    }
    let path = about();
    let listening: Vec<_> = RECORDERS
        .lock()
        .iter()
        .filter(|shared| path.starts_with(&shared.dir))
        .cloned()
        .collect();
    let taken = Taken { step, path };
    for shared in &listening {
        shared.state.lock().begin(&taken)?;
    }
    act()?;
    for shared in &listening {
        shared.state.lock().end(&taken);
    }
    Ok(())
}
