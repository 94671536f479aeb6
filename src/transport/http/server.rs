//! The listener: accepts connections, lets the guard judge each request, and hands exchanges to a link.
//!
//! What an exchange means, and which path is which, is decided in [`crate::link`]. Every task started here
//! ends with [`Listener::serve`]: connections are a set of it, and an HTTP/2 stream's task ends with its
//! connection.

mod connection;
mod exchange;
mod http1;
mod http2;
mod lasting;
mod patience;
mod phase;
mod refusal;
mod request_body;
mod stream;

use std::{fmt, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Request, Response,
    guard::{Guard, Place},
    tls::Identity,
};
use crate::{
    resources::Resources,
    telemetry::metrics::labels::{Link, TimeoutOf},
    transport::listen::{Address, Listening},
};
pub use request_body::RequestBody;

/// Who is at the other end of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its address; none behind a Unix socket.
    pub address: Option<SocketAddr>,
}

/// How connections are treated.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Who may ask.
    pub guard: Guard,
    /// Paths that are answered without the guard's token, though not without the rest of its checks.
    pub open_paths: &'static [&'static str],
    /// Our certificate, if clients reach us by TLS.
    pub tls: Option<Identity>,
    /// How long a client may take for the TLS handshake, and then for each request's headers.
    pub header_timeout: Duration,
    /// How long a request's body may pause while somebody reads it.
    pub body_timeout: Duration,
    /// How long a client may take nothing of what we have for it.
    pub write_timeout: Duration,
    /// How long a connection may wait for its next request, over HTTP/2 without any. Longer than clients keep theirs, so that it is
    /// the client who closes: a request that meets our closing may not be sent again.
    pub idle_timeout: Duration,
    /// How many connections may be open; the others wait unaccepted.
    pub max_connections: usize,
    /// How long running exchanges may take once we were told to stop.
    pub drain_timeout: Duration,
    /// What connections share with the process.
    pub resources: Resources,
    /// The link for which it is counted how long clients take nothing. `None` if that is counted elsewhere.
    pub blocked_of: Option<Link>,
}

/// A bound socket that accepts HTTP connections.
#[derive(Debug)]
pub struct Listener {
    socket: Listening,
    config: Config,
}

impl Default for Config {
    /// For loopback.
    fn default() -> Self {
        Self {
            guard: Guard::new(Place::Loopback),
            open_paths: &[],
            tls: None,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(120),
            max_connections: 1024,
            drain_timeout: Duration::from_secs(10),
            resources: Resources::default(),
            blocked_of: None,
        }
    }
}

impl Listener {
    /// Listens at `address`; port 0 lets the system choose. A Unix socket is its owner's alone; what an
    /// earlier listener left in its place is replaced, one that is alive is not.
    ///
    /// # Errors
    ///
    /// If the address is taken, or not ours.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop; nothing is bound then.
    pub async fn bind(address: &Address, config: Config) -> io::Result<Self> {
        Ok(Self { socket: Listening::bind(address).await?, config })
    }

    /// The address with the port that the system chose. `None` for a Unix socket.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.socket.local_addr()
    }

    /// Accepts connections and hands their exchanges to `handle`, until `drain` is cancelled. Then accepts no
    /// more, lets running exchanges finish until the drain deadline, and ends what is left. A link that
    /// watches the same token can end streams that would not end by themselves.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends every connection at once.
    pub async fn serve<H, F>(self, handle: H, drain: CancellationToken)
    where
        H: Fn(Request, Peer) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let Self { socket, config } = self;
        let (config, streams) = (Arc::new(config), TaskTracker::new());
        let mut connections = JoinSet::new();
        let budget = config.resources.budget.clone();
        let fixed_len = connection::fixed_len(&config);
        let (mut is_full, mut newcomer, mut admitted) = (false, None, budget.admit(fixed_len, 0));
        loop {
            let has_room = connections.len() < config.max_connections;
            if is_full == has_room {
                is_full = !has_room;
                if is_full {
                    tracing::warn!(limit = config.max_connections, "no more connections are accepted for now");
                }
            }
            tokio::select! {
                () = drain.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => note(ended),
                accepted = socket.accept(), if has_room && newcomer.is_none() => newcomer = Some(accepted),
                allowance = &mut admitted, if newcomer.is_some() => {
                    admitted = budget.admit(fixed_len, 0);
                    let Some((stream, address)) = newcomer.take() else { continue };
                    let setting = connection::Setting {
                        config: Arc::clone(&config),
                        peer: Peer { address },
                        drain: drain.clone(),
                        streams: streams.clone(),
                        _room: allowance,
                    };
                    connections.spawn(connection::run(stream.into(), setting, handle.clone()));
                }
            }
        }
        drop((newcomer, admitted));
        drop(socket);
        let all = async {
            while let Some(ended) = connections.join_next().await {
                note(ended);
            }
        };
        if timeout(config.drain_timeout, all).await.is_err() {
            let (limit, left) = (config.drain_timeout, connections.len());
            config.resources.metrics.timeouts.add((TimeoutOf::Drain,), left as u64);
            tracing::warn!(connections = left, ?limit, "the drain deadline has passed; what still runs is cut off");
            connections.shutdown().await;
        }
        streams.close();
        streams.wait().await;
    }
}

/// A connection's end is its own affair; a panic in it is ours.
fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection failed");
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}
