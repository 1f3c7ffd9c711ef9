//! Work that is timed from inside, so that starting the program and reading its input are not counted.
//!
//! The peak is that of `RssAnon`: what was allocated, without the files that are read and mapped. The kernel keeps no peak of it
//! (`VmHWM` counts file pages too), so it is sampled; a peak shorter than [`SAMPLE`] may be missed. It is that of the process
//! up to then: for a figure of one piece of work, start the program for it alone.

use std::fs;
use std::hint::black_box;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use openjd_snapshots::{DecodedManifest, diff_snapshots};
use serde_json::{Value, json};

use crate::any;
use crate::operations::{collected, diff_options};
use crate::request::{Fault, Request, needed};
use crate::transfer::Transfer;

/// Between two looks at the memory.
const SAMPLE: Duration = Duration::from_millis(2);

pub(crate) fn perform(request: &Request) -> Result<Value, Fault> {
    let times = request.size("times")?.unwrap_or(1);
    let read = |field| -> Result<String, Fault> {
        Ok(fs::read_to_string(needed(field, request.text(field))?)?)
    };
    match needed("what", request.text("what"))? {
        "decode" => {
            let text = read("path")?;
            timed(times, || Ok(any::decode(&text)?))
        }
        "encode" => {
            let decoded = any::decode(&read("path")?)?;
            timed(times, || Ok(any::encode(&decoded)?))
        }
        "collect" => timed(times, || {
            let absolute = collected(request)?;
            Ok(any::encode(&DecodedManifest::AbsSnapshot(absolute))?)
        }),
        "diff" => {
            let parent = any::decode_snapshot(&read("parent")?)?;
            let current = any::decode_snapshot(&read("current")?)?;
            let options = diff_options(request)?;
            timed(times, || Ok(diff_snapshots(&parent, &current, &options)?))
        }
        "upload" => {
            let transfer = Transfer::new(request)?;
            timed(times, || transfer.upload(request))
        }
        "download" => {
            let transfer = Transfer::new(request)?;
            let manifest = any::decode_snapshot(&read("path")?)?;
            timed(times, || transfer.download(&manifest, request))
        }
        other => Err(Fault::request(format!("cannot time {other}"))),
    }
}

/// Seconds of all the times together.
fn timed<T>(times: u64, mut work: impl FnMut() -> Result<T, Fault>) -> Result<Value, Fault> {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let sampler = scope.spawn(move || {
            let mut peak = 0;
            loop {
                peak = peak.max(anonymous_memory().unwrap_or(0));
                if is_done.recv_timeout(SAMPLE) != Err(RecvTimeoutError::Timeout) {
                    return peak;
                }
            }
        });
        let start = Instant::now();
        let worked = (0..times).try_for_each(|_| work().map(|made| drop(black_box(made))));
        let seconds = start.elapsed().as_secs_f64();
        drop(done);
        let peak = sampler.join().expect("the sampler does not panic");
        worked?;
        Ok(json!({ "seconds": seconds, "peak_rss_anon": peak }))
    })
}

/// `RssAnon` of this process, in bytes.
fn anonymous_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
