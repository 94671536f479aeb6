//! `shadowcat proxy --listen ADDR`: HTTP clients, until a signal stops us.
//!
//! The first SIGTERM or SIGINT drains: no more connections, running exchanges to their end, listening
//! streams ended with a hint to come back. The second ends everything at once, but still waits for children;
//! the third leaves them to the keeper. All are clean ends.

mod ebb;
mod listener;

use std::{io, pin::pin, process::ExitCode};

use futures::future::{Either, select};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shadowcat::{
    link::{
        endpoint::{self, Endpoint, Link, Site},
        mux::{ChildSharing, Mux, MuxOptions},
        relay::{self, Relay},
        waits::SlowConsumer,
    },
    resources::Resources,
    telemetry::{Log, LogFormat, metrics::labels},
    transport::http::Listener,
};
use tokio_util::sync::CancellationToken;

use super::{
    broken,
    command::{self, Server},
    scraping::Scraping,
    stopping::{Signals, Told, announce, serve_until_stopped},
};
use crate::cli::{
    advice,
    args::{ProxyArgs, server::ServerAddr},
    config::Settings,
    exit::{Failure, RUNTIME, USAGE},
};
use ebb::Pace;
use listener::Plan;

/// A server, and how clients find it.
struct Behind {
    /// Its name in the file, if clients find it by that.
    name: Option<String>,
    has_legacy_sse: bool,
    upstream: Upstream,
}

/// What is on the other side.
enum Upstream {
    Url(Link),
    Command(Server, Box<MuxOptions>),
}

/// Serves until told to stop.
pub(crate) fn run(settings: Settings) -> Result<ExitCode, Failure> {
    let Settings { whole, servers } = settings;
    let mut args = whole.args;
    // The budget of all must hold the longest message of each.
    args.max_frame_len = servers.iter().map(|server| server.args.max_frame_len).max().unwrap_or(args.max_frame_len);
    let (level, format): (_, LogFormat) = (args.log.log_level.into(), args.log.log_format.into());
    let resources = super::resources(&args)?;
    let scraping = Scraping::beside(&args, &resources);
    let mut plan = Plan::new(&args, resources.clone())?;
    let behind = if servers.is_empty() {
        vec![Behind::new(None, args, resources)?]
    } else {
        let named = servers.into_iter().map(|server| (server.name.unwrap_or_default(), server.args));
        let behind = named.map(|(name, args)| {
            let of = format!("servers.{name}");
            Behind::new(Some(name), args, resources.clone()).map_err(|failure| failure.of(&of))
        });
        behind.collect::<Result<_, _>>()?
    };
    // In front of children it is counted where messages queue.
    let are_urls = behind.iter().all(|behind| matches!(behind.upstream, Upstream::Url(_)));
    plan.config.blocked_of = are_urls.then_some(labels::Link::Relay);
    let log = Log::start(level, format);
    let runtime = super::multi_threaded()?;
    let served = runtime.block_on(scraping.during(format, served(plan, behind, &log, format)));
    runtime.shutdown_background();
    log.finish();
    served.map(|()| ExitCode::SUCCESS).map_err(|failure| failure.with_format(format))
}

impl Behind {
    fn new(name: Option<String>, mut args: ProxyArgs, resources: Resources) -> Result<Self, Failure> {
        if let Some(ServerAddr::Socket(target)) = &args.url {
            let line = format!(
                "HTTP clients in front of {target} are not supported; what speaks on stdin and stdout there is: \
                 --listen ADDR -- shadowcat proxy {target}"
            );
            return Err(Failure::new(USAGE, line));
        }
        let has_legacy_sse = args.listen.legacy_sse;
        let upstream = match command::take(&mut args) {
            Some(mut server) => {
                if let Some(name) = &name {
                    server.name.clone_from(name);
                }
                let options = mux_options(&args, &server, resources)?;
                Upstream::Command(server, Box::new(options))
            }
            None => Upstream::Url(relay(&args, resources)?),
        };
        Ok(Self { name, has_legacy_sse, upstream })
    }

    /// Starts what it needs: a keeper of its own, so that no server's children depend on another's.
    fn site(self, path: &str, log: &Log) -> Result<Site, Failure> {
        let link = match self.upstream {
            Upstream::Url(link) => link,
            Upstream::Command(server, options) => {
                let keeper = command::keeper(server.shutdown)?;
                Link::Mux(Mux::new(server.command, keeper, log.server_lines(server.name), *options))
            }
        };
        let site = match self.name {
            Some(name) => Site::named(name, link),
            None => Site::new(path.to_owned(), link),
        };
        Ok(if self.has_legacy_sse { site.with_legacy_sse() } else { site })
    }
}

