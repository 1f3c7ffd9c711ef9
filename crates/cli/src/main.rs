//! The `attachfs` program: arguments as typed, what they mean, run.

mod args;
mod daemon;
mod exit;
mod halt;
mod logging;
mod output;
mod paths;
mod places;
mod progress;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

fn main() -> ExitCode {
    let mut command = args::Args::command();
    let matches = command.get_matches_mut();
    let args = match args::Args::from_arg_matches(&matches) {
        Ok(args) => args,
        Err(error) => error.format(&mut command).exit(),
    };
    let typed = paths::typed(&command, &matches);
    let typed = typed.iter().map(PathBuf::as_path);
    if let Err(error) = attachfs::require_answers(typed, &places::places(None)) {
        return exit::code(Err(error.into()));
    }
    if let Err(text) = logging::start(args.globals.verbose, args.log()) {
        return exit::code(Err(attachfs::Error::usage(text).into()));
    }
    let code = exit::code(verbs::dispatch(args));
    logging::finish();
    code
}
