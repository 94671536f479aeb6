//! Who may ask: `Origin`, `Host` and a token, judged from a request's head before its body is looked at.
//!
//! A web page can make its reader's browser send requests to this machine, and by DNS rebinding under a name
//! of the page's own. It can forge neither `Origin` nor `Host`; so both are checked (Rules S1, S2, Q8 and Q9:
//! MCP 2025-11-25, Transports, "Security Warning"). Nothing here knows sockets, paths or messages.
//!
//! | we listen at | `Host` may be | `Origin`, if there is one, may be |
//! |---|---|---|
//! | loopback | `localhost` or a loopback address | that of `Host`, or any on loopback |
//! | one address | that address | that of `Host` |
//! | every address | `localhost` or any address, as only names can be rebound | that of `Host` |
//! | a Unix socket | anything | none |
//!
//! and what `--allow-host` and `--allow-origin` add. Ports never matter in `Host`: they cannot be rebound.

mod names;

use std::{fmt, hint::black_box, net::IpAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};

pub use names::{AllowedHost, AllowedOrigin, BadName};
use names::{HostName, Origin};

use super::{Body, Response};

/// What may ask.
#[derive(Debug, Clone)]
pub struct Guard {
    place: Place,
    /// Beyond those that follow from the place.
    origins: Vec<AllowedOrigin>,
    hosts: Vec<AllowedHost>,
    token: Option<Token>,
}

/// Where we listen, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the table above")]
pub enum Place {
    /// Only this machine reaches us by IP.
    Loopback,
    /// One address that others may reach.
    Address(IpAddr),
    /// Every address of this machine.
    Everywhere,
    /// A file that its owner alone may connect to.
    UnixSocket,
}

/// A secret that clients must show. Never printed.
#[derive(Clone)]
pub struct Token(Box<[u8]>);

/// Why a request is refused, in the order in which it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No `Host`, which HTTP/1.1 demands, and no authority either.
    #[error("no Host header")]
    NoHost,
    /// Two names for one request: who reads the one and who reads the other would disagree.
    #[error("the request names more than one host")]
    HostsDiffer,
    /// The host is not one that we go by.
    #[error("this Host is not allowed here; --allow-host NAME allows it")]
    Host,
    /// The origin is not one that may ask.
    #[error("this Origin is not allowed here; --allow-origin ORIGIN allows it")]
    Origin,
    /// No token.
    #[error("a bearer token is required")]
    NoToken,
    /// Another token.
    #[error("the bearer token is wrong")]
    WrongToken,
}

impl Place {
    /// The place of this address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self::Loopback,
            address if address.is_unspecified() => Self::Everywhere,
            address => Self::Address(address),
        }
    }
}

