//! The S3 server of a test, started and told to misbehave from code that is not async.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use attachfs_test_s3::{Request, Rule, TestS3};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_mins(1);

/// A server that can be stopped and started again at the same place.
pub(crate) struct Server {
    runtime: Runtime,
    root: PathBuf,
    endpoint: String,
    running: Mutex<Option<TestS3>>,
}

impl Server {
    /// Starts a server with one bucket.
    pub(crate) fn start(root: &Path, bucket: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        std::fs::create_dir_all(root).unwrap();
        let s3 = runtime.block_on(TestS3::start(root)).unwrap();
        s3.create_bucket(bucket).unwrap();
        Self {
            runtime,
            root: root.to_owned(),
            endpoint: s3.endpoint(),
            running: Mutex::new(Some(s3)),
        }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn running<T>(&self, then: impl FnOnce(&TestS3) -> T) -> T {
        let running = self.running.lock().unwrap();
        then(running.as_ref().expect("the server runs"))
    }

    /// From now on treats requests that fit the rule so.
    pub(crate) fn add(&self, rule: Rule) {
        self.running(|s3| s3.add(rule));
    }

    /// From now on treats all requests well.
    pub(crate) fn heal(&self) {
        self.running(TestS3::heal);
    }

    /// From now on takes these keys and no others.
    pub(crate) fn rotate(&self, access_key: &str, secret_key: &str) {
        self.running(|s3| s3.rotate(access_key, secret_key));
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.running(TestS3::requests)
    }

    /// Waits until the requests so far are as the test needs them.
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&[Request]) -> bool) {
        self.running(|s3| {
            let waited = async { tokio::time::timeout(PATIENCE, s3.wait_for(is_so)).await };
            let waited = self.runtime.block_on(waited);
            assert!(waited.is_ok(), "waited in vain: {what}");
        });
    }

    /// Stops the server: connections break, and new ones are refused.
    pub(crate) fn stop(&self) {
        drop(self.running.lock().unwrap().take());
        // The port is free when the task that accepts has ended, which it does when it is next looked at.
        crate::machine::until("the server is gone", || {
            std::net::TcpStream::connect(self.address()).is_err()
        });
    }

    /// Starts it again where it was.
    pub(crate) fn start_again(&self) {
        let port = self.address().rsplit_once(':').unwrap().1.parse().unwrap();
        let s3 = self.runtime.block_on(TestS3::start_on(&self.root, port));
        *self.running.lock().unwrap() = Some(s3.unwrap());
    }

    fn address(&self) -> &str {
        self.endpoint.strip_prefix("http://").unwrap()
    }
}
