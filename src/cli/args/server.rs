//! Where a server is that is not started: a URL, or a socket where it speaks lines of JSON.

use std::str::FromStr;

use shadowcat::transport::connection::Target;

/// What was typed in place of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerAddr {
    /// A URL, to be looked at by whoever needs it: a wrong one is refused with a line of its own.
    Url(String),
    /// `unix:PATH` or `tcp:HOST:PORT`.
    Socket(Target),
}

impl FromStr for ServerAddr {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        if let Some(path) = typed.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::Socket(Target::Unix(path.into()))) };
        }
        let Some(address) = typed.strip_prefix("tcp:") else { return Ok(Self::Url(typed.to_owned())) };
        let (host, port) = match address.rsplit_once(':') {
            // A port alone is this machine's, as with --listen.
            None | Some(("", _)) => ("127.0.0.1", address.trim_start_matches(':')),
            Some(parts) => parts,
        };
        if host.starts_with('/') || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(Self::Socket(Target::Tcp(format!("{host}:{port}"))))
    }
}

fn wrong() -> String {
    "want unix:PATH or tcp:HOST:PORT; or a URL, such as https://example.com/mcp".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_told_from_a_url() {
        let tcp = |address: &str| ServerAddr::Socket(Target::Tcp(address.to_owned()));
        for (typed, expected) in [
            ("unix:/run/a b", ServerAddr::Socket(Target::Unix("/run/a b".into()))),
            ("unix:x", ServerAddr::Socket(Target::Unix("x".into()))),
            ("tcp:host.example:80", tcp("host.example:80")),
            ("tcp:[::1]:80", tcp("[::1]:80")),
            ("tcp:80", tcp("127.0.0.1:80")),
            ("tcp::80", tcp("127.0.0.1:80")),
            ("http://a.example/", ServerAddr::Url("http://a.example/".to_owned())),
        ] {
            assert_eq!(typed.parse(), Ok(expected), "{typed}");
        }
        for typed in ["unix:", "tcp:", "tcp:host", "tcp:host:port", "tcp://host:80", "tcp:host:99999"] {
            assert!(typed.parse::<ServerAddr>().is_err(), "{typed}");
        }
    }
}
