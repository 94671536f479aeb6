//! Arguments that say where HTTP clients reach us, and how they are treated.

use std::{net::SocketAddr, time::Duration};

use clap::Args as ClapArgs;

use super::parse_duration;

/// Arguments of a downstream that is not stdin and stdout.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Clients over HTTP")]
pub(crate) struct ListenArgs {
    /// Listen here for clients, instead of having one on stdin and stdout
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,

    /// Path of the MCP endpoint [default: /mcp]
    #[arg(long, value_name = "PATH", value_parser = parse_path)]
    pub(crate) path: Option<String>,

    /// How long a client may take to send a request's headers [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) header_timeout: Option<Duration>,
}

/// A path as requests name it.
fn parse_path(typed: &str) -> Result<String, String> {
    let is_path =
        typed.starts_with('/') && typed.parse::<http::uri::PathAndQuery>().is_ok_and(|path| path.query().is_none());
    if is_path { Ok(typed.to_owned()) } else { Err("want an absolute path, such as /mcp".to_owned()) }
}
