//! The listener: accepts connections and hands each exchange to a link.
//!
//! What an exchange means, and which path is which, is decided in [`crate::link`].

use std::{convert::Infallible, future::Future, io, net::SocketAddr, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{Request, Response};

/// Who is at the other end of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
}

/// How connections are treated.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// How long a client may take to send its request's headers.
    pub header_timeout: Duration,
    /// How long running exchanges may take once we were told to stop.
    pub drain_timeout: Duration,
}

/// A bound socket that accepts HTTP connections.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    config: Config,
}

impl Default for Config {
    fn default() -> Self {
        Self { header_timeout: Duration::from_secs(10), drain_timeout: Duration::from_secs(10) }
    }
}

impl Listener {
    /// Listens at `address`; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// If the address is taken, or not ours.
    pub async fn bind(address: SocketAddr, config: Config) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await?, config })
    }

    /// Where clients reach us.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts connections and hands their exchanges to `handle`, until `stop` is ready. Then accepts no
    /// more, lets running exchanges finish until the drain deadline, and ends what is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends every connection at once.
    pub async fn serve<H, F>(self, handle: H, stop: impl Future<Output = ()>)
    where
        H: Fn(Request, Peer) -> F + Clone + Send + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let Self { socket, config } = self;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(config.header_timeout);
        builder.http2().timer(TokioTimer::new());
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let (stream, address) = tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = accept(&socket) => accepted,
            };
            let handle = handle.clone();
            let service = service_fn(move |request| {
                let response = handle(request, Peer { address });
                async move { Ok::<_, Infallible>(response.await) }
            });
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            let connection = graceful.watch(connection);
            connections.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%address, %error, "connection ended");
                }
            });
        }
        drop(socket);
        // What is still running after the deadline ends with the set of connections.
        let _ = tokio::time::timeout(config.drain_timeout, graceful.shutdown()).await;
    }
}

/// The next connection. That one could not be accepted, for want of descriptors or because its client has
/// left already, is no reason to accept no more.
async fn accept(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok((stream, address)) => {
                // Nagle's algorithm holds small writes back for up to 40 ms.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%address, %error, "cannot set TCP_NODELAY");
                }
                return (stream, address);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