impl Guard {
    /// Allows what follows from the place alone.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self { place, origins: Vec::new(), hosts: Vec::new(), token: None }
    }

    /// Allows these origins too.
    #[must_use]
    pub fn with_origins(mut self, origins: impl IntoIterator<Item = AllowedOrigin>) -> Self {
        self.origins.extend(origins);
        self
    }

    /// Allows these hosts too.
    #[must_use]
    pub fn with_hosts(mut self, hosts: impl IntoIterator<Item = AllowedHost>) -> Self {
        self.hosts.extend(hosts);
        self
    }

    /// Demands this token.
    #[must_use]
    pub fn with_token(mut self, token: Option<Token>) -> Self {
        self.token = token;
        self
    }

    /// Judges a request's head. Returns its origin if there is one, which is allowed then.
    ///
    /// # Errors
    ///
    /// The first reason to refuse it.
    pub fn check<'a>(&self, head: &'a Parts) -> Result<Option<&'a HeaderValue>, Refusal> {
        let host = self.host(head)?;
        self.origin(&head.headers, host.as_ref())
    }

    /// Checks the token, and takes it out of the head: it is for us, and whoever is behind us is not to get
    /// it (Rule S7: MCP 2025-11-25, Authorization, "Access Token Privilege Restriction"). Without a token of
    /// our own, the header is the upstream's and stays.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoToken`] or [`Refusal::WrongToken`].
    pub fn take_token(&self, head: &mut Parts) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        // Browsers ask whether they may ask without any credentials (Fetch, "CORS-preflight fetch").
        if head.method == Method::OPTIONS {
            return Ok(());
        }
        let mut shown = head.headers.get_all(header::AUTHORIZATION).iter();
        let verdict = match (shown.next().map(HeaderValue::as_bytes), shown.next()) {
            (None, _) => Err(Refusal::NoToken),
            (Some(value), None) if bearer(value).is_some_and(|shown| token.equals(shown)) => Ok(()),
            _ => Err(Refusal::WrongToken),
        };
        head.headers.remove(header::AUTHORIZATION);
        verdict
    }

    /// The host that the request is for. `None` if that means nothing here.
    fn host(&self, head: &Parts) -> Result<Option<HostName>, Refusal> {
        let mut named = head.headers.get_all(header::HOST).iter();
        let (first, second) = (named.next(), named.next());
        if second.is_some() {
            return Err(Refusal::HostsDiffer);
        }
        let in_header = first.map(|value| HostName::parse(value.as_bytes()));
        let in_target = head.uri.authority().map(|authority| HostName::parse(authority.as_str().as_bytes()));
        if self.place == Place::UnixSocket {
            // Names lead to addresses, never to files.
            return Ok(None);
        }
        let host = match (in_header, in_target) {
            (None, None) => return Err(Refusal::NoHost),
            (Some(one), Some(other)) if one != other => return Err(Refusal::HostsDiffer),
            (Some(host), _) | (None, Some(host)) => host.ok_or(Refusal::Host)?,
        };
        let is_ours = match (self.place, host.address()) {
            (Place::Loopback, Some(address)) => address.is_loopback(),
            (Place::Address(ours), Some(address)) => address == ours,
            (Place::Everywhere, Some(_)) => true,
            (Place::Loopback | Place::Everywhere, None) => host.is_localhost(),
            (Place::Address(_), None) | (Place::UnixSocket, _) => false,
        };
        if is_ours || self.hosts.iter().any(|allowed| allowed.covers(&host)) {
            Ok(Some(host))
        } else {
            Err(Refusal::Host)
        }
    }

    fn origin<'a>(&self, headers: &'a HeaderMap, host: Option<&HostName>) -> Result<Option<&'a HeaderValue>, Refusal> {
        let mut named = headers.get_all(header::ORIGIN).iter();
        let Some(value) = named.next() else { return Ok(None) };
        if named.next().is_some() {
            return Err(Refusal::Origin);
        }
        if self.origins.iter().any(|allowed| allowed.covers(value.as_bytes())) {
            return Ok(Some(value));
        }
        let origin = Origin::parse(value.as_bytes()).ok_or(Refusal::Origin)?;
        let is_same = host.is_some_and(|host| origin.is_at(host));
        if is_same || (self.place == Place::Loopback && origin.is_loopback()) {
            Ok(Some(value))
        } else {
            Err(Refusal::Origin)
        }
    }
}

/// What stands behind `Bearer` (RFC 6750, 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token)
}

const SCHEME: &[u8] = b"Bearer ";

impl Token {
    /// A token as clients send it. `None` if no header could carry it.
    #[must_use]
    pub fn new(token: &str) -> Option<Self> {
        let is_sendable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_sendable.then(|| Self(token.as_bytes().into()))
    }

    /// In a time that depends on the lengths only, so that a token cannot be guessed byte by byte.
    fn equals(&self, shown: &[u8]) -> bool {
        let differing = self.0.iter().zip(shown).fold(0, |all, (one, other)| black_box(all | (one ^ other)));
        self.0.len() == shown.len() && differing == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Refusal {
    /// Its status (Rules S2 and Q9: 403 in every revision, also for `Host`).
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoHost | Self::HostsDiffer => StatusCode::BAD_REQUEST,
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
        }
    }

    /// The whole answer. Its body is a JSON-RPC error without an id, as the request was not read (Rule S2).
    #[must_use]
    pub fn response(self) -> Response {
        let body = serde_json::json!({
            "jsonrpc": "2.0",
            "error": {"code": INVALID_REQUEST, "message": self.to_string(), "data": {"source": "shadowcat"}},
        });
        let mut response = Response::new(Body::from(Bytes::from(body.to_string())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // RFC 6750, 3.1: no error code where no token was shown.
        let challenge = match self {
            Self::NoToken => "Bearer",
            Self::WrongToken => "Bearer error=\"invalid_token\"",
            _ => return response,
        };
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        response
    }
}

/// JSON-RPC 2.0, "Error object".
const INVALID_REQUEST: i32 = -32600;

#[cfg(test)]
mod tests;
