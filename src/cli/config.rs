//! The settings of `shadowcat proxy` from all their sources: defaults < file < environment < flags.
//!
//! Nothing is defined here. Keys of the file and names in the environment follow from the flags (`keys`); what a flag
//! has not said is put among the arguments, and the command line is parsed again, so that one parser judges all
//! values and no flag can be without its key. What a source says is a [`Given`] with its origin, so that errors and
//! `config show` can tell who said it.

#[cfg(test)]
mod documented;
pub(crate) mod environment;
mod file;
mod keys;
mod merge;
mod problem;
mod show;

use std::{ffi::OsString, fmt, path::PathBuf, process::ExitCode};

use clap::{ArgMatches, Command, FromArgMatches as _, parser::ValueSource};

use super::{
    args::ProxyArgs,
    exit::{CONFIGURATION, Failure},
    pages,
};
use file::File;
use merge::Line;
use problem::Problem;

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The process, its listener, and the server if it is the only one.
    pub(crate) whole: Target,
    /// The servers of the file, if clients are to find each at a path of its own.
    pub(crate) servers: Vec<Target>,
}

/// The arguments that one server is run with.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its name in the file.
    pub(crate) name: Option<String>,
    pub(crate) args: ProxyArgs,
    matches: ArgMatches,
    given: Vec<Given>,
}

/// What one source says of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    id: String,
    /// As on the command line. Empty for what stands there already.
    values: Vec<OsString>,
    origin: Origin,
}

/// Who said something.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// A file, at this line.
    File(PathBuf, usize),
    /// This environment variable.
    Environment(String),
    /// The command line.
    Flag,
}

/// Settles what the command line asks for, with the file and the environment. `proxy` is what clap made of the
/// arguments behind `names`, by its definition of them.
pub(crate) fn settle(
    typed: &[OsString],
    proxy: &ArgMatches,
    names: &[&str],
    definition: &Command,
) -> Result<Settings, Failure> {
    let shape = keys::proxy(definition);
    let environment = environment::read(shape)?;
    let file = match environment::config_file(proxy) {
        Some(path) => File::read(&path, shape).map_err(|problems| problem::failure(&path, problems))?,
        None => File::default(),
    };
    let line = Line::new(typed, names.len(), flags(proxy), proxy);
    merge::settle(&line, file, environment)
}

/// `shadowcat config show`.
pub(crate) fn show(settings: &Settings, definition: &Command) -> Result<ExitCode, Failure> {
    pages::print(show::rendered(settings, keys::proxy(definition)).as_bytes())
}

/// `shadowcat config check FILE…`. Says of each file what is wrong with it.
pub(crate) fn check(files: &[PathBuf], definition: &Command) -> Result<ExitCode, Failure> {
    let shape = keys::proxy(definition);
    let (mut report, mut is_good) = (String::new(), true);
    for path in files {
        let problems = File::read(path, shape).and_then(|file| merge::check(path, file));
        match problems {
            Ok(servers) => report.push_str(&format!("{}: good, {servers}\n", path.display())),
            Err(problems) => {
                is_good = false;
                problems.iter().for_each(|problem| report.push_str(&format!("{problem}\n")));
            }
        }
    }
    pages::print(report.as_bytes())?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(CONFIGURATION) })
}

/// What was typed, as far as it is about the proxy.
fn flags(proxy: &ArgMatches) -> Vec<Given> {
    let ids = proxy.ids().map(clap::Id::as_str);
    let typed = ids.filter(|id| proxy.value_source(id) == Some(ValueSource::CommandLine));
    // Groups of arguments have ids too.
    let typed = typed.filter(|id| keys::is_argument(id));
    typed.map(|id| Given { id: id.to_owned(), values: Vec::new(), origin: Origin::Flag }).collect()
}

impl Target {
    fn new(name: Option<String>, matches: ArgMatches, given: Vec<Given>) -> Result<Self, clap::Error> {
        let args = ProxyArgs::from_arg_matches(&matches)?;
        Ok(Self { name, args, matches, given })
    }

    /// Who said what this key is; `None` if nobody did.
    fn origin(&self, id: &str) -> Option<&Origin> {
        self.given.iter().find(|given| given.id == id).map(|given| &given.origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}
