//! `shadowcat proxy --listen unix:PATH` or `--listen tcp:…`: clients that speak lines of JSON over a socket.

use std::{net::SocketAddr, process::ExitCode};

use shadowcat::{
    link::lines::{Lines, LinesOptions},
    telemetry::{Log, LogFormat, metrics::labels::Link},
    transport::{
        connection::Target,
        http::Client,
        listen::{Address, Listening},
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    broken,
    command::{self, Server},
    connect_timeout,
    scraping::Scraping,
    stopping::{Signals, announce, serve_until_stopped},
};
use crate::cli::{
    advice,
    args::{ProxyArgs, server::ServerAddr},
    exit::{Failure, RUNTIME},
};

/// What is on the other side.
enum Upstream {
    Command(Server),
    Socket(Target),
    Url(Box<Client>),
}

/// Serves until told to stop.
pub(crate) fn run(address: Address, mut args: ProxyArgs) -> Result<ExitCode, Failure> {
    let (level, format): (_, LogFormat) = (args.log.log_level.into(), args.log.log_format.into());
    let options = options(&args)?;
    let upstream = match command::take(&mut args) {
        Some(server) => Upstream::Command(server),
        None => match &args.url {
            Some(ServerAddr::Socket(target)) => Upstream::Socket(target.clone()),
            _ => Upstream::Url(Box::new(super::client(&args, Link::Dial, &options.resources)?)),
        },
    };
    let scraping = Scraping::alone(&args, &options.resources)?;
    let log = Log::start(level, format);
    let runtime = super::multi_threaded()?;
    let served = runtime.block_on(scraping.during(format, served(&address, upstream, options, &log, format)));
    runtime.shutdown_background();
    log.finish();
    served.map(|()| ExitCode::SUCCESS).map_err(|failure| failure.with_format(format))
}

async fn served(
    address: &Address,
    upstream: Upstream,
    options: LinesOptions,
    log: &Log,
    format: LogFormat,
) -> Result<(), Failure> {
    let lines = match upstream {
        Upstream::Command(Server { command, name, .. }) => {
            let keeper = command::keeper(options.shutdown)?;
            Lines::before_command(command, keeper, log.server_lines(name), options)
        }
        Upstream::Socket(target) => Lines::before_socket(target, options),
        Upstream::Url(client) => Lines::before_http(*client, options),
    };
    // Before anybody can know that we are here, so that a signal always finds us listening to it.
    let mut signals = Signals::new().map_err(|error| broken("cannot watch signals", &error))?;
    let listening = Listening::bind(address)
        .await
        .map_err(|error| Failure::new(RUNTIME, advice::listening("--listen", address, &error)))?;
    let bound = listening.local_addr().map_err(|error| broken("cannot listen", &error))?;
    if let Some(warning) = warning(bound) {
        announce(&warning, "WARN", format);
    }
    let place = bound.map_or_else(|| format!("unix:{address}"), |bound| format!("tcp:{bound}"));
    announce(&format!("listening on {place}"), "INFO", format);
    let drain = CancellationToken::new();
    // Told twice, what is left ends with its tasks.
    let _told = serve_until_stopped(lines.serve(listening, drain.clone()), &drain, &mut signals).await;
    lines.close().await.map_err(|error| broken("the keeper process failed", &error))
}

fn options(args: &ProxyArgs) -> Result<LinesOptions, Failure> {
    let mut options = LinesOptions::new(args.limits()?);
    let sessions = &args.listen.sessions;
    options.max_pending = args.max_pending;
    options.resources = super::resources(args)?;
    options.waits = args.waits.or(options.waits);
    options.max_sessions = sessions.max_sessions.unwrap_or(options.max_sessions);
    options.shutdown = command::times(args);
    options.start_timeout = match &args.url {
        Some(_) => connect_timeout(args),
        None => args.start_timeout,
    };
    options.drain_timeout = args.drain_timeout.unwrap_or(options.drain_timeout);
    Ok(options)
}

/// What somebody should know who lets other machines in (Rule S3: MCP 2025-11-25, Transports). Lines have no
/// place for a token, and no TLS.
fn warning(bound: Option<SocketAddr>) -> Option<String> {
    let bound = bound.filter(|bound| !bound.ip().to_canonical().is_loopback())?;
    Some(format!(
        "WARNING: {bound} is not loopback: other machines can use this server, and all it can do, without being \
         asked who they are, and everybody on the way reads along; --listen IP:PORT with --require-bearer-env VAR \
         and --tls-cert keeps strangers out"
    ))
}
