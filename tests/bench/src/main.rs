//! `attachfs-bench`: one piece of the library's work on a manifest, timed from inside.
//!
//! What a program does with a manifest in its memory cannot be timed from outside without its start, and the reference
//! implementations are libraries. So this program does one piece, [`measure`]s exactly that, and prints one line of JSON.
//! [`work`] says what is inside. `cargo xtask bench` runs it beside the references; it is built for release, with the library's
//! crates as the product has them.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

mod measure;
mod work;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(
    name = "attachfs-bench",
    about = "Does one piece of work on a manifest and says how long it took"
)]
struct Arguments {
    #[command(subcommand)]
    work: work::Work,
}

fn main() -> ExitCode {
    match work::run(&Arguments::parse().work) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("attachfs-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
