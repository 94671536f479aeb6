//! `shadowcat doctor URL`: what is between a client and an MCP server over HTTP, and what to change.
//!
//! It speaks to the server as a client does, with our own HTTP client, and says of each check what was seen. It may
//! send messages of its own because a person asked for that: initialize, ping, server/discover, DELETE; never a call
//! of a tool. A session that it opened it ends, also when it is interrupted.
//!
//! [`asker`] knows how to speak, [`answer`] what an answer says; each check is a module that makes [`Finding`]s.

mod answer;
mod asker;
mod finding;
mod guarded;
mod kept;
mod reachable;
mod sizes;
mod speaks;
mod streams;

use std::{pin::pin, process::ExitCode, time::Duration};

use futures::future::{Either, select};
use shadowcat::transport::http::client::{Config, Probe};
use tokio::{runtime, time::timeout};

use self::{
    asker::{Asker, Era},
    finding::{Finding, Report},
};
use super::{
    advice,
    args::doctor::DoctorArgs,
    exit::{Failure, RUNTIME, UPSTREAM, USAGE},
};

/// Looks, says what was seen, and gives the worst of it as exit code.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    if args.url.starts_with("unix:") || args.url.starts_with("tcp:") {
        let line = format!(
            "doctor asks servers over HTTP, and {} is a socket of lines; to see whether it answers: \
             echo '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}}' | shadowcat proxy {}",
            args.url, args.url
        );
        return Err(Failure::new(USAGE, line));
    }
    let config = args.reach.client_config(&args.url)?;
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| Failure::new(RUNTIME, format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(examined(args, config));
    runtime.shutdown_background();
    outcome
}

/// How the examination ended.
enum End {
    Done,
    Unreachable,
    TooLong,
    Stopped,
}

async fn examined(args: &DoctorArgs, config: Config) -> Result<ExitCode, Failure> {
    let probe = Probe::new(config.clone()).map_err(|error| advice::unreachable(&error))?;
    let mut asker = Asker::new(config).map_err(|error| advice::unreachable(&error))?;
    let mut report = Report::new(args.json);
    let end = {
        let examining = pin!(timeout(args.timeout, examine(args, &probe, &mut asker, &mut report)));
        match select(examining, pin!(tokio::signal::ctrl_c())).await {
            Either::Left((Ok(end), _)) => end?,
            Either::Left((Err(_), _)) => End::TooLong,
            Either::Right(_) => End::Stopped,
        }
    };
    if let Some(finding) = kept::leave(&mut asker).await {
        report.add(finding)?;
    }
    match end {
        End::Unreachable => return Ok(ExitCode::from(UPSTREAM)),
        End::Done => {}
        End::TooLong => {
            let seen = format!("not done within {} s", args.timeout.as_secs());
            report
                .add(Finding::problem("timeout", seen).advise("give it longer: --timeout; or less to do: --idle 0"))?;
        }
        End::Stopped => return Err(Failure::new(RUNTIME, "stopped before it was done")),
    }
    Ok(if report.has_problem() { ExitCode::from(RUNTIME) } else { ExitCode::SUCCESS })
}

async fn examine(args: &DoctorArgs, probe: &Probe, asker: &mut Asker, report: &mut Report) -> Result<End, Failure> {
    let place = match reachable::check(probe, asker).await {
        Ok((finding, place)) => {
            report.add(finding)?;
            place
        }
        Err(finding) => {
            report.add(finding)?;
            return Ok(End::Unreachable);
        }
    };
    report.add(speaks::check(asker).await)?;
    report.add(streams::headers(asker))?;
    if matches!(asker.era(), Some(Era::Sessions(_) | Era::Modern)) {
        report.add(kept::connection(asker).await)?;
        for finding in kept::session(asker).await {
            report.add(finding)?;
        }
        report.add(guarded::check(asker, probe, place).await)?;
        report.add(sizes::check(asker, args.max_size.as_u64()).await)?;
    }
    if asker.era().is_some() {
        for finding in streams::check(asker, args.idle).await {
            report.add(finding)?;
        }
    }
    Ok(End::Done)
}

/// How long an answer to a small message is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
