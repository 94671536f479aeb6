//! From checked arguments to a listener, and what is said of it.
//!
//! Everything that can be wrong is found before anything is started: the address, the certificate, the token's variable, two things at
//! one path. Beyond loopback there is a warning, whatever is logged.

use std::net::SocketAddr;

use shadowcat::{
    link::{
        endpoint::{LEGACY_PATHS, MCP, OPEN_PATHS},
        waits::SlowConsumer,
    },
    resources::Resources,
    transport::{
        http::{
            guard::{Guard, Place, Token},
            server::Config,
            tls::Identity,
        },
        listen::Address,
    },
};

use crate::cli::{
    args::{
        ProxyArgs,
        listen::{ListenAddr, ListenArgs},
        observe::MetricsAddr,
    },
    exit::{CONFIGURATION, Failure, USAGE},
};

/// What a listener needs of the arguments.
pub(super) struct Plan {
    pub(super) address: Address,
    pub(super) path: String,
    /// Where the counters are, if beside the endpoint.
    pub(super) metrics: Option<String>,
    pub(super) config: Config,
    pub(super) scheme: Scheme,
}

/// How clients reach us.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Plan {
    pub(super) fn new(args: &ProxyArgs, resources: Resources) -> Result<Self, Failure> {
        let ProxyArgs { listen: args, drain_timeout: drain, observe, waits, .. } = args;
        let (address, place) = match &args.listen {
            Some(ListenAddr::Http(address)) => (Address::Tcp(*address), Place::of(address.ip())),
            Some(ListenAddr::HttpUnix(path)) => (Address::Unix(path.clone()), Place::UnixSocket),
            Some(ListenAddr::Tcp(_) | ListenAddr::Unix(_)) | None => {
                return Err(Failure::new(USAGE, "no address to listen at over HTTP"));
            }
        };
        let mut config = Config::default();
        let (origins, hosts) = (args.allow_origin.iter().cloned(), args.allow_host.iter().cloned());
        config.guard = Guard::new(place).with_origins(origins).with_hosts(hosts).with_token(token(args)?);
        config.open_paths = OPEN_PATHS;
        config.tls = identity(args, place)?;
        config.header_timeout = args.header_timeout.unwrap_or(config.header_timeout);
        config.body_timeout = args.body_timeout.unwrap_or(config.body_timeout);
        let slow = waits.slow_consumer.and_then(SlowConsumer::limit);
        config.write_timeout = args.write_timeout.or(slow).unwrap_or(config.write_timeout);
        config.idle_timeout = args.idle_timeout.unwrap_or(config.idle_timeout);
        config.max_connections = args.max_connections.unwrap_or(config.max_connections);
        config.drain_timeout = drain.unwrap_or(config.drain_timeout);
        let scheme = if config.tls.is_some() { Scheme::Https } else { Scheme::Http };
        let path = args.path.clone().unwrap_or_else(|| MCP.to_owned());
        let metrics = match &observe.metrics {
            Some(MetricsAddr::Path(metrics)) if *metrics == path || LEGACY_PATHS.contains(&metrics.as_str()) => {
                return Err(Failure::new(USAGE, format!("--metrics {metrics}: messages go there; want another path")));
            }
            Some(MetricsAddr::Path(metrics)) => Some(metrics.clone()),
            _ => None,
        };
        config.resources = resources;
        Ok(Self { address, path, metrics, config, scheme })
    }
}

/// The token never stands on the command line, where every process of the machine could read it.
fn token(args: &ListenArgs) -> Result<Option<Token>, Failure> {
    let Some(name) = &args.require_bearer_env else { return Ok(None) };
    let wrong = |what: &str| Failure::new(CONFIGURATION, format!("--require-bearer-env {name}: {what}"));
    let value = std::env::var(name).map_err(|_| wrong("no such variable in the environment, or not of text"))?;
    let token = Token::new(&value).ok_or_else(|| wrong("the variable is empty, or has what no header can carry"))?;
    Ok(Some(token))
}

fn identity(args: &ListenArgs, place: Place) -> Result<Option<Identity>, Failure> {
    let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    if place == Place::UnixSocket {
        return Err(Failure::new(USAGE, "--tls-cert is for --listen IP:PORT; a socket file stays on this machine"));
    }
    let identity = Identity::read(cert, key);
    identity.map(Some).map_err(|error| {
        Failure::new(
            CONFIGURATION,
            format!("--tls-cert, --tls-key: {error}; want two files in PEM, the certificate and its key"),
        )
    })
}

/// Where clients find us.
pub(super) fn url(address: &Address, bound: Option<SocketAddr>, scheme: Scheme, path: &str) -> String {
    match (bound, scheme) {
        (Some(bound), Scheme::Http) => format!("http://{bound}{path}"),
        (Some(bound), Scheme::Https) => format!("https://{bound}{path}"),
        (None, _) => format!("http+unix:{address} (path {path})"),
    }
}

/// What somebody should know who lets other machines in (Rule S3: MCP 2025-11-25, Transports).
pub(super) fn warning(bound: Option<SocketAddr>, scheme: Scheme) -> Option<String> {
    let bound = bound.filter(|bound| !bound.ip().to_canonical().is_loopback())?;
    let open = match scheme {
        Scheme::Http => ", and without TLS (--tls-cert) everybody on the way reads along",
        Scheme::Https => "",
    };
    Some(format!(
        "WARNING: {bound} is not loopback: other machines can use this server, and all it can do{open}; \
         --require-bearer-env VAR keeps strangers out"
    ))
}
