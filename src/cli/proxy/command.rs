//! The server's command out of the arguments.
//!
//! What every link with children needs alike: the command without what is ours in the environment, the keeper that starts it, and
//! how long its end may take.

use std::path::Path;

use shadowcat::supervise::{
    Command,
    keeper::{self, Keeper},
    ladder::Times,
};

use crate::cli::{
    args::ProxyArgs,
    config::environment,
    exit::{Failure, RUNTIME},
};

/// A server that is started.
pub(super) struct Server {
    pub(super) command: Command,
    /// How it is called in front of its stderr lines.
    pub(super) name: String,
    pub(super) shutdown: Times,
}

/// Takes the command out of the arguments; `None` if there is none.
pub(super) fn take(args: &mut ProxyArgs) -> Option<Server> {
    let mut words = std::mem::take(&mut args.command).into_iter();
    let program = words.next()?;
    let name = Path::new(&program).file_name().unwrap_or(&program).to_string_lossy().into_owned();
    let mut command = Command::new(program).with_args(words);
    command.env = std::mem::take(&mut args.env);
    command.env_remove = environment::ours();
    (command.env_clear, command.cwd) = (args.env_clear, args.cwd.take());
    Some(Server { command, name, shutdown: times(args) })
}

/// Starts the process that starts and ends children.
pub(super) fn keeper(times: Times) -> Result<Keeper, Failure> {
    // Whoever is patient with a server need not be with what outlives a session.
    let term = times.term.min(keeper::TERM_TIME);
    // This program starts nothing but keepers.
    let keeper = keeper::adopt_orphans().and_then(|()| Keeper::start_with(term));
    keeper.map_err(|error| Failure::new(RUNTIME, format!("cannot start the keeper process: {error}")))
}

/// How long each step of a server's shutdown waits.
pub(super) fn times(args: &ProxyArgs) -> Times {
    Times { grace: args.shutdown_grace, term: args.kill_after }
}
