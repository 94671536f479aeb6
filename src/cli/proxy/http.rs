//! `shadowcat proxy --listen ADDR`: HTTP clients, until a signal stops us.

use std::{io, process::ExitCode};

use shadowcat::{
    link::{
        endpoint::{Endpoint, Link},
        relay::Relay,
    },
    telemetry::{Log, LogFormat},
    transport::http::{Client, Listener, client, server},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{
    args::ProxyArgs,
    exit::{Failure, RUNTIME, USAGE},
};

/// Serves until told to stop.
pub(crate) fn run(args: ProxyArgs) -> Result<ExitCode, Failure> {
    let (level, format): (_, LogFormat) = (args.log.log_level.into(), args.log.log_format.into());
    let log = Log::start(level, format);
    let runtime = super::multi_threaded()?;
    let served = runtime.block_on(served(&args));
    runtime.shutdown_background();
    log.finish();
    served.map(|()| ExitCode::SUCCESS).map_err(|failure| failure.with_format(format))
}

async fn served(args: &ProxyArgs) -> Result<(), Failure> {
    let link = Link::Relay(Relay::new(upstream(args)?));
    let Some(address) = args.listen.listen else {
        return Err(Failure::new(USAGE, "no address to listen at"));
    };
    let mut config = server::Config::default();
    config.header_timeout = args.listen.header_timeout.unwrap_or(config.header_timeout);
    let listener = Listener::bind(address, config)
        .await
        .map_err(|error| Failure::new(RUNTIME, format!("cannot listen at {address}: {error}")))?;
    let path = args.listen.path.clone().unwrap_or_else(|| "/mcp".to_owned());
    let bound = listener.local_addr().map_err(|error| broken("cannot listen", &error))?;
    announce(&format!("listening on http://{bound}{path}"));
    let endpoint = Endpoint::new(path, link);
    let stop = stopped().map_err(|error| broken("cannot watch signals", &error))?;
    listener.serve(move |request, peer| endpoint.clone().handle(request, peer), stop).await;
    Ok(())
}

fn upstream(args: &ProxyArgs) -> Result<Client, Failure> {
    let typed = args.url.as_deref().unwrap_or_default();
    let url: http::Uri = typed.parse().map_err(|error| Failure::new(USAGE, format!("'{typed}' is no URL: {error}")))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.authority().is_none() {
        return Err(Failure::new(USAGE, format!("'{typed}' is no URL; want http://… or https://…")));
    }
    let mut config = client::Config::new(url);
    config.connect_timeout = args.upstream.connect_timeout.unwrap_or(config.connect_timeout);
    Client::new(config).map_err(|error| broken("cannot read the system's certificates", &error))
}

/// Says where we are to be found, whatever is logged: whoever let the system choose a port has to know.
#[expect(clippy::print_stderr, reason = "one line to whoever started us, before the log has anything to say")]
fn announce(line: &str) {
    eprintln!("{line}");
}

/// Ready when a signal asks us to stop.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let terminated = std::pin::pin!(terminate.recv());
        let interrupted = std::pin::pin!(interrupt.recv());
        futures::future::select(terminated, interrupted).await;
    })
}

fn broken(what: &str, error: &io::Error) -> Failure {
    Failure::new(RUNTIME, format!("{what}: {error}"))
}
