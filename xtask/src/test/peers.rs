//! The reference implementations, for the tests that run them.

use anyhow::{Context, Result, bail};

use super::steps::Outcome;
use crate::peers::{Moto, Peer, SetUp};

/// Sets up all that this machine can have. Those that it cannot have are named; in CI (the variable `CI` is set) that is a failure.
pub(super) fn set_up() -> Result<Outcome> {
    let mut missing = Vec::new();
    let peers = Peer::ALL.map(|peer| (peer.name(), peer.set_up()));
    for (name, set_up) in peers.into_iter().chain([(Moto::NAME, Moto::set_up())]) {
        match set_up.with_context(|| format!("cannot set up the peer {name}"))? {
            SetUp::Ready(path) => println!("{name}: {}", path.display()),
            SetUp::Unavailable(reason) => missing.push(format!("{name}: {reason}")),
        }
    }
    if missing.is_empty() {
        return Ok(Outcome::passed());
    }
    let missing = missing.join("; ");
    if std::env::var_os("CI").is_some() {
        bail!("{missing}");
    }
    Ok(Outcome::Skipped(missing))
}
