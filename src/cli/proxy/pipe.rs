//! `shadowcat proxy -- COMMAND`: from checked arguments to a session, and from its outcome to an exit code.

use std::{io, process::ExitCode};

use shadowcat::{
    link::{
        log_end,
        stdio::{self as link, Cause, Options, Outcome},
        waits::Waits,
    },
    supervise::{Command, SpawnError},
    telemetry::{Log, LogFormat},
    transport::stdio,
};

use tokio::time::timeout;

use super::{
    command::{self, Server},
    scraping::Scraping,
};
use crate::cli::{
    args::ProxyArgs,
    exit::{Failure, RUNTIME, UPSTREAM, USAGE},
};

/// What the program needs of the arguments.
struct Plan {
    command: Command,
    /// How the server is called in front of its stderr lines.
    name: String,
    options: Options,
}

/// Runs the session to its end.
pub(crate) fn run(args: ProxyArgs) -> Result<ExitCode, Failure> {
    let (level, format): (_, LogFormat) = (args.log.log_level.into(), args.log.log_format.into());
    let (plan, scraping) = Plan::new(args)?;
    let log = Log::start(level, format);
    let runtime = super::single_threaded()?;
    let outcome = runtime.block_on(scraping.during(format, proxied(plan, &log)));
    // A helper thread may still be waiting for a file or a terminal; it ends with the process.
    runtime.shutdown_background();
    log.finish();
    outcome.and_then(|outcome| judge(&outcome)).map_err(|failure| failure.with_format(format))
}

impl Plan {
    fn new(mut args: ProxyArgs) -> Result<(Self, Scraping), Failure> {
        let Some(Server { command, name, shutdown }) = command::take(&mut args) else {
            return Err(Failure::new(USAGE, "no server to start"));
        };
        let (max_pending, drain) = (args.max_pending, args.drain_timeout);
        let options = Options {
            limits: args.limits()?,
            max_pending,
            shutdown,
            drain,
            start_timeout: args.start_timeout,
            resources: super::resources(&args)?,
            waits: args.waits.or(Waits::default()),
        };
        let scraping = Scraping::alone(&args, &options.resources)?;
        Ok((Self { command, name, options }, scraping))
    }
}

async fn proxied(plan: Plan, log: &Log) -> Result<Outcome, Failure> {
    let mut keeper = command::keeper(plan.options.shutdown)?;
    let limit = plan.options.start_timeout;
    let child = match timeout(limit, keeper.spawn(&plan.command)).await {
        Ok(child) => child.map_err(not_started)?,
        Err(_) => return Err(Failure::new(UPSTREAM, format!("child start took longer than {limit:?}"))),
    };
    tracing::info!(server = plan.name, pid = %child.id, "server started");
    let stdio = stdio::take().map_err(|error| broken("cannot use stdin and stdout", &error))?;
    let mut lines = log.server_lines(plan.name.clone());
    let lines = async move |line: &[u8]| lines.pass(line).await;
    let outcome = link::run(stdio, &mut keeper, child, lines, plan.options.clone()).await;
    // Also when the session failed: nothing stays behind.
    let finished = keeper.finish();
    let outcome = outcome.map_err(|error| broken("the session failed", &error))?;
    finished.map_err(|error| broken("the keeper process failed", &error))?;
    let Outcome { cause, status, orphans, counts, blocked, .. } = &outcome;
    tracing::info!(%status, "server reaped");
    log_end(cause, *orphans, *counts, *blocked);
    Ok(outcome)
}

fn judge(outcome: &Outcome) -> Result<ExitCode, Failure> {
    if outcome.is_clean() {
        return Ok(ExitCode::SUCCESS);
    }
    let Outcome { cause, status, orphans, last_words, .. } = outcome;
    let mut line = match cause {
        Cause::Mute(limit) => {
            format!("the server did not answer initialize within {limit:?}, and was ended ({status})")
        }
        Cause::Timeout(timeout) => timeout.to_string(),
        _ => format!("the server ended ({status}) {}", super::too_early(*orphans)),
    };
    if !last_words.is_empty() {
        line.push_str(&format!("; its stderr ends: {}", last_words.join(" | ")));
    }
    Err(Failure::new(RUNTIME, line))
}

fn not_started(error: SpawnError) -> Failure {
    let code = if matches!(error, SpawnError::Keeper(_)) { RUNTIME } else { UPSTREAM };
    Failure::new(code, error.to_string())
}

fn broken(what: &str, error: &io::Error) -> Failure {
    Failure::new(RUNTIME, format!("{what}: {error}"))
}
