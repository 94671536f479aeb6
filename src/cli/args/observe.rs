//! Arguments that say who may see how the proxy does.
//!
//! Counters have an address of their own, or a path beside the endpoint; how long an exchange took goes to its client.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::Args as ClapArgs;
use shadowcat::link::endpoint::OPEN_PATHS;

use super::listen::socket_address;

/// Arguments of the counters.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Metrics")]
pub(crate) struct ObserveArgs {
    /// Show counters to Prometheus: at /metrics of a listener of its own, IP:PORT, PORT on 127.0.0.1 or unix:PATH;
    /// or, where clients connect over HTTP, at this path beside the endpoint, such as /metrics
    #[arg(long, value_name = "WHERE")]
    pub(crate) metrics: Option<MetricsAddr>,

    /// Do not tell HTTP clients in Server-Timing how long an answer took in here, and how long at the server
    #[arg(long)]
    pub(crate) no_server_timing: bool,
}

/// Where the counters are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MetricsAddr {
    /// A path of the listener for clients, behind its guard.
    Path(String),
    /// A listener of its own.
    Tcp(SocketAddr),
    /// The same, on a socket file.
    Unix(PathBuf),
}

impl FromStr for MetricsAddr {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        if let Some(path) = typed.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::Unix(path.into())) };
        }
        if !typed.starts_with('/') {
            return socket_address(typed).map(Self::Tcp).map_err(|_| wrong());
        }
        let is_path = typed.parse::<http::uri::PathAndQuery>().is_ok_and(|path| path.query().is_none());
        if OPEN_PATHS.contains(&typed) || !is_path { Err(wrong()) } else { Ok(Self::Path(typed.to_owned())) }
    }
}

fn wrong() -> String {
    "want IP:PORT, or PORT, which is on 127.0.0.1; unix:PATH; or a path beside the endpoint, such as /metrics"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_address_and_socket_file_are_told_apart() {
        let tcp = |typed: &str| MetricsAddr::Tcp(typed.parse().unwrap());
        for (typed, expected) in [
            ("/metrics", MetricsAddr::Path("/metrics".to_owned())),
            ("unix:/run/m.sock", MetricsAddr::Unix("/run/m.sock".into())),
            ("9464", tcp("127.0.0.1:9464")),
            ("0.0.0.0:9464", tcp("0.0.0.0:9464")),
        ] {
            assert_eq!(typed.parse(), Ok(expected), "{typed}");
        }
        for typed in ["", "unix:", "metrics", "/metrics?x", "/healthz", "nowhere:80"] {
            assert!(typed.parse::<MetricsAddr>().is_err(), "{typed}");
        }
    }
}
