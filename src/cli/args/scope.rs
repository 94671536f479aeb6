//! Which flags of `shadowcat proxy` apply to which link, and whose they are where a file has several servers. A flag
//! that does not apply is refused, not ignored.

use clap::ArgMatches;

use super::{listen::ListenAddr, observe::MetricsAddr, server::ServerAddr};

/// Which link is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    clients: Clients,
    server: Server,
    /// Whether somebody else than clients comes over HTTP.
    has_metrics: bool,
}

impl Link {
    /// The link that these arguments of `shadowcat proxy` ask for. `None` without a server: that is the first
    /// thing to say then.
    pub(crate) fn asked_for(proxy: &ArgMatches) -> Option<Self> {
        let clients = match proxy.get_one("listen") {
            None => Clients::Stdio,
            Some(ListenAddr::Http(_) | ListenAddr::HttpUnix(_)) => Clients::Http,
            Some(ListenAddr::Tcp(_) | ListenAddr::Unix(_)) => Clients::Lines,
        };
        let server = match proxy.get_one("url") {
            Some(ServerAddr::Url(_)) => Server::Url,
            Some(ServerAddr::Socket(_)) => Server::Socket,
            None if proxy.contains_id("command") => Server::Command,
            None => return None,
        };
        let has_metrics = proxy.get_one::<MetricsAddr>("metrics").is_some();
        Some(Self { clients, server, has_metrics })
    }

    /// What is lacking for the flag with this id to have a meaning.
    pub(crate) fn lacks(self, id: &str) -> Option<&'static str> {
        if id == "allow_host" && self.has_metrics {
            return None;
        }
        row(id).and_then(|(_, needs, _)| needs.lacking(self.clients, self.server))
    }
}

/// Whose the flag with this id is.
pub(crate) fn whose(id: &str) -> Whose {
    row(id).map_or(Whose::Process, |&(_, _, whose)| whose)
}

/// What the flag with this id is for, as the documents have it.
#[cfg(test)]
pub(crate) fn meant_for(id: &str) -> &'static str {
    match row(id).map(|(_, needs, _)| needs) {
        None | Some(Needs::Nothing) => "any",
        Some(Needs::Command) => "commands",
        Some(Needs::CommandOrSocket) => "commands, sockets",
        Some(Needs::Url) => "URLs",
        Some(Needs::UrlOrSocket) => "URLs, sockets",
        Some(Needs::Http) => "HTTP clients",
        Some(Needs::HttpAndCommand) => "HTTP clients, commands",
        Some(Needs::HttpAndUrl) => "HTTP clients, URLs",
        Some(Needs::Sessions) => "HTTP clients before commands; lines of JSON",
        Some(Needs::LinesOrChildren) => "clients that speak lines; HTTP clients before commands",
    }
}

fn row(id: &str) -> Option<&'static (&'static str, Needs, Whose)> {
    FLAGS.iter().find(|(of, ..)| *of == id)
}

/// Where a file may have a key: it has tables for servers, `[servers.NAME]`, or it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The process's or its listener's: above all tables only.
    Process,
    /// A server's: in its table, or above all tables for every server.
    Each,
    /// One server's alone, and never another's: in its table. Secrets and the like.
    Own,
    /// What says which file and which server: in no file.
    CommandLine,
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
    /// Any link.
    Nothing,
    Command,
    CommandOrSocket,
    Url,
    UrlOrSocket,
    Http,
    HttpAndCommand,
    HttpAndUrl,
    /// Where each session has something of its own.
    Sessions,
    /// Lines on the client's side, or children behind HTTP.
    LinesOrChildren,
}

impl Needs {
    /// What is lacking for the flag to have a meaning.
    fn lacking(self, clients: Clients, server: Server) -> Option<&'static str> {
        let is_http = clients == Clients::Http;
        let is_command = server == Server::Command;
        let (applies, what) = match self {
            Self::Nothing => (true, ""),
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
            Self::LinesOrChildren => {
                let what =
                    "a client that speaks lines (stdin, unix:, tcp:), or HTTP clients and a server that is a command";
                (!is_http || is_command, what)
            }
            Self::Sessions => {
                let what = "clients that connect (--listen ADDR): over HTTP to a command, or with lines of JSON";
                (clients == Clients::Lines || (is_http && is_command), what)
            }
        };
        (!applies).then_some(what)
    }
}

/// Flags where the first has no meaning without the second. Not clap's `requires`: the second may be in the file.
pub(crate) const TOGETHER: [(&str, &str); 2] = [("tls_cert", "tls_key"), ("tls_key", "tls_cert")];

