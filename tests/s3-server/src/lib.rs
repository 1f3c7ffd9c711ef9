//! A real S3 server for tests: `s3s-fs` over a directory, on a free port of this machine.
//!
//! In front of it is a layer that writes down the requests and, when told to ([`Mishap`]), does to
//! them what networks and servers do: errors, broken and stalled connections, silence. The layer
//! also mends four things in which `s3s-fs` is not S3: conditional PUTs are made one after the
//! other, because it checks and writes in two steps; a key that is only the beginning of other
//! keys is not found, because it is a directory there; a PUT does not create its bucket. Keys of any length are
//! kept with their metadata (`long_keys`).

mod long_keys;
mod mishap;
mod service;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use s3s::S3Result;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub use mishap::{Damage, Mishap, Rule};
pub use service::Request;

/// The access key that the server knows.
pub const ACCESS_KEY: &str = "test-access-key";

/// The secret that belongs to [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "test-secret-key";

/// The region that clients sign for.
pub const REGION: &str = "us-west-2";

/// The account that owns the buckets: who expects another one is refused.
pub const ACCOUNT: &str = "111122223333";

/// A running server. It ends, and breaks its connections, when it is dropped.
#[derive(Debug)]
pub struct TestS3 {
    address: SocketAddr,
    root: PathBuf,
    shared: Arc<service::Shared>,
    keys: Keys,
    accepting: JoinHandle<()>,
}

/// The keys that the server takes.
#[derive(Debug, Clone, Default)]
struct Keys(Arc<Mutex<(String, String)>>);

impl Keys {
    fn set(&self, access_key: &str, secret_key: &str) {
        *self.0.lock() = (access_key.to_owned(), secret_key.to_owned());
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let keys = self.0.lock();
        if keys.0 == access_key {
            Ok(SecretKey::from(keys.1.as_str()))
        } else {
            Err(s3s::s3_error!(InvalidAccessKeyId))
        }
    }
}

impl TestS3 {
    /// Starts a server on a free port. Each directory in `root` is a bucket.
    pub async fn start(root: &Path) -> io::Result<Self> {
        Self::start_on(root, 0).await
    }

    /// Starts a server on this port of the loopback interface.
    pub async fn start_on(root: &Path, port: u16) -> io::Result<Self> {
        let files =
            FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let mut builder = S3ServiceBuilder::new(long_keys::Objects::new(files, root));
        let keys = Keys::default();
        builder.set_auth(keys.clone());
        builder.set_access(service::Access);
        let shared = Arc::new(service::Shared {
            s3: builder.build(),
            root: root.to_owned(),
            requests: tokio::sync::watch::Sender::default(),
            rules: Mutex::default(),
            healed: tokio::sync::watch::Sender::default(),
            conditional: tokio::sync::Mutex::default(),
        });
        keys.set(ACCESS_KEY, SECRET_KEY);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        Ok(Self {
            address: listener.local_addr()?,
            root: root.to_owned(),
            shared: Arc::clone(&shared),
            keys,
            accepting: tokio::spawn(accept(listener, shared)),
        })
    }

    /// From now on takes these keys and no others.
    pub fn rotate(&self, access_key: &str, secret_key: &str) {
        self.keys.set(access_key, secret_key);
    }

    /// Creates a bucket.
    pub fn create_bucket(&self, name: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.root.join(name))
    }

    /// The endpoint URL for clients.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.borrow().clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.requests.send_modify(Vec::clear);
    }

    /// Returns when the requests so far are as the test needs them.
    pub async fn wait_for(&self, until: impl Fn(&[Request]) -> bool) {
        let mut requests = self.shared.requests.subscribe();
        // Ends in an error only when the sender goes, and `self` has it.
        let _ = requests.wait_for(|requests| until(requests)).await;
    }

    /// From now on treats requests that fit the rule so. Of several rules the first that fits and
    /// is not used up strikes.
    pub fn add(&self, rule: Rule) {
        self.shared.rules.lock().push(rule);
    }

    /// From now on treats all requests well.
    pub fn heal(&self) {
        self.shared.rules.lock().clear();
        self.shared.healed.send_modify(|times| *times += 1);
    }

    /// Serves until the task is cancelled.
    pub async fn serve(mut self) -> io::Result<()> {
        (&mut self.accepting).await.map_err(io::Error::other)
    }
}

impl Drop for TestS3 {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves connections until the task is dropped, and they with it.
async fn accept(listener: TcpListener, shared: Arc<service::Shared>) {
    let mut connections = JoinSet::new();
    loop {
        // A connection that was gone before it was accepted is its client's matter.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let service = service::Service(Arc::clone(&shared));
        connections.spawn(async move {
            // Ends in an error when a mishap breaks the connection, or when the client goes.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
