//! Arguments that say where clients reach us, and how they are treated.
//!
//! All defaults are the library's, so most values are optional here and help has them in words; a test holds the two together.
//! What others may reach must be typed: a port alone is on loopback.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{ArgAction, Args as ClapArgs, ValueEnum};
use shadowcat::{
    link::{endpoint::OPEN_PATHS, mux::ChildSharing},
    session::restart::Restart,
    transport::http::guard::{AllowedHost, AllowedOrigin},
};

use super::{parse_duration, upstream::HeaderCheckName};

/// Arguments of a downstream that is not stdin and stdout.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Clients that connect")]
pub(crate) struct ListenArgs {
    /// Listen here for clients: over HTTP at IP:PORT, at PORT on 127.0.0.1 or at http+unix:PATH, a socket file; or
    /// for lines of JSON at unix:PATH or tcp:IP:PORT
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<ListenAddr>,

    /// Path of the MCP endpoint [default: /mcp]
    #[arg(long, value_name = "PATH", value_parser = parse_path)]
    pub(crate) path: Option<String>,

    /// Offer HTTP+SSE of MCP 2024-11-05 too, at /sse and /messages; a URL is then that of the server's event stream
    #[arg(long)]
    pub(crate) legacy_sse: bool,

    /// Answer web pages of this origin too, such as https://example.com; '*' for all; may be repeated
    #[arg(long, value_name = "ORIGIN", action = ArgAction::Append)]
    pub(crate) allow_origin: Vec<AllowedOrigin>,

    /// Answer requests for this host too, such as mcp.example.com; may be repeated
    #[arg(long, value_name = "HOST", action = ArgAction::Append)]
    pub(crate) allow_host: Vec<AllowedHost>,

    /// Answer only who shows the bearer token that this environment variable holds
    #[arg(long, value_name = "VAR")]
    pub(crate) require_bearer_env: Option<String>,

    /// Our certificate and its chain, in PEM, for clients that connect by TLS
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's key, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,

    /// How long a client may take to send a request's headers [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) header_timeout: Option<Duration>,

    /// How long a request's body may pause [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) body_timeout: Option<Duration>,

    /// How long a client may read nothing of what is there for it [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) write_timeout: Option<Duration>,

    /// How long a connection may wait for its next request [default: 2m]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) idle_timeout: Option<Duration>,

    /// Most open connections; the others wait [default: 1024]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    pub(crate) max_connections: Option<usize>,

    /// What to do where headers and body contradict each other [default: strict before a command, warn before
    /// a URL]
    #[arg(long, value_name = "CHECK")]
    pub(crate) header_check: Option<HeaderCheckName>,

    #[command(flatten)]
    pub(crate) sessions: SessionArgs,
}

/// Arguments of HTTP clients in front of a command.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Clients that connect, server a command")]
pub(crate) struct SessionArgs {
    /// Who shares a child in MCP 2026-07-28; until then, each session has its own [default: shared]
    #[arg(long, value_name = "WHO")]
    pub(crate) child: Option<ChildName>,

    /// Which children are started again after a crash, after 100 ms at most, and twice as long after each crash until one
    /// lives for a minute [default: stateless]
    #[arg(long, value_name = "WHICH")]
    pub(crate) restart: Option<RestartName>,

    /// Most children for clients that share [default: 256]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    pub(crate) max_children: Option<usize>,

    /// Most sessions [default: 10000; where clients speak lines of JSON, 256]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    pub(crate) max_sessions: Option<usize>,

    /// How long a session lives without a connection of its client [default: 30m]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) session_idle: Option<Duration>,
}

/// Who shares a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChildName {
    /// Everybody
    Shared,
    /// Whoever shows the same credentials; without any, whoever comes from the same address
    PerClient,
}

/// Which children are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestartName {
    /// None: requests for one that crashed get an error from then on
    Never,
    /// Those that hold no session (MCP 2026-07-28), when they are asked for again
    Stateless,
    /// Those of sessions too (until 2025-11-25): the handshake is said to the next child; subscriptions, log levels and
    /// all else the first one knew are lost. Who waited gets an error, who comes later waits
    Replay,
}

impl From<RestartName> for Restart {
    fn from(name: RestartName) -> Self {
        match name {
            RestartName::Never => Self::Never,
            RestartName::Stateless => Self::Stateless,
            RestartName::Replay => Self::Replay,
        }
    }
}

