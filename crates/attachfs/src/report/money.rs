//! What a mount's requests and bytes cost, at prices that somebody gives.

use serde::{Deserialize, Serialize};

/// Prices, in any currency.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Prices {
    /// Of 1,000 GET requests.
    pub per_1000_gets: Option<f64>,
    /// Of 10^9 bytes from the store.
    pub per_gb: Option<f64>,
}

/// What was paid and what was not, in the currency of the prices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Money {
    /// The price of 1,000 GET requests; 0 if none was given.
    pub price_per_1000_gets: f64,
    /// The price of 10^9 bytes from the store; 0 if none was given.
    pub price_per_gb: f64,
    /// What was fetched cost so much.
    pub spent: f64,
    /// A download of everything costs so much.
    pub full_download: f64,
    /// The difference.
    pub saved: f64,
}

impl Prices {
    /// What was fetched cost, and what a full download costs, each with its requests and bytes. Nothing without any price.
    pub(super) fn money(self, fetched: (u64, u64), full_download: (u64, u64)) -> Option<Money> {
        if self.per_1000_gets.is_none() && self.per_gb.is_none() {
            return None;
        }
        let per_1000_gets = self.per_1000_gets.unwrap_or(0.0);
        let per_gb = self.per_gb.unwrap_or(0.0);
        let of = |(requests, bytes): (u64, u64)| {
            per_1000_gets * requests as f64 / 1e3 + per_gb * bytes as f64 / 1e9
        };
        Some(Money {
            price_per_1000_gets: per_1000_gets,
            price_per_gb: per_gb,
            spent: of(fetched),
            full_download: of(full_download),
            saved: of(full_download) - of(fetched),
        })
    }
}
