//! `--metrics ADDR`: a listener of its own for whoever collects the counters, whatever the link.
//!
//! It asks for no token: who may reach it is decided by its address. `Host` and `Origin` are checked as everywhere,
//! since the counters are not for web pages either.

use std::{io, net::SocketAddr};

use shadowcat::{
    resources::Resources,
    telemetry::{
        LogFormat,
        scrape::{self, PATH},
    },
    transport::{
        http::{
            Listener,
            guard::{Guard, Place},
            server::Config,
        },
        listen::Address,
    },
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::stopping::announce;
use crate::cli::{
    advice,
    args::{ProxyArgs, observe::MetricsAddr},
    exit::{Failure, RUNTIME, USAGE},
};

/// What is asked for, checked.
#[derive(Debug)]
pub(super) struct Scraping {
    /// `None`: nobody collects, or not from a listener of its own.
    listener: Option<(Address, Guard)>,
    resources: Resources,
}

impl Scraping {
    /// What the arguments ask for, where clients do not come over HTTP.
    pub(super) fn alone(args: &ProxyArgs, resources: &Resources) -> Result<Self, Failure> {
        match &args.observe.metrics {
            Some(MetricsAddr::Path(path)) => {
                let line = format!("--metrics {path}: there are no clients over HTTP here; want IP:PORT or unix:PATH");
                Err(Failure::new(USAGE, line))
            }
            _ => Ok(Self::beside(args, resources)),
        }
    }

    /// The same, where a path is somebody else's.
    pub(super) fn beside(args: &ProxyArgs, resources: &Resources) -> Self {
        let hosts = args.listen.allow_host.iter().cloned();
        let listener = match &args.observe.metrics {
            None | Some(MetricsAddr::Path(_)) => None,
            Some(MetricsAddr::Tcp(address)) => {
                Some((Address::Tcp(*address), Guard::new(Place::of(address.ip())).with_hosts(hosts)))
            }
            Some(MetricsAddr::Unix(path)) => Some((Address::Unix(path.clone()), Guard::new(Place::UnixSocket))),
        };
        Self { listener, resources: resources.clone() }
    }

    /// Answers collectors for as long as `link` runs.
    pub(super) async fn during<T>(
        self,
        format: LogFormat,
        link: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let _until_the_end = self.start(format).await?;
        link.await
    }

    /// Listens, and says where. What is returned ends it when dropped.
    async fn start(self, format: LogFormat) -> Result<Option<AbortOnDropHandle<()>>, Failure> {
        let Self { listener: Some((address, guard)), resources } = self else { return Ok(None) };
        let mut config = Config::default();
        (config.guard, config.max_connections) = (guard, MAX_CONNECTIONS);
        // Their connections hold memory of the same process. What they ask counts elsewhere than what clients do.
        config.resources.budget = resources.budget.clone();
        let cannot = |error: io::Error| Failure::new(RUNTIME, advice::listening("--metrics", &address, &error));
        let listener = Listener::bind(&address, config).await.map_err(cannot)?;
        let bound = listener.local_addr().map_err(cannot)?;
        if let Some(warning) = warning(bound) {
            announce(&warning, "WARN", format);
        }
        let place =
            bound.map_or_else(|| format!("http+unix:{address} (path {PATH})"), |at| format!("http://{at}{PATH}"));
        announce(&format!("metrics at {place}"), "INFO", format);
        let serving = listener.serve(
            move |request, _| {
                let resources = resources.clone();
                async move {
                    if request.uri().path() == PATH {
                        scrape::answer(request.method(), &resources)
                    } else {
                        scrape::nothing_here()
                    }
                }
            },
            CancellationToken::new(),
        );
        Ok(Some(AbortOnDropHandle::new(tokio::spawn(serving))))
    }
}

fn warning(bound: Option<SocketAddr>) -> Option<String> {
    let bound = bound.filter(|bound| !bound.ip().to_canonical().is_loopback())?;
    Some(format!(
        "WARNING: {bound} is not loopback: other machines can read the counters without being asked who they are"
    ))
}

/// Most collectors at a time.
const MAX_CONNECTIONS: usize = 16;