impl From<ChildName> for ChildSharing {
    fn from(name: ChildName) -> Self {
        match name {
            ChildName::Shared => Self::Everybody,
            ChildName::PerClient => Self::PerClient,
        }
    }
}

/// Where clients reach us, and what they speak there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenAddr {
    /// `IP:PORT`, `localhost:PORT`, `:PORT` or `PORT`; the last three are 127.0.0.1. That `:PORT` is every
    /// address elsewhere is the reason to say so: what others may reach has to be typed.
    Http(SocketAddr),
    /// `http+unix:PATH`
    HttpUnix(PathBuf),
    /// `tcp:IP:PORT`: lines of JSON.
    Tcp(SocketAddr),
    /// `unix:PATH`: lines of JSON.
    Unix(PathBuf),
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        let path = |path: &str| if path.is_empty() { Err(wrong()) } else { Ok(PathBuf::from(path)) };
        if let Some(typed) = typed.strip_prefix("http+unix:") {
            path(typed).map(Self::HttpUnix)
        } else if let Some(typed) = typed.strip_prefix("unix:") {
            path(typed).map(Self::Unix)
        } else if let Some(typed) = typed.strip_prefix("tcp:") {
            socket_address(typed).map(Self::Tcp)
        } else {
            socket_address(typed).map(Self::Http)
        }
    }
}

pub(super) fn socket_address(typed: &str) -> Result<SocketAddr, String> {
    let port = match typed.rsplit_once(':') {
        None => typed,
        Some(("" | "localhost", port)) => port,
        Some(_) => return typed.parse().map_err(|_| wrong()),
    };
    port.parse().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).map_err(|_| wrong())
}

fn wrong() -> String {
    "want IP:PORT, such as 127.0.0.1:8080 or [::1]:8080; or PORT, which is on 127.0.0.1; or http+unix:PATH; \
     or, for lines of JSON, unix:PATH or tcp:IP:PORT"
        .to_owned()
}

/// A path as requests name it.
fn parse_path(typed: &str) -> Result<String, String> {
    let is_path =
        typed.starts_with('/') && typed.parse::<http::uri::PathAndQuery>().is_ok_and(|path| path.query().is_none());
    match typed {
        _ if OPEN_PATHS.contains(&typed) => Err(format!("{} say how we are", OPEN_PATHS.join(" and "))),
        _ if is_path => Ok(typed.to_owned()),
        _ => Err("want an absolute path, such as /mcp".to_owned()),
    }
}

fn parse_count(typed: &str) -> Result<usize, String> {
    typed.parse().ok().filter(|&count| count > 0).ok_or_else(|| "want a number of at least 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_loopback_unless_typed_otherwise() {
        let tcp = |typed: &str| typed.parse::<SocketAddr>().unwrap();
        for (typed, expected) in [
            ("127.0.0.1:80", ListenAddr::Http(tcp("127.0.0.1:80"))),
            ("0.0.0.0:80", ListenAddr::Http(tcp("0.0.0.0:80"))),
            ("[::1]:80", ListenAddr::Http(tcp("[::1]:80"))),
            ("localhost:0", ListenAddr::Http(tcp("127.0.0.1:0"))),
            (":80", ListenAddr::Http(tcp("127.0.0.1:80"))),
            ("80", ListenAddr::Http(tcp("127.0.0.1:80"))),
            ("http+unix:/run/a b", ListenAddr::HttpUnix("/run/a b".into())),
            ("unix:x", ListenAddr::Unix("x".into())),
            ("tcp:80", ListenAddr::Tcp(tcp("127.0.0.1:80"))),
        ] {
            assert_eq!(typed.parse(), Ok(expected), "{typed}");
        }
        for typed in ["", ":", "nowhere", "nowhere:80", "127.0.0.1", "::1:80x", "99999", "http+unix:", "-1"] {
            assert!(typed.parse::<ListenAddr>().is_err(), "{typed}");
        }
    }

    #[test]
    fn path_is_absolute_and_not_one_of_ours() {
        assert_eq!(parse_path("/a/b"), Ok("/a/b".to_owned()));
        for typed in ["", "mcp", "/mcp?x", "/readyz", "/healthz", "/a b"] {
            assert!(parse_path(typed).is_err(), "{typed}");
        }
    }
}
