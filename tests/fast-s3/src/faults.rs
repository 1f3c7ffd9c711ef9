//! What goes wrong with requests when the server is told so: by a seed, so that the same requests in the same order meet the same faults.
//!
//! Most faults befall a read or a write by its number. Writes of objects and of manifests have faults of their own: before what they ask for is done, in its
//! midst, and after it. Two befall a key for as long as the faults are set, as in a store in which an object was
//! replaced: all its answers have another `ETag`, and a wrong object has one other byte, too. When the faults change, requests that
//! hang end with their connections.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use crate::answer::Answer;
use crate::http::Head;

/// A fault that befalls a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error is the answer.
    Refused(u16, &'static str),
    /// The connection ends before an answer.
    Close,
    /// There is no answer until the faults change.
    Silence,
    /// The connection ends in the middle of the body.
    Cut,
    /// The body stops in its middle until the faults change.
    Stall,
    /// The body comes slower than clients wait for.
    Trickle,
    /// The connection ends in the middle of what is sent, of which nothing is kept.
    CutOff,
    /// It is done, and an error is the answer.
    DoneAndRefused(u16, &'static str),
}

/// By the names that they are set by.
const OF_REQUESTS: [(&str, Fault); 10] = [
    ("forbidden", Fault::Refused(403, "AccessDenied")),
    ("expired", Fault::Refused(400, "ExpiredToken")),
    ("missing", Fault::Refused(404, "NoSuchKey")),
    ("internal", Fault::Refused(500, "InternalError")),
    ("slow_down", Fault::Refused(503, "SlowDown")),
    ("close", Fault::Close),
    ("silence", Fault::Silence),
    ("cut", Fault::Cut),
    ("stall", Fault::Stall),
    ("trickle", Fault::Trickle),
];

/// What befalls writes of chunks.
const OF_CHUNKS: [(&str, Fault); 7] = [
    ("chunk_expired", Fault::Refused(400, "ExpiredToken")),
    ("chunk_slow_down", Fault::Refused(503, "SlowDown")),
    ("chunk_cut", Fault::CutOff),
    ("chunk_close", Fault::Close),
    ("chunk_failed", Fault::DoneAndRefused(500, "InternalError")),
    ("chunk_silence", Fault::Silence),
    ("chunk_internal", Fault::Refused(500, "InternalError")),
];

/// What befalls writes of all else, which is manifests.
const OF_MANIFESTS: [(&str, Fault); 7] = [
    ("manifest_expired", Fault::Refused(400, "ExpiredToken")),
    ("manifest_slow_down", Fault::Refused(503, "SlowDown")),
    ("manifest_cut", Fault::CutOff),
    ("manifest_close", Fault::Close),
    (
        "manifest_failed",
        Fault::DoneAndRefused(500, "InternalError"),
    ),
    ("manifest_silence", Fault::Silence),
    ("manifest_internal", Fault::Refused(500, "InternalError")),
];

/// How the object of a key differs from what was put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Sound,
    /// The same bytes under another `ETag`.
    Renamed,
    /// Under another `ETag`; the bits are turned over of a byte that this number chooses.
    Wrong(u64),
}

impl Version {
    pub(crate) fn etag(self, sound: String) -> String {
        match self {
            Self::Sound => sound,
            Self::Renamed => format!("{sound}-renamed"),
            Self::Wrong(_) => format!("{sound}-wrong"),
        }
    }

    /// The offset of the byte that is wrong in an object of this size.
    pub(crate) fn wrong_byte(self, size: u64) -> Option<u64> {
        match self {
            Self::Wrong(number) => number.checked_rem(size),
            Self::Sound | Self::Renamed => None,
        }
    }
}

/// Between two pieces of a trickling body, and how long they are: 2,000 bytes a second.
pub(crate) const TRICKLE: (Duration, usize) = (Duration::from_millis(500), 1000);

/// The faults that are set, and what they did.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    seed: u64,
    /// Of 1,000 requests or keys, by name.
    rates: BTreeMap<&'static str, u64>,
    requests: u64,
    told: Told,
    /// How often the faults were set.
    settings: u64,
    is_ending: bool,
}

