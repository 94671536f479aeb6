//! Which flags of `shadowcat proxy` apply to which link; one that does not apply is refused, not ignored.

use clap::{ArgMatches, parser::ValueSource};

use crate::cli::exit::{Failure, USAGE};

/// Refuses the first flag that was typed and does not apply to the link that was asked for.
pub(crate) fn check(typed: &ArgMatches) -> Result<(), Failure> {
    let Some(("proxy", proxy)) = typed.subcommand() else { return Ok(()) };
    let was_typed = |id: &str| proxy.value_source(id) == Some(ValueSource::CommandLine);
    let (listens, has_url) = (was_typed("listen"), was_typed("url"));
    if !has_url && !was_typed("command") {
        // That the server is missing is the first thing to say.
        return Ok(());
    }
    for (id, needs) in SCOPES {
        if !was_typed(id) {
            continue;
        }
        let lacking = match needs {
            Needs::Command => has_url.then_some("a server that is a command, not a URL"),
            Needs::Url => (!has_url).then_some("a server that is a URL, not a command"),
            Needs::Listen => (!listens).then_some("clients over HTTP: --listen ADDR"),
            Needs::Stdio => listens.then_some("a client on stdin, so no --listen"),
            Needs::ListenAndCommand => {
                (!listens || has_url).then_some("clients over HTTP (--listen ADDR) and a server that is a command")
            }
            Needs::ListenAndUrl => {
                (!listens || !has_url).then_some("clients over HTTP (--listen ADDR) and a server that is a URL")
            }
        };
        if let Some(lacking) = lacking {
            let flag = id.replace('_', "-");
            return Err(Failure::new(USAGE, format!("--{flag} is for {lacking}; see 'shadowcat proxy --help'")));
        }
    }
    Ok(())
}

/// What a flag is for.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "flags of the other links are on their way")]
enum Needs {
    Command,
    Url,
    Listen,
    Stdio,
    ListenAndCommand,
    ListenAndUrl,
}

/// Flags that do not apply everywhere, by their ids.
const SCOPES: &[(&str, Needs)] = &[
    ("env", Needs::Command),
    ("env_clear", Needs::Command),
    ("cwd", Needs::Command),
    ("shutdown_grace", Needs::Command),
    ("kill_after", Needs::Command),
    ("path", Needs::Listen),
    ("legacy_sse", Needs::Listen),
    ("allow_origin", Needs::Listen),
    ("allow_host", Needs::Listen),
    ("require_bearer_env", Needs::Listen),
    ("tls_cert", Needs::Listen),
    ("tls_key", Needs::Listen),
    ("header_timeout", Needs::Listen),
    ("body_timeout", Needs::Listen),
    ("write_timeout", Needs::Listen),
    ("idle_timeout", Needs::Listen),
    ("max_connections", Needs::Listen),
    ("header", Needs::Url),
    ("bearer_env", Needs::Url),
    ("ca", Needs::Url),
    ("connect_timeout", Needs::Url),
    ("response_timeout", Needs::Url),
    ("header_check", Needs::Listen),
    ("child", Needs::ListenAndCommand),
    ("max_children", Needs::ListenAndCommand),
    ("max_sessions", Needs::ListenAndCommand),
    ("session_idle", Needs::ListenAndCommand),
    ("start_timeout", Needs::ListenAndCommand),
    ("public_url", Needs::ListenAndUrl),
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
