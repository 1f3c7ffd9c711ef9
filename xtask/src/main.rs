//! The project's tasks: `cargo xtask test`, `cargo xtask bench`, `cargo xtask soak`.
//!
//! Each one does all the set-up that it needs, so that the same command works for a person, for CI and on a new machine.

#![allow(clippy::print_stdout, reason = "a program that talks to a terminal")]

mod bench;
mod cargo;
mod peers;
mod soak;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Tasks of this project")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Sets up what is missing, then checks and tests everything
    Test(test::Options),
    /// Measures, and prints a table in Markdown
    Bench(bench::Options),
    /// Does one piece of what is measured
    #[command(subcommand, hide = true)]
    BenchIo(bench::Work),
    /// Reads a mount as the soak of reads does
    #[command(hide = true)]
    SoakReaders(soak::Readers),
    /// Runs all tests again and again, with more cases each, until the time is up or one fails
    Soak(soak::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Test(options) => Ok(test::run(&options)),
        Task::Bench(options) => bench::run(&options),
        Task::BenchIo(work) => bench::work(&work),
        Task::SoakReaders(work) => Ok(soak::be_readers(&work)),
        Task::Soak(options) => soak::run(&options),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
