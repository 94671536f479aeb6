//! What was typed, checked and nothing more: the definition of the command line, and the types that it is read into.
//!
//! The definition is the one source of names, values, defaults and texts. Help, completions, the manual, keys of a file
//! and variables of the environment follow from it (`cli/pages`, `cli/config`), and so do the checks of the documents.
//! A flag stands in the file of what it is about: who connects in `listen`, how a server over HTTP is reached in
//! `upstream`, who is waited for in `waits`, what is shown in `observe` and `log`. Which link it is for, and whose it is
//! where there are several servers, says its row in `scope`.

pub(crate) mod doctor;
pub(crate) mod listen;
pub(crate) mod log;
pub(crate) mod observe;
pub(crate) mod pipe;
pub(crate) mod scope;
pub(crate) mod server;
pub(crate) mod upstream;
pub(crate) mod waits;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{
    Arg, ArgAction, Args as ClapArgs, Command, CommandFactory as _, Parser, Subcommand, ValueEnum,
    builder::styling::{AnsiColor, Styles},
};
use clap_complete::Shell;
use shadowcat_codecs::Limits;

use super::{
    exit::{Failure, USAGE},
    version,
};
use doctor::DoctorArgs;
use listen::ListenArgs;
use log::LogArgs;
use observe::ObserveArgs;
use pipe::PipeArgs;
use server::ServerAddr;
use upstream::UpstreamArgs;
use waits::WaitArgs;

/// Puts any MCP client in front of any MCP server and forwards the exact bytes.
#[derive(Debug, Parser)]
#[command(name = "shadowcat", version = version::SHORT, long_version = version::LONG)]
#[command(max_term_width = 100, arg_required_else_help = false, styles = STYLES)]
#[command(
    after_help = "Exit codes: 0 clean · 1 runtime · 2 server could not be started or reached · 64 usage · 78 configuration"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Put a client, on stdin, over HTTP or a socket, in front of a server: a command to start, a URL, or a socket
    #[cfg(unix)]
    Proxy(Box<ProxyArgs>),
    /// Turn lines into events and back: the codecs as a filter, from FILE or stdin to stdout
    Pipe(PipeArgs),
    /// Run a built-in server behind the proxy and a client through it, and show what crossed and its cost
    #[cfg(unix)]
    Demo(DemoArgs),
    /// Say what is between a client and a server over HTTP, and what to change: streams, sessions, sizes, guards
    Doctor(Box<DoctorArgs>),
    /// Show the settings of `proxy` with the origin of each, or check files of settings
    #[cfg(unix)]
    #[command(subcommand, arg_required_else_help = false)]
    Config(ConfigTask),
    /// Write completions for a shell to stdout; its help says where they belong
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell that is to complete
        shell: Shell,
    },
    /// Write a page of the manual to stdout; to read it: shadowcat man proxy | man -l -
    Man {
        /// The command it is about, such as 'proxy'; without, the overview
        #[arg(value_name = "COMMAND")]
        of: Vec<String>,
    },
}

