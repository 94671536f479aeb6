//! Arguments that say how a server over HTTP is reached.

use std::time::Duration;

use clap::Args as ClapArgs;

use super::parse_duration;

/// Arguments of an upstream that is HTTP.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Server over HTTP")]
pub(crate) struct UpstreamArgs {
    /// How long connecting may take, name look-up and TLS included [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) connect_timeout: Option<Duration>,
}
