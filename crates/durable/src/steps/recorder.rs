//! Sees and disturbs durable steps, in tests.
//!
//! A recorder is of a directory, not of a thread: tests that run at the same time have directories of their
//! own, and the steps of a test are taken by whatever threads its code starts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::{LEFT_OUT, Step, When};

/// How long a test waits for a step.
const LONGEST_WAIT: Duration = Duration::from_mins(2);

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

type Watcher = Box<dyn FnMut(When, &Taken) + Send>;

/// The steps below a directory, as long as it lives.
#[derive(Debug)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    state: Mutex<State>,
}

/// A step that waits as long as this exists, see [`Recorder::pause`].
#[derive(Debug)]
pub struct Paused {
    step: Step,
    reached: Receiver<()>,
    _go_on: Sender<()>,
}

/// The other side of [`Paused`].
#[derive(Debug)]
struct Pause {
    step: Step,
    reached: Sender<()>,
    go_on: Receiver<()>,
}

#[derive(Default)]
struct State {
    taken: Vec<Taken>,
    failures: Vec<(Step, i32)>,
    pauses: Vec<Pause>,
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

    /// The thread that takes the next step of this name waits before it, until what this returns is dropped. Other
    /// threads take their steps meanwhile.
    pub fn pause(&self, step: Step) -> Paused {
        let (reached, was_reached) = channel();
        let (may_go_on, go_on) = channel();
        let pause = Pause {
            step,
            reached,
            go_on,
        };
        self.0.state.lock().pauses.push(pause);
        Paused {
            step,
            reached: was_reached,
            _go_on: may_go_on,
        }
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

impl Paused {
    /// Waits until a thread is at the step.
    pub fn wait(&self) {
        assert!(
            !is_left_out(self.step),
            "no thread takes a step that is left out"
        );
        let reached = self.reached.recv_timeout(LONGEST_WAIT);
        reached.expect("no thread came to the step");
    }
}

impl Pause {
    fn wait(&self) {
        // The test may have ended, or wait for nothing.
        let _ = self.reached.send(());
        let _ = self.go_on.recv();
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
    fn pause_at(&mut self, step: Step) -> Option<Pause> {
        let at = self.pauses.iter().position(|pause| pause.step == step)?;
        Some(self.pauses.remove(at))
    }

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

fn is_left_out(step: Step) -> bool {
    let left_out = STEP_LEFT_OUT.as_ref();
    left_out.is_some_and(|name| *name == format!("{step:?}"))
}

pub(super) fn perform(
    step: Step,
    about: impl FnOnce() -> PathBuf,
    act: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    if is_left_out(step) {
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
        let pause = shared.state.lock().pause_at(step);
        if let Some(pause) = pause {
            pause.wait();
        }
        shared.state.lock().begin(&taken)?;
    }
    act()?;
    for shared in &listening {
        shared.state.lock().end(&taken);
    }
    Ok(())
}
