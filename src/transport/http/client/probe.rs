//! A look at the way to a server: how long each step of connecting takes, and what the server says to a `Host`
//! that is not its own.
//!
//! For whoever asks what is wrong; nothing here is on the path of messages. Connections are HTTP/1.1 and used once.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Uri, header, uri::PathAndQuery};
use rustls_pki_types::ServerName;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    super::Body,
    Config, Incoming, SendError, Waited,
    connect::Connector,
    direct::{Direct, Failure},
    error::unconnected,
    origin::default_port,
    trust,
};
use crate::clock;

/// Connects to look, beside any pool.
#[derive(Debug)]
pub struct Probe {
    config: Config,
    tls: rustls::ClientConfig,
    connector: Connector,
}

/// How a connection came about.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reached {
    /// The address that answered.
    pub address: SocketAddr,
    /// How many addresses the name has.
    pub addresses: usize,
    /// How long the name took to look up.
    pub resolved: Duration,
    /// How long TCP took, with the addresses that did not answer.
    pub connected: Duration,
    /// How long TLS took; `None` without it.
    pub secured: Option<Duration>,
}

impl Probe {
    /// A probe that has done nothing yet.
    ///
    /// # Errors
    ///
    /// As [`super::Client::new`].
    pub fn new(config: Config) -> io::Result<Self> {
        let tls = trust::tls(config.url.scheme_str() == Some("https"), &config.ca)?;
        let connector = Connector::http1(&config, tls.clone())?;
        Ok(Self { config, tls, connector })
    }

    /// Whether a proxy of the environment stands before the server, so that its own address is never seen.
    #[must_use]
    pub fn is_proxied(&self) -> bool {
        self.connector.is_proxied()
    }

    /// Connects step by step, within the time that connecting may take, and closes the connection. Straight to the
    /// server: where [`is_proxied`](Self::is_proxied), this is not the way of requests.
    ///
    /// # Errors
    ///
    /// [`SendError::Connect`] or [`SendError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future closes the connection.
    pub async fn reach(&self) -> Result<Reached, SendError> {
        let after = self.config.connect_timeout;
        let url = || self.config.url.clone();
        match timeout(after, self.steps()).await {
            Ok(Ok(reached)) => Ok(reached),
            Ok(Err(error)) => Err(SendError::Connect { url: url(), source: error.into() }),
            Err(_) => Err(SendError::Timeout { url: url(), waited: Waited::Connection, after }),
        }
    }

    async fn steps(&self) -> io::Result<Reached> {
        let url = &self.config.url;
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = url.port_u16().or_else(|| default_port(url)).unwrap_or_default();
        let started = clock::now();
        let found = lookup_host((host, port)).await;
        let found: Vec<SocketAddr> =
            found.map_err(|error| io::Error::new(error.kind(), format!("the name {host}: {error}")))?.collect();
        let resolved = clock::now();
        let stream = TcpStream::connect(&found[..]).await?;
        let (address, connected) = (stream.peer_addr()?, clock::now());
        let secured = if url.scheme_str() == Some("https") {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            TlsConnector::from(Arc::new(self.tls.clone())).connect(name, stream).await?;
            Some(clock::now() - connected)
        } else {
            None
        };
        let (resolved, connected) = (resolved - started, connected - resolved);
        Ok(Reached { address, addresses: found.len(), resolved, connected, secured })
    }

    /// Sends one request to the endpoint as if its name were `host`, over a connection of its own, with the
    /// configured headers.
    ///
    /// # Errors
    ///
    /// [`SendError`]; also if a proxy would read the request, which goes by the name.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn send_as(
        &self,
        host: HeaderValue,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Incoming>, SendError> {
        let url = &self.config.url;
        if self.is_proxied() {
            let source = "a proxy of the environment would read the name".into();
            return Err(SendError::Connect { url: url.clone(), source });
        }
        let path = url.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        let headers = request.headers_mut();
        for (name, value) in &self.config.headers {
            headers.insert(name, value.clone());
        }
        headers.insert(header::HOST, host);
        let direct = Direct::new(self.connector.clone(), 1, self.config.idle_timeout);
        direct.send(url, request).await.map_err(|failure| match failure {
            Failure::Connect(source) => unconnected(url.clone(), source),
            Failure::Broken(error) => SendError::Broken { url: url.clone(), source: error.into() },
        })
    }
}
