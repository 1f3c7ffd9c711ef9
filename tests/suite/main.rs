//! The suites across crates, in one program so that they are linked once.

mod architecture;
mod example;
mod programs;
