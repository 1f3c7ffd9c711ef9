//! An S3 server for measurements and tests: faster than any client that is measured with it.
//!
//! One thread a connection, blocking calls, `sendfile` for what is read, no check of signatures. Objects are files below a root
//! directory, which belongs on tmpfs when something is measured:
//!
//! ```text
//!     <root>/<bucket>/<key>            an object; what a client said of it is an extended attribute of the file
//!     <root>/<bucket>/.../.fast-s3.N   one that is being received; renamed when all of it is there
//!     <root>/.fast-s3.spare.N          one that was deleted, to be written over
//! ```
//!
//! `connection` speaks HTTP, `service` decides what an answer is, `objects` and `uploads` keep the bytes, `listing` lists
//! them. [`Pace`] makes a request as slow as one over a real network; [`Counters`] say what a client asked for. Both can be had
//! by other programs too, below `/-/`, which is no bucket's name:
//!
//! ```text
//!     GET  /-/counters                             the counters, as JSON
//!     POST /-/reset                                sets them back
//!     POST /-/pace?delay_ms=20&bytes_per_s=1000000     0 is as fast as it goes
//!     POST /-/faults?seed=1&cut=20&wrong=5         of 1,000 reads 20 break off, of 1,000 keys 5 are wrong; without a name, none
//!                                              chunk_... and manifest_... befall writes: of objects below Data, and of all else
//!     GET  /-/faults                               how often each befell a request, and which bytes of which keys were wrong
//!     POST /-/recycle?bucket=b&prefix=p            deletes what is below; its files are written over by later objects
//! ```
//!
//! What it leaves to `tests/s3-server`: signatures, and misbehaving with one request that a test chooses.

mod answer;
mod connection;
mod counters;
mod faults;
mod headers;
mod http;
mod listing;
mod objects;
mod pace;
mod service;
mod spare;
mod target;
#[cfg(test)]
mod tests;
mod uploads;
mod xml;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

pub use counters::Counters;
pub use pace::Pace;

/// A running server. It ends, and breaks its connections, when it is dropped.
#[derive(Debug)]
pub struct FastS3 {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What all connections use.
#[derive(Debug)]
struct Shared {
    objects: objects::Objects,
    uploads: uploads::Uploads,
    pace: Mutex<Pace>,
    faults: faults::Faults,
    counting: counters::Counting,
    connections: Mutex<HashMap<u64, TcpStream>>,
    is_ending: AtomicBool,
}

impl FastS3 {
    /// Starts a server on a free port of the loopback interface. Each directory in `root`, which is there, is a bucket.
    pub fn start(root: &Path) -> io::Result<Self> {
        Self::start_on(root, (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts a server at this address; port 0 is a free one.
    pub fn start_on(root: &Path, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            objects: objects::Objects::new(root.canonicalize()?),
            uploads: uploads::Uploads::default(),
            pace: Mutex::default(),
            faults: faults::Faults::default(),
            counting: counters::Counting::default(),
            connections: Mutex::default(),
            is_ending: AtomicBool::new(false),
        });
        let accepting = thread::Builder::new().name("accept".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(Self {
            address,
            shared,
            accepting: Some(accepting),
        })
    }

    /// The endpoint URL for clients.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates a bucket, unless it is there.
    pub fn create_bucket(&self, name: &str) -> io::Result<()> {
        fs::create_dir_all(self.shared.objects.root().join(name))
    }

    /// From now on answers at this pace.
    pub fn set_pace(&self, pace: Pace) {
        *self.shared.pace.lock() = pace;
    }

    /// What was asked for since the start, or since [`Self::reset`].
    pub fn counters(&self) -> Counters {
        self.shared.counting.read()
    }

    /// Sets the counters back.
    pub fn reset(&self) {
        self.shared.counting.reset();
    }
}

impl Drop for FastS3 {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Release);
        self.shared.faults.end();
        // Wakes the thread that accepts. It has ended already if this fails.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            // It does not panic; if it did, there is nobody left to accept either.
            let _ = accepting.join();
        }
        for connection in self.shared.connections.lock().values() {
            // One that the client has closed needs no more.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        if shared.is_ending.load(Ordering::Acquire) {
            return;
        }
        // A connection that was gone before it was accepted is its client's matter.
        let Ok(stream) = stream else { continue };
        let Ok(own) = stream.try_clone() else {
            continue;
        };
        shared.connections.lock().insert(number, own);
        shared.counting.record(|counters| counters.connections += 1);
        let serving = Arc::clone(shared);
        let spawned = thread::Builder::new().spawn(move || {
            // Ends in an error when the client goes, or when the server does.
            let _ = connection::serve(&serving, stream);
            serving.connections.lock().remove(&number);
        });
        if spawned.is_err() {
            // Without a thread the connection is dropped, which the client sees.
            shared.connections.lock().remove(&number);
        }
    }
}
