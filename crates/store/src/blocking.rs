//! File access off the threads that serve requests.

use crate::StoreError;

/// Runs blocking work on the runtime's threads for it. Dropping the future does not stop the work.
pub async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down and never started the work.
            Err(error) => Err(StoreError::Unreachable {
                what: "work on the store's files".to_owned(),
                source: error.into(),
            }),
        },
    }
}