/// What `shadowcat config` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigTask {
    /// Print what `shadowcat proxy` would run with, given these arguments, as TOML; each value with its origin
    Show(Box<ProxyArgs>),
    /// Say what is wrong with these files, by line and key; exit code 78 if anything is
    Check {
        /// Files in TOML
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

/// Arguments of `shadowcat proxy`.
#[derive(Debug, ClapArgs)]
#[command(before_help = LINKS)]
#[command(override_usage = "shadowcat proxy [--listen ADDR] [OPTIONS] (URL | SOCKET | -- COMMAND [ARG…])")]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProxyArgs {
    /// The server's MCP endpoint, if it is reached over HTTP; or the socket where it speaks lines of JSON:
    /// unix:PATH or tcp:HOST:PORT
    #[arg(value_name = "URL", conflicts_with = "command")]
    pub(crate) url: Option<ServerAddr>,

    /// The server's command and its arguments, behind `--`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// Take settings from this file in TOML: --max-pending is max_pending there, servers are tables [servers.NAME], each
    /// at /NAME/mcp with --listen. The environment, SHADOWCAT_MAX_PENDING, is stronger, and flags are strongest
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Use this server of the file, and no other
    #[arg(long, value_name = "NAME")]
    pub(crate) server: Option<String>,

    /// Set an environment variable for the server; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_env, action = ArgAction::Append)]
    pub(crate) env: Vec<(OsString, OsString)>,

    /// Start the server with an empty environment, plus what --env sets
    #[arg(long)]
    pub(crate) env_clear: bool,

    /// Start the server in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,

    /// Longest message; longer ones are skipped and answered with an error
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub(crate) max_frame_len: ByteSize,

    /// Most memory for what clients and servers send, over all sessions and buffers; beyond, nothing more is read
    /// and whoever is new is refused. At least --max-frame-len and 8.5 MiB
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    pub(crate) memory_budget: ByteSize,

    /// How long a message waits for memory that others use, and how long one of more than 1 MiB may stand still
    /// half-read
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    pub(crate) memory_timeout: Duration,

    /// Whether read buffers are kept and used again, up to 1.26 MiB of them, instead of being given back to the system;
    /// 'on' is of use where allocating is slow
    #[arg(long, value_name = "MODE", default_value = "off")]
    pub(crate) pool: Switch,

    /// Hold what leaves against what came in, by hashes of whole messages; a difference, which would be a fault of
    /// the proxy, is logged as an error and counted in shadowcat_verify_mismatches_total. Costs little
    #[arg(long)]
    pub(crate) verify: bool,

    /// Longest id of a request, quotes included; a longer one is refused
    #[arg(long, value_name = "SIZE", default_value = "1KiB")]
    pub(crate) max_id_len: ByteSize,

    /// Most messages in one JSON-RPC batch
    #[arg(long, value_name = "COUNT", default_value_t = 256)]
    pub(crate) max_batch_len: u32,

    /// Deepest nesting of JSON
    #[arg(long, value_name = "LEVELS", default_value_t = 1024)]
    pub(crate) max_depth: u32,

    /// Most requests in flight
    #[arg(long, value_name = "COUNT", default_value_t = 4096)]
    pub(crate) max_pending: usize,

    /// How long to wait for answers after the client has ended its input, or with --listen, after SIGTERM
    /// [default: no limit; with --listen, 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) drain_timeout: Option<Duration>,

    /// How long starting the command may take: until it runs, and in sessions that begin with initialize (MCP until
    /// 2025-11-25) until it has answered that
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    pub(crate) start_timeout: Duration,

    /// How long the server may take to end after its input has ended, before it gets SIGTERM, or its socket is
    /// closed
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5s")]
    pub(crate) shutdown_grace: Duration,

    /// How long it may take after SIGTERM, before it gets SIGKILL
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "2s")]
    pub(crate) kill_after: Duration,

    #[command(flatten)]
    pub(crate) listen: ListenArgs,

    #[command(flatten)]
    pub(crate) upstream: UpstreamArgs,

    #[command(flatten)]
    pub(crate) observe: ObserveArgs,

    #[command(flatten)]
    pub(crate) waits: WaitArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// The four links, as `--help` shows them.
const LINKS: &str = "\
client on stdin   · server is a command   shadowcat proxy -- COMMAND [ARG…]
client on stdin   · server over HTTP      shadowcat proxy URL
clients over HTTP · server is a command   shadowcat proxy --listen ADDR -- COMMAND [ARG…]
clients over HTTP · server over HTTP      shadowcat proxy --listen ADDR URL

A socket with lines of JSON, unix:PATH or tcp:HOST:PORT, can stand in for stdin (--listen) and for a command.";

const EXAMPLES: &str = "\
Examples:
  shadowcat proxy --env LEVEL=2 -- npx -y @modelcontextprotocol/server-everything
  shadowcat proxy --listen 8080 -- npx -y @modelcontextprotocol/server-everything
  shadowcat proxy --bearer-env TOKEN https://mcp.example.com/mcp
  shadowcat proxy --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem http://10.0.0.5:3000/mcp
  shadowcat proxy --listen unix:/run/user/1000/mcp.sock -- ./server      a child for each connection
  shadowcat proxy unix:/run/user/1000/mcp.sock                           a client on stdin for that
  shadowcat proxy --listen tcp:127.0.0.1:7000 https://mcp.example.com/mcp";

