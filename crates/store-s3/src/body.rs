//! Bodies on their way: sent in steps that are counted, received into one buffer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_types::body::Error as BodyError;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::bandwidth::Bandwidth;
use crate::buffers::{Buffers, Room};
use crate::error::NoAnswer;
use crate::pace::{Pace, Slowest, TooSlow};

/// The most that is given to a connection at a time.
const STEP: usize = 256 << 10;

/// The most that is set aside for a body before any of it has come.
const LARGEST_RESERVE: u64 = 64 << 20;

/// A body that is being sent.
struct Sending {
    rest: Bytes,
    bandwidth: Arc<Bandwidth>,
    progress: Progress,
    /// The next step waits for the limit of bandwidth.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// How much of a body has been sent.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<Sent>>);

struct Sent {
    pace: Pace,
    /// When the connection had accepted all of it.
    done: Option<Instant>,
}

/// What to do while a body is being sent.
pub(crate) enum Watch {
    /// Look again then.
    Until(Instant),
    /// All of it was sent at this time.
    SentAt(Instant),
}

impl Progress {
    /// What to wait for now.
    pub(crate) fn watch(&self) -> Result<Watch, TooSlow> {
        let mut sent = self.0.lock();
        if let Some(done) = sent.done {
            return Ok(Watch::SentAt(done));
        }
        sent.pace.check()?;
        Ok(Watch::Until(sent.pace.patience()))
    }

    /// How long ago the last byte was sent; zero if it was not sent yet.
    pub(crate) fn since_sent(&self) -> Duration {
        let done = self.0.lock().done;
        done.map_or(Duration::ZERO, |done| done.elapsed())
    }
}

/// A body to send, and how far it is.
pub(crate) fn sending(
    bytes: Bytes,
    bandwidth: &Arc<Bandwidth>,
    slowest: Slowest,
) -> (SdkBody, Progress) {
    let progress = Progress(Arc::new(Mutex::new(Sent {
        pace: Pace::new(slowest),
        done: bytes.is_empty().then(Instant::now),
    })));
    if bytes.is_empty() {
        return (SdkBody::empty(), progress);
    }
    let body = Sending {
        rest: bytes,
        bandwidth: Arc::clone(bandwidth),
        progress: progress.clone(),
        waiting: None,
    };
    (SdkBody::from_body_1_x(body), progress)
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(sleep) = &mut self.waiting {
            ready!(sleep.as_mut().poll(context));
            self.waiting = None;
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let step = self.bandwidth.step(STEP).min(self.rest.len());
        let bytes = self.rest.split_to(step);
        let free_at = self.bandwidth.book(step as u64);
        let done = self.rest.is_empty();
        let mut sent = self.progress.0.lock();
        sent.pace.moved(step as u64);
        if done {
            sent.done = Some(Instant::now());
        } else if let Some(at) = free_at {
            // The time is excused now, because a connection that accepts nothing more does not poll
            // again at that moment.
            sent.pace
                .excuse(at.saturating_duration_since(Instant::now()));
            drop(sent);
            self.waiting = Some(Box::pin(tokio::time::sleep_until(at)));
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        drop(sent);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// Why a body did not arrive.
pub(crate) enum Broken {
    TooSlow(TooSlow),
    Broke(NoAnswer),
}

/// All of a body of this length, without copying it if it comes in one piece.
pub(crate) async fn receive(
    mut body: SdkBody,
    len: u64,
    buffers: &Buffers,
    bandwidth: &Bandwidth,
    slowest: Slowest,
) -> Result<Bytes, Broken> {
    let mut pace = Pace::new(slowest);
    let mut room = None;
    let mut received = 0;
    while let Some(frame) = next(&mut body, &mut pace).await? {
        received += frame.len() as u64;
        if received == len && room.is_none() {
            wait_for(bandwidth, &frame, &mut pace).await;
            return Ok(frame);
        }
        if received > len {
            return Err(broke("the body is longer than its length"));
        }
        let room = room.get_or_insert_with(|| Room::new(len, LARGEST_RESERVE, buffers));
        room.add(&frame);
        wait_for(bandwidth, &frame, &mut pace).await;
        if received == len {
            break;
        }
    }
    if received < len {
        return Err(broke("the body is shorter than its length"));
    }
    Ok(room.map(Room::freeze).unwrap_or_default())
}

/// At most this many bytes of a body: the text of an error.
pub(crate) async fn receive_some(mut body: SdkBody, most: usize, slowest: Slowest) -> Bytes {
    let mut pace = Pace::new(slowest);
    let mut all = BytesMut::new();
    // The text of an error is used as far as it arrives.
    while let Ok(Some(frame)) = next(&mut body, &mut pace).await {
        all.extend_from_slice(&frame[..frame.len().min(most - all.len())]);
        if all.len() == most {
            break;
        }
    }
    all.freeze()
}

async fn next(body: &mut SdkBody, pace: &mut Pace) -> Result<Option<Bytes>, Broken> {
    loop {
        let frame = match tokio::time::timeout_at(pace.patience(), body.frame()).await {
            Ok(frame) => frame,
            Err(_patience_ended) => {
                pace.check().map_err(Broken::TooSlow)?;
                continue;
            }
        };
        let Some(frame) = frame else {
            return Ok(None);
        };
        let frame = frame
            .map_err(|error| Broken::Broke(NoAnswer::because("the body broke off", &*error)))?;
        if let Ok(bytes) = frame.into_data() {
            pace.moved(bytes.len() as u64);
            // A steady trickle would reset the time limit again and again.
            pace.check().map_err(Broken::TooSlow)?;
            return Ok(Some(bytes));
        }
    }
}

async fn wait_for(bandwidth: &Bandwidth, bytes: &Bytes, pace: &mut Pace) {
    if let Some(free_at) = bandwidth.book(bytes.len() as u64) {
        let since = Instant::now();
        tokio::time::sleep_until(free_at).await;
        pace.excuse(since.elapsed());
    }
}

fn broke(what: &'static str) -> Broken {
    Broken::Broke(NoAnswer::new(what))
}