/// What `GET /-/faults` says.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Told {
    /// How often each fault befell somebody since the server started; a wrong object counts when its wrong byte is sent.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// The offsets of wrong bytes that were sent since the server started, by key.
    pub(crate) wrong: BTreeMap<String, std::collections::BTreeSet<u64>>,
}

/// The faults that were set when a request came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting(u64);

impl Faults {
    /// From now on these faults, in thousandths; those that are not named not at all.
    pub(crate) fn set(&self, number: impl Fn(&str) -> Option<u64>) {
        let mut state = self.state.lock();
        state.seed = number("seed").unwrap_or(0);
        state.requests = 0;
        let all = OF_REQUESTS.iter().chain(&OF_CHUNKS).chain(&OF_MANIFESTS);
        let rates = all.map(|&(name, _)| name).chain(["renamed", "wrong"]);
        state.rates = rates
            .filter_map(|name| Some((name, number(name)?)))
            .collect();
        state.settings += 1;
        self.changed.notify_all();
    }

    /// Lets go of all who hang, for ever.
    pub(crate) fn end(&self) {
        self.state.lock().is_ending = true;
        self.changed.notify_all();
    }

    pub(crate) fn told(&self) -> Told {
        self.state.lock().told.clone()
    }

    /// What befalls this request.
    pub(crate) fn of(&self, head: &Head) -> (Option<Fault>, Setting) {
        let mut state = self.state.lock();
        let setting = Setting(state.settings);
        let key = &head.target.key;
        let faults: &'static [_] = match head.method.as_str() {
            _ if key.is_empty() || state.rates.is_empty() => &[],
            "GET" | "HEAD" => &OF_REQUESTS,
            "PUT" | "POST" if is_chunk(key) => &OF_CHUNKS,
            "PUT" | "POST" => &OF_MANIFESTS,
            _ => &[],
        };
        if faults.is_empty() {
            return (None, setting);
        }
        state.requests += 1;
        let drawn = mixed(state.seed ^ mixed(state.requests)) % 1000;
        let mut below = 0;
        for &(name, fault) in faults {
            below += state.rates.get(name).copied().unwrap_or(0);
            if drawn < below {
                *state.told.counts.entry(name).or_default() += 1;
                return (Some(fault), setting);
            }
        }
        (None, setting)
    }

    /// What the object of this key is while these faults are set.
    pub(crate) fn version(&self, key: &str) -> Version {
        let mut state = self.state.lock();
        let hash = key
            .bytes()
            .fold(state.seed, |hash, byte| mixed(hash ^ u64::from(byte)));
        let rate = |name| state.rates.get(name).copied().unwrap_or(0);
        let (wrong, renamed) = (rate("wrong"), rate("renamed"));
        match hash % 1000 {
            drawn if drawn < wrong => Version::Wrong(mixed(hash)),
            drawn if drawn < wrong + renamed => {
                *state.told.counts.entry("renamed").or_default() += 1;
                Version::Renamed
            }
            _ => Version::Sound,
        }
    }

    /// The wrong byte of an object is about to be sent.
    pub(crate) fn falsify(&self, key: &str, at: u64) {
        let told = &mut self.state.lock().told;
        *told.counts.entry("wrong").or_default() += 1;
        told.wrong.entry(key.to_owned()).or_default().insert(at);
    }

    /// Whether the faults are still these after so long, or until they change.
    pub(crate) fn last(&self, setting: Setting, at_most: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        let lasts = |state: &mut State| state.settings == setting.0 && !state.is_ending;
        match at_most {
            Some(time) => {
                self.changed.wait_while_for(&mut state, lasts, time);
            }
            None => self.changed.wait_while(&mut state, lasts),
        }
        lasts(&mut state)
    }
}

/// Whether an object of this key is a chunk of a job attachment, as `PREFIX/Data/HASH.xxh128`.
fn is_chunk(key: &str) -> bool {
    key.starts_with("Data/") || key.contains("/Data/")
}

impl Fault {
    /// The answer in place of the object, if this is an error.
    pub(crate) fn answer(self, head: &Head) -> Option<Answer> {
        match self {
            Self::Refused(status, code) => Some(Answer::error(status, code, &head.target.key)),
            _ => None,
        }
    }
}

/// `SplitMix64`: one number for each number, without a pattern.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