async fn served(plan: Plan, behind: Vec<Behind>, log: &Log, format: LogFormat) -> Result<(), Failure> {
    let Plan { address, path, metrics, config, scheme } = plan;
    let resources = config.resources.clone();
    let sites: Vec<Site> = behind.into_iter().map(|behind| behind.site(&path, log)).collect::<Result<_, _>>()?;
    // Behind the keepers, so that children are given the limit that we were.
    raise_descriptor_limit();
    let drain = CancellationToken::new();
    let endpoint = Endpoint::new(sites, drain.clone());
    let endpoint = match metrics {
        Some(path) => endpoint.with_metrics(path, resources),
        None => endpoint,
    };
    // Before anybody can know that we are here, so that a signal always finds us listening to it.
    let mut signals = Signals::new().map_err(|error| broken("cannot watch signals", &error))?;
    let listener = Listener::bind(&address, config)
        .await
        .map_err(|error| Failure::new(RUNTIME, advice::listening("--listen", &address, &error)))?;
    let bound = listener.local_addr().map_err(|error| broken("cannot listen", &error))?;
    if let Some(warning) = listener::warning(bound, scheme) {
        announce(&warning, "WARN", format);
    }
    for site in endpoint.sites() {
        let url = listener::url(&address, bound, scheme, site.path());
        announce(&format!("listening on {url}"), "INFO", format);
    }
    let (handler, pace) = (endpoint.clone(), Pace::default());
    let begun = pace.clone();
    let handle = move |request, peer| {
        begun.note();
        handler.clone().handle(request, peer)
    };
    let serving = pace.during(listener.serve(handle, drain.clone()));
    if serve_until_stopped(serving, &drain, &mut signals).await == Told::Twice {
        endpoint.hurry();
    }
    close(&endpoint, &mut signals).await.map_err(|error| broken("the keeper process failed", &error))
}

/// Waits for the children to end. The first signal hurries them, the second leaves them to the keeper, which
/// ends them once we are gone.
async fn close(endpoint: &Endpoint, signals: &mut Signals) -> io::Result<()> {
    let closing = pin!(endpoint.close());
    let closing = match select(closing, pin!(signals.next())).await {
        Either::Left((closed, _)) => return closed,
        Either::Right(((), closing)) => closing,
    };
    tracing::warn!("told to stop again; servers that still run are ended at once");
    endpoint.hurry();
    match select(closing, pin!(signals.next())).await {
        Either::Left((closed, _)) => closed,
        Either::Right(_) => Ok(()),
    }
}

fn mux_options(args: &ProxyArgs, server: &Server, resources: Resources) -> Result<MuxOptions, Failure> {
    let mut options = MuxOptions::new(args.limits()?);
    let sessions = &args.listen.sessions;
    options.resources = resources;
    options.max_pending = args.max_pending;
    options.response = args.waits.response();
    options.server_read = args.waits.stdio_read_timeout.or(options.server_read);
    options.server_write = args.waits.stdio_write_timeout.or(options.server_write);
    options.keep_alive = args.waits.keep_alive.unwrap_or(options.keep_alive);
    options.shutdown = server.shutdown;
    options.start_timeout = args.start_timeout;
    options.session_idle = sessions.session_idle.unwrap_or(options.session_idle);
    options.max_sessions = sessions.max_sessions.unwrap_or(options.max_sessions);
    options.max_children = sessions.max_children.unwrap_or(options.max_children);
    options.header_check = args.listen.header_check.map_or(options.header_check, Into::into);
    options.restart = sessions.restart.map_or(options.restart, Into::into);
    options.server_timing = !args.observe.no_server_timing;
    options.sharing = sessions.child.map_or(options.sharing, Into::into);
    options.slow_consumer = args.waits.slow_consumer;
    if options.slow_consumer == Some(SlowConsumer::Pause) && options.sharing == ChildSharing::Everybody {
        let why = "--slow-consumer pause: a child that clients share must not wait for one of them, or all others would; \
                   want --child per-client, or disconnect:DURATION";
        return Err(Failure::new(USAGE, why));
    }
    Ok(options)
}

fn relay(args: &ProxyArgs, resources: Resources) -> Result<Link, Failure> {
    let client = super::client(args, labels::Link::Relay, &resources)?;
    let upstream = endpoint::Upstream::new(client.url());
    let mut options = relay::Options::default();
    options.resources = resources;
    options.limits = args.limits()?;
    options.header_check = args.listen.header_check.map_or(options.header_check, Into::into);
    options.no_server_timing = args.observe.no_server_timing;
    options.response = args.waits.response();
    (options.sse_connect, options.sse_read) = (args.waits.sse_connect_timeout, args.waits.sse_read_timeout);
    options.public_url.clone_from(&args.upstream.public_url);
    let mut relay = Relay::new(client, options);
    if args.listen.legacy_sse {
        let without_secret = |error| Failure::new(RUNTIME, format!("no random bytes for a secret: {error}"));
        relay = relay.with_two_endpoints().map_err(without_secret)?;
    }
    Ok(Link::Relay(Box::new(relay), upstream))
}

/// A session takes three descriptors and a connection one. The usual limit of 1024, which every process may
/// raise, is for programs that use `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, ?limit, "the limit on descriptors stays");
    }
}
