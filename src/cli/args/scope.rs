//! Which flags of `shadowcat proxy` apply to which link; one that does not apply is refused, not ignored.

use clap::{ArgMatches, parser::ValueSource};

use super::{listen::ListenAddr, server::ServerAddr};
use crate::cli::exit::{Failure, USAGE};

/// Refuses the first flag that was typed and does not apply to the link that was asked for.
pub(crate) fn check(typed: &ArgMatches) -> Result<(), Failure> {
    let Some(("proxy", proxy)) = typed.subcommand() else { return Ok(()) };
    let was_typed = |id: &str| proxy.value_source(id) == Some(ValueSource::CommandLine);
    let clients = match proxy.get_one("listen") {
        None => Clients::Stdio,
        Some(ListenAddr::Http(_) | ListenAddr::HttpUnix(_)) => Clients::Http,
        Some(ListenAddr::Tcp(_) | ListenAddr::Unix(_)) => Clients::Lines,
    };
    let server = match proxy.get_one("url") {
        Some(ServerAddr::Url(_)) => Server::Url,
        Some(ServerAddr::Socket(_)) => Server::Socket,
        None if was_typed("command") => Server::Command,
        // That the server is missing is the first thing to say.
        None => return Ok(()),
    };
    for (id, needs) in SCOPES {
        if let (true, Some(lacking)) = (was_typed(id), needs.lacking(clients, server)) {
            let flag = id.replace('_', "-");
            return Err(Failure::new(USAGE, format!("--{flag} is for {lacking}; see 'shadowcat proxy --help'")));
        }
    }
    Ok(())
}

/// How clients reach us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clients {
    Stdio,
    Http,
    Lines,
}

/// How we reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Command,
    Url,
    Socket,
}

/// What a flag is for.
#[derive(Debug, Clone, Copy)]
enum Needs {
    Command,
    CommandOrSocket,
    Url,
    UrlOrSocket,
    Http,
    HttpAndCommand,
    HttpAndUrl,
    /// Where each session has something of its own.
    Sessions,
}

impl Needs {
    /// What is lacking for the flag to have a meaning.
    fn lacking(self, clients: Clients, server: Server) -> Option<&'static str> {
        let is_http = clients == Clients::Http;
        let is_command = server == Server::Command;
        let (applies, what) = match self {
            Self::Command => (is_command, "a server that is a command"),
            Self::CommandOrSocket => (server != Server::Url, "a server that is a command or a socket, not a URL"),
            Self::Url => (server == Server::Url, "a server that is a URL"),
            Self::UrlOrSocket => (!is_command, "a server that is a URL or a socket, not a command"),
            Self::Http => (is_http, "clients over HTTP: --listen IP:PORT or http+unix:PATH"),
            Self::HttpAndCommand => {
                (is_http && is_command, "clients over HTTP (--listen IP:PORT) and a server that is a command")
            }
            Self::HttpAndUrl => {
                (is_http && server == Server::Url, "clients over HTTP (--listen IP:PORT) and a server that is a URL")
            }
            Self::Sessions => {
                let what = "clients that connect (--listen ADDR): over HTTP to a command, or with lines of JSON";
                (clients == Clients::Lines || (is_http && is_command), what)
            }
        };
        (!applies).then_some(what)
    }
}

/// Flags that do not apply everywhere, by their ids.
const SCOPES: &[(&str, Needs)] = &[
    ("env", Needs::Command),
    ("env_clear", Needs::Command),
    ("cwd", Needs::Command),
    ("shutdown_grace", Needs::CommandOrSocket),
    ("kill_after", Needs::Command),
    ("path", Needs::Http),
    ("legacy_sse", Needs::Http),
    ("allow_origin", Needs::Http),
    ("allow_host", Needs::Http),
    ("require_bearer_env", Needs::Http),
    ("tls_cert", Needs::Http),
    ("tls_key", Needs::Http),
    ("header_timeout", Needs::Http),
    ("body_timeout", Needs::Http),
    ("write_timeout", Needs::Http),
    ("idle_timeout", Needs::Http),
    ("max_connections", Needs::Http),
    ("header", Needs::Url),
    ("bearer_env", Needs::Url),
    ("ca", Needs::Url),
    ("connect_timeout", Needs::UrlOrSocket),
    ("response_timeout", Needs::Url),
    ("header_check", Needs::Http),
    ("child", Needs::HttpAndCommand),
    ("max_children", Needs::HttpAndCommand),
    ("max_sessions", Needs::Sessions),
    ("session_idle", Needs::HttpAndCommand),
    ("start_timeout", Needs::Command),
    ("public_url", Needs::HttpAndUrl),
];

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Args;

    #[test]
    fn every_scoped_flag_exists() {
        let command = Args::command();
        let proxy = command.find_subcommand("proxy").expect("there is a proxy");
        for (id, _) in SCOPES {
            assert!(proxy.get_arguments().any(|arg| arg.get_id() == id), "{id}");
        }
    }
}