/// Colours of help and errors, where they go to a terminal and `NO_COLOR` is not set.
const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default())
    .error(AnsiColor::Red.on_default().bold())
    .valid(AnsiColor::Green.on_default())
    .invalid(AnsiColor::Yellow.on_default());

const COMPLETIONS: &str = "\
Where they belong:
  bash         ~/.local/share/bash-completion/completions/shadowcat
  zsh          a file named _shadowcat in a directory of $fpath
  fish         ~/.config/fish/completions/shadowcat.fish
  powershell   a line of $PROFILE: shadowcat completions powershell | Out-String | Invoke-Expression
  elvish       a line of ~/.config/elvish/rc.elv: eval (shadowcat completions elvish | slurp)";

/// Arguments of `shadowcat demo`.
#[cfg(unix)]
#[derive(Debug, ClapArgs)]
pub(crate) struct DemoArgs {
    /// How many calls to time, directly and through the proxy
    #[arg(long, value_name = "COUNT", default_value_t = 2000)]
    pub(crate) calls: usize,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// It is
    On,
    /// It is not
    Off,
}

/// The definition of the command line. A switch takes a value too, so that it can be off where a file has it on.
pub(crate) fn definition() -> Command {
    with_switches(Args::command())
}

fn with_switches(command: Command) -> Command {
    let switch = |arg: Arg| {
        if !matches!(arg.get_action(), ArgAction::SetTrue) {
            return arg;
        }
        let arg = arg.action(ArgAction::Set).value_parser(clap::value_parser!(bool)).value_name("true|false");
        let arg = arg.num_args(0..=1).require_equals(true).default_value("false").default_missing_value("true");
        arg.hide_possible_values(true).hide_default_value(true)
    };
    command.mut_args(switch).mut_subcommands(with_switches)
}

impl ProxyArgs {
    /// What a message may be.
    pub(crate) fn limits(&self) -> Result<Limits, Failure> {
        let max_id_len = u32::try_from(self.max_id_len.as_u64()).unwrap_or(u32::MAX);
        let limits = frame_limits(self.max_frame_len)?;
        Ok(limits.with_max_id_len(max_id_len).with_max_batch_len(self.max_batch_len).with_max_depth(self.max_depth))
    }
}

/// The default limits with this length of a frame.
pub(crate) fn frame_limits(max_frame_len: ByteSize) -> Result<Limits, Failure> {
    let max_frame_len = usize::try_from(max_frame_len.as_u64()).unwrap_or(usize::MAX);
    let limits = Limits::default().with_max_frame_len(max_frame_len);
    limits.map_err(|error| Failure::new(USAGE, format!("--max-frame-len: {error}")))
}

fn parse_env(typed: &str) -> Result<(OsString, OsString), String> {
    match typed.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("want KEY=VALUE".to_owned()),
    }
}

/// A duration that can be added to any time; nobody will notice the difference.
fn parse_duration(typed: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(typed).map(|duration| duration.min(LONGEST))
}

/// A hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use shadowcat::supervise::ladder::Times;

    use super::*;

    #[test]
    fn definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn shutdown_takes_as_long_as_the_library_says_unless_told_otherwise() {
        let Task::Proxy(args) = Args::parse_from(["shadowcat", "proxy", "--", "server"]).task else {
            panic!("a proxy was asked for");
        };
        let times = Times { grace: args.shutdown_grace, term: args.kill_after };
        assert_eq!(times, Times::default());
    }

    #[test]
    fn durations_never_reach_the_end_of_time() {
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("500000000000years"), Ok(LONGEST));
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn env_is_split_at_the_first_equals_sign() {
        assert_eq!(parse_env("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(parse_env("A="), Ok(("A".into(), "".into())));
        assert!(parse_env("=b").is_err() && parse_env("A").is_err());
    }
}
