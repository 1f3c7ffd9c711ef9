//! The `attachfs` program: arguments as typed, what they mean, run.

mod args;
mod daemon;
mod exit;
mod halt;
mod logging;
mod output;
mod parsing;
mod paths;
mod places;
mod progress;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (args, command, matches) = parsing::parse();
    let typed = paths::typed(&command, &matches);
    let typed = typed.iter().map(PathBuf::as_path);
    if let Err(error) = attachfs::require_answers(typed, &places::places()) {
        return exit::code(Err(error.into()));
    }
    if let Err(text) = logging::start(args.globals.verbose, args.log()) {
        return exit::code(Err(attachfs::Error::usage(text).into()));
    }
    let code = exit::code(verbs::dispatch(args));
    logging::finish();
    code
}
