//! The command line: arguments, what they start, and the exit code.
//!
//! stdout belongs to the protocol; what we say goes to stderr. Only what has no wire prints to stdout: `demo`,
//! `doctor`, `completions`, `man`, `--help` and `--version`.

mod advice;
mod args;
#[cfg(unix)]
mod config;
mod doctor;
mod exit;
mod pages;
#[cfg(unix)]
mod proxy;
mod version;

use std::{ffi::OsString, process::ExitCode};

use clap::{ArgMatches, Command, FromArgMatches as _, error::ErrorKind};

#[cfg(unix)]
use args::ConfigTask;
use args::{Args, Task};
use exit::USAGE;
pub(crate) use exit::{Failure, RUNTIME};

/// Runs the command as typed.
pub(crate) fn run(typed: impl IntoIterator<Item = OsString>) -> Result<ExitCode, Failure> {
    let typed: Vec<OsString> = typed.into_iter().collect();
    // For ourselves only, so that no help, completion or page speaks of it.
    #[cfg(unix)]
    if typed.get(1).is_some_and(|word| word == DEMO_SERVER) {
        return crate::demo::serve();
    }
    let mut definition = args::definition();
    let parsed = definition.try_get_matches_from_mut(&typed).and_then(|matches| {
        let args = Args::from_arg_matches(&matches)?;
        Ok((matches, args))
    });
    match parsed {
        Ok((matches, args)) => start(args.task, &typed, &matches, definition),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // A reader that has seen enough is no failure.
            let _ = error.print();
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(advice::usage(&error, &typed)),
    }
}

fn start(task: Task, typed: &[OsString], matches: &ArgMatches, mut shape: Command) -> Result<ExitCode, Failure> {
    let below = |names: &[&str]| names.iter().try_fold(matches, |matches, name| matches.subcommand_matches(name));
    match task {
        #[cfg(unix)]
        Task::Proxy(_) => match below(&["proxy"]) {
            Some(proxy) => proxy::run(config::settle(typed, proxy, &["proxy"], &shape)?),
            None => Err(Failure::new(USAGE, "no arguments")),
        },
        #[cfg(unix)]
        Task::Config(ConfigTask::Show(_)) => match below(&["config", "show"]) {
            Some(proxy) => {
                shape.build();
                config::show(&config::settle(typed, proxy, &["config", "show"], &shape)?, &shape)
            }
            None => Err(Failure::new(USAGE, "no arguments")),
        },
        #[cfg(unix)]
        Task::Config(ConfigTask::Check { files }) => {
            shape.build();
            config::check(&files, &shape)
        }
        Task::Doctor(args) => doctor::run(&args),
        Task::Pipe(args) => crate::filter::run(args.into_options()?),
        #[cfg(unix)]
        Task::Demo(args) => crate::demo::run(args.calls),
        Task::Completions { shell } => pages::completions(shell),
        Task::Man { of } => pages::manual(&of),
    }
}

/// What the demonstration starts this program as.
#[cfg(unix)]
pub(crate) const DEMO_SERVER: &str = "__demo-server";