/// Every flag of `shadowcat proxy` by its id, which link it is for, and whose it is.
const FLAGS: &[(&str, Needs, Whose)] = &[
    ("url", Needs::Nothing, Whose::Own),
    ("command", Needs::Nothing, Whose::Own),
    ("config", Needs::Nothing, Whose::CommandLine),
    ("server", Needs::Nothing, Whose::CommandLine),
    ("env", Needs::Command, Whose::Own),
    ("env_clear", Needs::Command, Whose::Each),
    ("cwd", Needs::Command, Whose::Own),
    ("max_frame_len", Needs::Nothing, Whose::Each),
    ("memory_budget", Needs::Nothing, Whose::Process),
    ("memory_timeout", Needs::Nothing, Whose::Process),
    ("pool", Needs::Nothing, Whose::Process),
    ("verify", Needs::Nothing, Whose::Process),
    ("max_id_len", Needs::Nothing, Whose::Each),
    ("max_batch_len", Needs::Nothing, Whose::Each),
    ("max_depth", Needs::Nothing, Whose::Each),
    ("max_pending", Needs::Nothing, Whose::Each),
    ("drain_timeout", Needs::Nothing, Whose::Process),
    ("shutdown_grace", Needs::CommandOrSocket, Whose::Each),
    ("kill_after", Needs::Command, Whose::Each),
    ("listen", Needs::Nothing, Whose::Process),
    ("path", Needs::Http, Whose::Process),
    ("legacy_sse", Needs::Http, Whose::Each),
    ("allow_origin", Needs::Http, Whose::Process),
    ("allow_host", Needs::Http, Whose::Process),
    ("require_bearer_env", Needs::Http, Whose::Process),
    ("tls_cert", Needs::Http, Whose::Process),
    ("tls_key", Needs::Http, Whose::Process),
    ("header_timeout", Needs::Http, Whose::Process),
    ("body_timeout", Needs::Http, Whose::Process),
    ("write_timeout", Needs::Http, Whose::Process),
    ("idle_timeout", Needs::Http, Whose::Process),
    ("max_connections", Needs::Http, Whose::Process),
    ("header", Needs::Url, Whose::Own),
    ("bearer_env", Needs::Url, Whose::Own),
    ("ca", Needs::Url, Whose::Each),
    ("connect_timeout", Needs::UrlOrSocket, Whose::Each),
    ("upstream_idle_timeout", Needs::Url, Whose::Each),
    ("response_timeout", Needs::Nothing, Whose::Each),
    ("response_timeout_for", Needs::Nothing, Whose::Each),
    ("keep_alive", Needs::HttpAndCommand, Whose::Each),
    ("slow_consumer", Needs::LinesOrChildren, Whose::Process),
    ("stdio_read_timeout", Needs::CommandOrSocket, Whose::Each),
    ("stdio_write_timeout", Needs::CommandOrSocket, Whose::Each),
    ("sse_connect_timeout", Needs::Url, Whose::Each),
    ("sse_read_timeout", Needs::Url, Whose::Each),
    ("header_check", Needs::Http, Whose::Each),
    ("child", Needs::HttpAndCommand, Whose::Each),
    ("restart", Needs::HttpAndCommand, Whose::Each),
    ("max_children", Needs::HttpAndCommand, Whose::Each),
    ("max_sessions", Needs::Sessions, Whose::Each),
    ("session_idle", Needs::HttpAndCommand, Whose::Each),
    ("start_timeout", Needs::Command, Whose::Each),
    ("public_url", Needs::HttpAndUrl, Whose::Own),
    ("metrics", Needs::Nothing, Whose::Process),
    ("no_server_timing", Needs::Http, Whose::Each),
    ("log_level", Needs::Nothing, Whose::Process),
    ("log_format", Needs::Nothing, Whose::Process),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;

    #[test]
    fn every_flag_has_its_row_and_every_row_its_flag() {
        let definition = args::definition();
        let proxy = definition.find_subcommand("proxy").expect("there is a proxy");
        for (id, ..) in FLAGS {
            assert!(proxy.get_arguments().any(|arg| arg.get_id() == id), "FLAGS has {id}, and there is no such flag");
        }
        for arg in proxy.get_arguments().filter(|arg| arg.get_id() != "help") {
            let id = arg.get_id().as_str();
            assert!(
                row(id).is_some(),
                "{id} is new: add (\"{id}\", Needs::…, Whose::…) to FLAGS in src/cli/args/scope.rs: which link it is \
                 for, and whether one server may have another value than the next"
            );
        }
    }
}
