//! Arguments that say how a server over HTTP is reached.
//!
//! [`ReachArgs`] are for whoever asks a server, so `doctor` has them too; [`UpstreamArgs`] are of a proxy alone. Tokens come from
//! variables, never from the command line, where every process of the machine could read them.

use std::{env, path::PathBuf, time::Duration};

use clap::{ArgAction, Args as ClapArgs, ValueEnum};
use http::{HeaderName, HeaderValue, Uri, header};
use shadowcat::{link::relay::HeaderCheck, transport::http::client};

use super::parse_duration;
use crate::cli::exit::{CONFIGURATION, Failure, USAGE};

/// Arguments of an upstream that is HTTP.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Server over HTTP")]
pub(crate) struct UpstreamArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    /// How long a connection that nobody uses is kept. Servers close theirs after 5 s commonly, and a request that
    /// meets that end may not be sent again [default: 4s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) upstream_idle_timeout: Option<Duration>,

    /// How clients name this proxy, if not by the address in their requests: for logging in with OAuth
    #[arg(long, value_name = "URL", value_parser = parse_public_url)]
    pub(crate) public_url: Option<Uri>,
}

/// How to get to a server over HTTP, for whoever wants to.
///
/// Proxies are taken from the environment: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Server over HTTP")]
pub(crate) struct ReachArgs {
    /// Send this header with every request, in place of the client's; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header, action = ArgAction::Append)]
    pub(crate) header: Vec<(HeaderName, HeaderValue)>,

    /// Send the value of this environment variable as bearer token, in place of the client's
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) bearer_env: Option<String>,

    /// Believe the root certificates in this PEM file too; may be repeated
    #[arg(long, value_name = "FILE", action = ArgAction::Append)]
    pub(crate) ca: Vec<PathBuf>,

    /// How long connecting may take, name look-up and TLS included [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) connect_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HeaderCheckName {
    /// Answer with an error, and do not let the server have the message
    Strict,
    /// Log a line; the server decides
    Warn,
    /// Do not look
    Off,
}

impl UpstreamArgs {
    /// What a client for the server at `typed` needs.
    pub(crate) fn client_config(&self, typed: &str) -> Result<client::Config, Failure> {
        let mut config = self.reach.client_config(typed)?;
        config.idle_timeout = self.upstream_idle_timeout.unwrap_or(config.idle_timeout);
        Ok(config)
    }
}

impl ReachArgs {
    /// What a client for the server at `typed` needs.
    pub(crate) fn client_config(&self, typed: &str) -> Result<client::Config, Failure> {
        let mut config = client::Config::new(parse_url(typed).map_err(|line| Failure::new(USAGE, line))?);
        for (name, value) in &self.header {
            config.headers.append(name, value.clone());
        }
        if let Some(variable) = &self.bearer_env {
            config.headers.insert(header::AUTHORIZATION, bearer(variable)?);
        }
        config.ca.clone_from(&self.ca);
        config.connect_timeout = self.connect_timeout.unwrap_or(config.connect_timeout);
        Ok(config)
    }
}

impl From<HeaderCheckName> for HeaderCheck {
    fn from(name: HeaderCheckName) -> Self {
        match name {
            HeaderCheckName::Strict => Self::Strict,
            HeaderCheckName::Warn => Self::Warn,
            HeaderCheckName::Off => Self::Off,
        }
    }
}

fn bearer(variable: &str) -> Result<HeaderValue, Failure> {
    let unusable = |what: &str| Failure::new(CONFIGURATION, format!("--bearer-env {variable}: {what}"));
    let wanted = "want the name of a variable that holds the token, and that is exported to us";
    let token = env::var(variable).map_err(|_| unusable(&format!("no such variable, or not of text; {wanted}")))?;
    if token.trim().is_empty() {
        return Err(unusable("the variable is empty"));
    }
    let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
    let mut value = value.map_err(|_| unusable("the variable holds bytes that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn parse_header(typed: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = typed.split_once(':').ok_or("want 'NAME: VALUE'")?;
    let name: HeaderName = name.trim().parse().map_err(|_| format!("'{}' is no header's name", name.trim()))?;
    if OURS.contains(&name) {
        return Err(format!("{name} is not for you to set: it belongs to the connection"));
    }
    let mut value =
        HeaderValue::try_from(value.trim()).map_err(|_| "the value holds bytes that a header cannot carry")?;
    value.set_sensitive(true);
    Ok((name, value))
}

pub(crate) fn parse_url(typed: &str) -> Result<Uri, String> {
    let no_url = || {
        if lacks_scheme(typed) {
            return format!("'{typed}' is no URL; did you mean http://{typed}?");
        }
        format!("'{typed}' is no URL; want http://… or https://…, such as https://example.com/mcp")
    };
    let url: Uri = typed.parse().map_err(|_| no_url())?;
    let authority = url.authority().map(http::uri::Authority::as_str);
    match (url.scheme_str(), authority) {
        (Some("http" | "https"), Some(authority)) if authority.contains('@') => {
            Err("credentials do not belong into a URL, where others see them: use --bearer-env or --header".to_owned())
        }
        (Some("http" | "https"), Some(_)) => Ok(url),
        _ => Err(no_url()),
    }
}

/// Whether this is HOST:PORT, maybe with a path.
pub(crate) fn lacks_scheme(typed: &str) -> bool {
    let authority = typed.split('/').next().unwrap_or_default();
    let is_host = |host: &str| !host.is_empty() && !host.contains([':', ' ']) || host.starts_with('[');
    authority.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok())
}

fn parse_public_url(typed: &str) -> Result<Uri, String> {
    let url = parse_url(typed)?;
    if url.query().is_some() { Err("want a URL without a query".to_owned()) } else { Ok(url) }
}

const OURS: [HeaderName; 6] =
    [header::CONNECTION, header::CONTENT_LENGTH, header::HOST, header::TE, header::TRANSFER_ENCODING, header::UPGRADE];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_split_at_the_first_colon_and_never_shown() {
        let (name, value) = parse_header("X-Key: a: b ").unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("x-key", &b"a: b"[..]));
        assert!(!format!("{value:?}").contains("a: b"));
        for wrong in ["X-Key", ": x", "a b: c", "Host: x", "content-length: 3", "X: a\nb"] {
            assert!(parse_header(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn host_and_port_are_told_from_a_program() {
        for typed in ["localhost:8080/mcp", "127.0.0.1:80", "[::1]:80/x"] {
            assert!(lacks_scheme(typed), "{typed}");
            assert!(parse_url(typed).is_err_and(|said| said.ends_with(&format!("http://{typed}?"))), "{typed}");
        }
        for typed in ["npx", "/usr/bin/x", "a:b", "unix:/x", ":80", "npx -y a:1"] {
            assert!(!lacks_scheme(typed), "{typed}");
        }
    }

    #[test]
    fn url_is_absolute_and_holds_no_credentials() {
        assert!(parse_url("https://a.example/mcp?x=1").is_ok());
        for wrong in ["ftp://a/", "/mcp", "a.example", "https://user:word@a.example/"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
        assert!(parse_public_url("https://a.example/mcp?x=1").is_err());
    }
}
