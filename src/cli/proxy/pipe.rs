//! `shadowcat proxy -- COMMAND`: from checked arguments to a session, and from its outcome to an exit code.

use std::process::ExitCode;

use shadowcat::{
    link::{
        log_end,
        stdio::{self as link, Cause, Options, Outcome},
        waits::Waits,
    },
    supervise::{Command, SpawnError},
    telemetry::Log,
    transport::stdio,
};

use tokio::time::timeout;

use super::{
    broken,
    command::{self, Server},
    run_session,
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
pub(crate) fn run(mut args: ProxyArgs) -> Result<ExitCode, Failure> {
    let (plan, scraping) = Plan::new(&mut args)?;
    run_session(&args.log, scraping, async |log: &Log| proxied(plan, log).await, judge)
}

impl Plan {
    fn new(args: &mut ProxyArgs) -> Result<(Self, Scraping), Failure> {
        let Some(Server { command, name, shutdown }) = command::take(args) else {
            return Err(Failure::new(USAGE, "no server to start"));
        };
        let (max_pending, drain) = (args.max_pending, args.drain_timeout);
        let options = Options {
            limits: args.limits()?,
            max_pending,
            shutdown,
            drain,
            start_timeout: args.start_timeout,
            resources: super::resources(args)?,
            waits: args.waits.or(Waits::default()),
        };
        let scraping = Scraping::alone(args, &options.resources)?;
        Ok((Self { command, name, options }, scraping))
    }
}

async fn proxied(plan: Plan, log: &Log) -> Result<Outcome, Failure> {
    let mut keeper = command::keeper(plan.options.shutdown)?;
    let limit = plan.options.start_timeout;
    let child = match timeout(limit, keeper.spawn(&plan.command)).await {
        Ok(child) => child.map_err(not_started)?.widening(),
        Err(_) => return Err(Failure::new(UPSTREAM, format!("child start took longer than {limit:?}"))),
    };
    tracing::info!(server = plan.name, pid = %child.id, "server started");
    let stdio = stdio::take().map_err(|error| broken("cannot use stdin and stdout", &error))?;
    let mut lines = log.server_lines(plan.name.clone());
    let lines = async move |line: &[u8]| lines.pass(line).await;
    crate::allocator::forget_start();
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
            format!(
                "the server did not answer initialize within {limit:?}, and was ended ({status}); what downloads itself first, \
                 as with npx or uvx, is quick once it is installed: else --start-timeout gives it longer"
            )
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
