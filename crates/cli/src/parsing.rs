//! From the command line and the variables that stand for options to [`Args`].
//!
//! An empty variable says nothing, as if it were not set. A bad value of a variable is told by the variable's name: the option that it
//! stands for was not typed.

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use crate::args::Args;

/// What was typed, with the command that parsed it.
pub(crate) type Parsed = (Args, Command, ArgMatches);

/// Ends the program where it was asked for help, or where what was typed is no command line.
pub(crate) fn parse() -> Parsed {
    let words: Vec<OsString> = std::env::args_os().collect();
    parsed(&words).unwrap_or_else(|error| error.exit())
}

fn parsed(words: &[OsString]) -> Result<Parsed, clap::Error> {
    match parsed_by(Args::command().mut_args(without_empty), words) {
        Err(error) if error.use_stderr() => Err(without_variables(error, words)),
        parsed => parsed,
    }
}

fn parsed_by(command: Command, words: &[OsString]) -> Result<Parsed, clap::Error> {
    let mut command = in_subcommands(command, without_empty);
    let matches = command.try_get_matches_from_mut(words)?;
    match Args::from_arg_matches(&matches) {
        Ok(args) => Ok((args, command, matches)),
        Err(error) => Err(error.format(&mut command)),
    }
}

/// What to say instead of an error: without variables the usage line names what was typed, and nothing that a variable says. If
/// only a variable is wrong, that.
fn without_variables(error: clap::Error, words: &[OsString]) -> clap::Error {
    let mut command = in_subcommands(Args::command().mut_args(without), without);
    match command.try_get_matches_from_mut(words) {
        Err(same) => same,
        Ok(_) => of_variable(error),
    }
}

/// The error with the variable's name in it.
fn of_variable(error: clap::Error) -> clap::Error {
    let variables = variables();
    let text = error.to_string();
    let option = |(_, option): &&(String, String)| text.contains(&format!("'{option}'"));
    let Some((variable, option)) = variables.iter().find(option) else {
        return error;
    };
    let what = text.lines().next().unwrap_or_default();
    let what = what.trim_start_matches("error: ");
    let what = what.replace(&format!(" for '{option}'"), "");
    let sentence = format!("the variable {variable}, which stands for '{option}': {what}\n");
    clap::Error::raw(ErrorKind::ValueValidation, sentence)
}

/// All variables, with the options that they stand for, as errors write them.
fn variables() -> Vec<(String, String)> {
    let mut command = Args::command();
    // An option has its text from then on.
    command.build();
    variables_of(&command)
}

fn variables_of(command: &Command) -> Vec<(String, String)> {
    let of = |arg: &Arg| {
        let name = arg.get_env()?.to_string_lossy().into_owned();
        Some((name, arg.to_string()))
    };
    let mut found: Vec<_> = command.get_arguments().filter_map(of).collect();
    for command in command.get_subcommands() {
        found.extend(variables_of(command));
    }
    found
}

fn in_subcommands(command: Command, change: fn(Arg) -> Arg) -> Command {
    command.mut_subcommands(|command| in_subcommands(command.mut_args(change), change))
}

fn without(arg: Arg) -> Arg {
    arg.env(Resettable::Reset)
}

fn without_empty(arg: Arg) -> Arg {
    let value = arg.get_env().and_then(std::env::var_os);
    match value {
        Some(value) if value.is_empty() => without(arg),
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_known_with_its_option() {
        let variables = variables();
        for (variable, option) in [
            ("ATTACHFS_MAX_CACHE_SIZE", "--max-cache-size <SIZE>"),
            ("AWS_CA_BUNDLE", "--ca-bundle <FILE>"),
        ] {
            let known = (variable.to_owned(), option.to_owned());
            assert!(variables.contains(&known), "{variables:?}");
        }
    }
}
