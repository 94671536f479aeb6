//! Arguments of `shadowcat doctor`.
//!
//! How the server is reached is said as with `proxy`, by the same flags. The rest bounds what is done to the server: how long, how
//! much, and that it is never a call of a tool.

use std::time::Duration;

use bytesize::ByteSize;
use clap::Args as ClapArgs;

use super::{parse_duration, upstream::ReachArgs};

/// What is to be looked at, and how long.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Exit codes: 0 no problem · 1 a problem · 2 not reachable · 64 usage · 78 configuration

Examples:
  shadowcat doctor http://127.0.0.1:8080/mcp
  shadowcat doctor --bearer-env TOKEN --idle 2m https://mcp.example.com/mcp
  shadowcat doctor --json --max-size 16MiB https://mcp.example.com/mcp | jq 'select(.outcome != \"ok\")'")]
pub(crate) struct DoctorArgs {
    /// The server's MCP endpoint. It is sent messages of our own: initialize, ping, DELETE; never a call of a tool
    #[arg(value_name = "URL")]
    pub(crate) url: String,

    /// How long a stream is held open to see whether it lives, 0 to leave that out
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "20s")]
    pub(crate) idle: Duration,

    /// The largest message to try, of 64 KiB, 1, 4 and 16 MiB; 0 to try none
    #[arg(long, value_name = "SIZE", default_value = "4MiB")]
    pub(crate) max_size: ByteSize,

    /// How long all of it may take, --idle included
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5m")]
    pub(crate) timeout: Duration,

    /// Print one JSON object for each check: check, outcome, seen, advice
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}
