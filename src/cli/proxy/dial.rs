//! `shadowcat proxy URL`: a client on stdin and stdout, a server over HTTP.

use std::process::ExitCode;

use shadowcat::{
    link::{
        dial::{self as link, Cause, Options, Outcome},
        log_end,
        waits::Waits,
    },
    telemetry::{Log, metrics::labels::Link},
    transport::{http::Client, stdio},
};

use super::{broken, run_session, scraping::Scraping};
use crate::cli::{
    args::ProxyArgs,
    exit::{Failure, RUNTIME, UPSTREAM},
};

/// Runs the session to its end.
pub(crate) fn run(args: &ProxyArgs) -> Result<ExitCode, Failure> {
    let limits = args.limits()?;
    let resources = super::resources(args)?;
    let waits = args.waits.or(Waits::default());
    let options = Options { limits, max_pending: args.max_pending, drain: args.drain_timeout, resources, waits };
    let scraping = Scraping::alone(args, &options.resources)?;
    let client = super::client(args, Link::Dial, &options.resources)?;
    run_session(&args.log, scraping, async |_: &Log| dialed(client, options).await, judge)
}

async fn dialed(client: Client, options: Options) -> Result<Outcome, Failure> {
    let stdio = stdio::take().map_err(|error| broken("cannot use stdin and stdout", &error))?;
    let outcome = link::run(stdio, client, options).await.map_err(|error| broken("the session failed", &error))?;
    log_end(&outcome.cause, outcome.orphans, outcome.counts, outcome.blocked);
    Ok(outcome)
}

fn judge(outcome: &Outcome) -> Result<ExitCode, Failure> {
    if outcome.is_clean() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(match &outcome.cause {
        Cause::Unreachable(what) => {
            Failure::new(UPSTREAM, format!("{what}; 'shadowcat doctor URL' looks at what is on the way"))
        }
        Cause::Server => Failure::new(RUNTIME, "the server ended its stream before the client was done"),
        Cause::Timeout(timeout) => Failure::new(RUNTIME, timeout.to_string()),
        cause => Failure::new(RUNTIME, format!("{cause}, with {} unanswered in time", outcome.orphans)),
    })
}
