//! Use cases for callers that block: programs without a runtime of their own, and Python.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::error::{Doing as _, Error};

/// Runs use cases, and serves the mounts that were made on it, on threads of its own. One is enough for a program, and
/// any number of threads may use it at once.
///
/// ```no_run
/// # fn main() -> Result<(), attachfs::Error> {
/// let runtime = attachfs::Runtime::new()?;
/// let settings = attachfs::StoreSettings::default();
/// let cancel = attachfs::CancellationToken::new();
/// let store = runtime.wait(attachfs::open_store(&settings, &cancel))?;
/// # Ok(())
/// # }
/// ```
///
/// It may be made, used and dropped anywhere, on a thread of another tokio runtime too: there `wait` keeps that thread
/// busy, as any function that blocks, and the work is done on the threads here. Dropping it waits for nothing; a mount
/// that was not [finished](crate::Mount::finish) is then as after a kill.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
    /// Only dropping takes it out.
    threads: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// Starts the threads, one for each processor that this process may use.
    pub fn new() -> Result<Self, Error> {
        // Set here, because tokio would panic at a TOKIO_WORKER_THREADS that is no number.
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let built = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build();
        let threads = built.doing(|| "cannot start the threads of a runtime".to_owned())?;
        Ok(Self {
            handle: threads.handle().clone(),
            threads: Some(threads),
        })
    }

    /// Does a use case, and blocks until it has ended.
    pub fn wait<T, E, F>(&self, use_case: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + Send,
        T: Send,
        E: From<Error> + Send,
    {
        if Handle::try_current().is_err() {
            return self.handle.block_on(use_case);
        }
        // A thread that belongs to a runtime must not wait in another one: tokio would panic.
        let never = CancellationToken::new();
        self.wait_and_look(
            use_case,
            &never,
            Duration::MAX,
            || ControlFlow::Continue(()),
        )
    }

    /// As [`wait`](Self::wait), for a caller who must look after something meanwhile: calls `look` on this thread
    /// each time `every` has gone by, and cancels the token when that says `Break`. A binding of Python looks for
    /// signals there, so that Ctrl-C ends the use case.
    pub fn wait_and_look<T, E, F>(
        &self,
        use_case: F,
        cancel: &CancellationToken,
        every: Duration,
        mut look: impl FnMut() -> ControlFlow<()>,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + Send,
        T: Send,
        E: From<Error> + Send,
    {
        std::thread::scope(|scope| {
            let (end, ended) = channel::<()>();
            let thread = std::thread::Builder::new().name("attachfs-wait".to_owned());
            let waiting = thread.spawn_scoped(scope, move || {
                // Dropped when the use case has ended, and when it panics.
                let _end = end;
                self.handle.block_on(use_case)
            });
            let waiting = waiting.doing(|| "cannot start a thread that waits".to_owned())?;
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(every) {
                if look().is_break() {
                    cancel.cancel();
                }
            }
            waiting.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Waits, for so long at most, until parts of uploads that were broken off are given up: a store asks money for
    /// them until then.
    pub fn wait_for_uploads(&self, within: Duration) -> Result<(), Error> {
        self.wait(async {
            // What is left is deleted by the rules of the bucket, if it has any for that.
            let _ended = tokio::time::timeout(within, attachfs_store_s3::uploads_ended()).await;
            Ok(())
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            // A request that hangs must not keep the caller; and on a thread of a runtime waiting would panic.
            threads.shutdown_background();
        }
    }
}
