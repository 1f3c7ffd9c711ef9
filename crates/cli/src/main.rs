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
    halt::prepare();
    let (args, command, matches) = parsing::parse();
    let typed = paths::typed(&command, &matches);
    let typed = typed.iter().map(PathBuf::as_path);
    let answering = match attachfs::require_answers(typed, &places::places()) {
        Ok(answering) => answering,
        Err(error) => return exit::code(Err(error.into())),
    };
    let watch = args.globals.watch.clone();
    if !args.verb.uses_paths() {
        watch.end();
    }
    if let Err(error) = answering.watch(watch, places::places(), exit::at_once) {
        return exit::code(Err(error.into()));
    }
    if let Err(text) = logging::start(args.globals.verbose, args.log()) {
        return exit::code(Err(attachfs::Error::usage(text).into()));
    }
    let code = exit::code(verbs::dispatch(args));
    logging::finish();
    code
}
