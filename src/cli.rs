//! The command line: arguments, what they start, and the exit code.
//!
//! stdout belongs to the protocol; what we say goes to stderr. Only what has no wire prints to stdout: `demo`,
//! `completions`, `man`, `--help` and `--version`.

mod args;
mod exit;
mod pages;
#[cfg(unix)]
mod proxy;
mod version;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};

use args::{Args, Task};
pub(crate) use exit::{Failure, RUNTIME};

/// Runs the command as typed.
pub(crate) fn run(typed: impl IntoIterator<Item = OsString>) -> Result<ExitCode, Failure> {
    let typed: Vec<OsString> = typed.into_iter().collect();
    // For ourselves only, so that no help, completion or page speaks of it.
    if typed.get(1).is_some_and(|word| word == DEMO_SERVER) {
        return crate::demo::serve();
    }
    let parsed = Args::command().try_get_matches_from(typed).and_then(|typed| {
        let args = Args::from_arg_matches(&typed)?;
        Ok((typed, args))
    });
    let args = match parsed {
        Ok((typed, args)) => {
            args::scope::check(&typed)?;
            args
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // A reader that has seen enough is no failure.
            let _ = error.print();
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(Failure::usage(&error)),
    };
    match args.task {
        #[cfg(unix)]
        Task::Proxy(args) => proxy::run(*args),
        Task::Pipe(args) => crate::filter::run(args.into_options()?),
        Task::Demo(args) => crate::demo::run(args.calls),
        Task::Completions { shell } => pages::completions(shell),
        Task::Man { of } => pages::manual(&of),
    }
}

/// What the demonstration starts this program as.
pub(crate) const DEMO_SERVER: &str = "__demo-server";
