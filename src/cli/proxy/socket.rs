//! `shadowcat proxy unix:PATH` or `tcp:HOST:PORT`: a client on stdin and stdout, a server on a socket.

use std::process::ExitCode;

use shadowcat::{
    link::{
        log_end,
        socket::{self as link, Cause, Options, Outcome},
        waits::Waits,
    },
    telemetry::Log,
    transport::{
        connection::{Connection, Target},
        stdio,
    },
};

use super::{broken, connect_timeout, run_session, scraping::Scraping};
use crate::cli::{
    args::ProxyArgs,
    exit::{Failure, RUNTIME, UPSTREAM},
};

/// Runs the session to its end.
pub(crate) fn run(target: &Target, args: &ProxyArgs) -> Result<ExitCode, Failure> {
    let (limits, max_pending) = (args.limits()?, args.max_pending);
    let resources = super::resources(args)?;
    let (grace, waits) = (args.shutdown_grace, args.waits.or(Waits::default()));
    let options = Options { limits, max_pending, grace, drain: args.drain_timeout, resources, waits };
    let limit = connect_timeout(args);
    let scraping = Scraping::alone(args, &options.resources)?;
    let session = async |_: &Log| {
        let upstream = Connection::connect(target, limit).await;
        let upstream = upstream.map_err(|error| {
            Failure::new(UPSTREAM, format!("cannot connect to {target}: {error}; does the server listen there?"))
        })?;
        connected(upstream, options).await
    };
    run_session(&args.log, scraping, session, judge)
}

async fn connected(upstream: Connection, options: Options) -> Result<Outcome, Failure> {
    let stdio = stdio::take().map_err(|error| broken("cannot use stdin and stdout", &error))?;
    let outcome = link::run(stdio, upstream, options).await.map_err(|error| broken("the session failed", &error))?;
    log_end(&outcome.cause, outcome.orphans, outcome.counts, outcome.blocked);
    Ok(outcome)
}

fn judge(outcome: &Outcome) -> Result<ExitCode, Failure> {
    if outcome.is_clean() {
        return Ok(ExitCode::SUCCESS);
    }
    let when = super::too_early(outcome.orphans);
    if let Cause::Timeout(timeout) = &outcome.cause {
        return Err(Failure::new(RUNTIME, timeout.to_string()));
    }
    Err(Failure::new(RUNTIME, format!("the server's connection ended {when}")))
}
