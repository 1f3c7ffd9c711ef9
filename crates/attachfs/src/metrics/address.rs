//! Where metrics are to be had: an address of this machine that no other can reach.

use std::fmt;
use std::net::{AddrParseError, SocketAddr};
use std::str::FromStr;

/// A loopback address and a port; port 0 is any that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsAddress(SocketAddr);

/// An address that metrics cannot have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseMetricsAddressError {
    /// It is not an address.
    #[error("not an address and a port, such as 127.0.0.1:9400")]
    NoAddress(#[from] AddrParseError),
    /// Other machines could reach it.
    #[error(
        "{0} can be reached from other machines, and metrics are given without a password: only loopback addresses are \
         taken, such as 127.0.0.1 or [::1]"
    )]
    NotLoopback(std::net::IpAddr),
}

impl MetricsAddress {
    pub(super) fn socket(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for MetricsAddress {
    type Err = ParseMetricsAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address: SocketAddr = text.parse()?;
        if address.ip().is_loopback() {
            Ok(Self(address))
        } else {
            Err(ParseMetricsAddressError::NotLoopback(address.ip()))
        }
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_no_other_machine_reaches_are_taken() {
        for good in ["127.0.0.1:0", "127.5.0.1:9400", "[::1]:9400"] {
            assert_eq!(good.parse::<MetricsAddress>().unwrap().to_string(), good);
        }
        for open in ["0.0.0.0:9400", "192.168.1.7:9400", "[::]:9400"] {
            let error = open.parse::<MetricsAddress>().unwrap_err();
            let is_open = matches!(error, ParseMetricsAddressError::NotLoopback(_));
            assert!(is_open, "{open}: {error}");
        }
        for bad in [
            "",
            "localhost:9400",
            "127.0.0.1",
            ":9400",
            "127.0.0.1:70000",
        ] {
            let error = bad.parse::<MetricsAddress>().unwrap_err();
            let is_bad = matches!(error, ParseMetricsAddressError::NoAddress(_));
            assert!(is_bad, "{bad}: {error}");
        }
    }
}
