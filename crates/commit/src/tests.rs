//! Commits over real stores: what is in them afterwards, and what is not after something went wrong.

mod choosing;
mod generations;
mod interrupted;
mod ordering;
mod whole;
