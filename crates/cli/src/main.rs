//! The `attachfs` program: arguments as typed, what they mean, run.

mod args;
mod daemon;
mod exit;
mod halt;
mod logging;
mod output;
mod places;
mod progress;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = args::Args::parse();
    if let Err(text) = logging::start(args.globals.verbose, args.log()) {
        return exit::code(Err(attachfs::Error::usage(text).into()));
    }
    let code = exit::code(verbs::dispatch(args));
    logging::finish();
    code
}
