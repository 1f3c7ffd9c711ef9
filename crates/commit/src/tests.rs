//! Commits over real stores: the content of the stores afterwards, also after failures.

mod choosing;
mod early;
mod generations;
mod interrupted;
mod lost;
mod ordering;
mod selecting;
mod special;
mod whole;
