//! Hosts and origins as requests name them, and as the command line allows them.
//!
//! Compared in lower case, without a root's dot, addresses by value. Anything that is not plainly a host or
//! an origin is neither.

use std::{
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use http::uri::{Authority, Scheme, Uri};

/// A host that a request may be for: `NAME`, with any port, or `NAME:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost(HostName);

/// An origin that may ask: `SCHEME://HOST[:PORT]`, `null`, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigin(Allowed);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    All,
    /// In lower case, as browsers write it: without the scheme's own port.
    This(String),
}

/// Not a host, or not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("want {0}")]
pub struct BadName(&'static str);

/// A host, and the port if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostName {
    name: Name,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Address(IpAddr),
    Named(String),
}

/// An origin that is a place on the web.
#[derive(Debug)]
pub(super) struct Origin {
    host: HostName,
    /// The scheme's own, where none is named.
    port: u16,
}

impl HostName {
    pub(super) fn parse(typed: &[u8]) -> Option<Self> {
        Self::of_v4(typed).or_else(|| Self::of_authority(typed))
    }

    /// `ADDRESS` or `ADDRESS:PORT` of IPv4, which most requests name: without taking it apart as an authority first.
    fn of_v4(typed: &[u8]) -> Option<Self> {
        let typed = std::str::from_utf8(typed).ok()?;
        let (address, port) = match typed.split_once(':') {
            // A number may have a sign, and a port may not.
            Some((address, port)) if port.starts_with(|first: char| first.is_ascii_digit()) => {
                (address, Some(port.parse().ok()?))
            }
            Some(_) => return None,
            None => (typed, None),
        };
        let address: Ipv4Addr = address.parse().ok()?;
        Some(Self { name: Name::Address(address.into()), port })
    }

    fn of_authority(typed: &[u8]) -> Option<Self> {
        let authority = Authority::try_from(typed).ok()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let port = match authority.port() {
            Some(port) => Some(port.as_str().parse().ok()?),
            // "host:" is a host; what else stands behind a colon is no port.
            None => authority.as_str().rsplit_once(':').is_none_or(|(_, rest)| rest.ends_with(']')).then_some(None)?,
        };
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = match bare.parse::<IpAddr>() {
            Ok(address) => Name::Address(address.to_canonical()),
            Err(_) => Name::Named(bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase()),
        };
        (name != Name::Named(String::new())).then_some(Self { name, port })
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.name {
            Name::Address(address) => Some(address),
            Name::Named(_) => None,
        }
    }

    /// Browsers never ask a name server for it (RFC 6761, 6.3).
    pub(super) fn is_localhost(&self) -> bool {
        matches!(&self.name, Name::Named(name) if name == "localhost")
    }
}

impl Origin {
    pub(super) fn parse(typed: &[u8]) -> Option<Self> {
        let (scheme, authority) = std::str::from_utf8(typed).ok()?.split_once("://")?;
        let default = own_port(scheme)?;
        let host = HostName::parse(authority.as_bytes())?;
        let port = host.port.unwrap_or(default);
        Some(Self { host, port })
    }

    /// Whether it is the origin of pages at `host`. The scheme is left aside: TLS may end in front of us.
    pub(super) fn is_at(&self, host: &HostName) -> bool {
        // Without a port, `Host` means the one of the scheme, which only the origin tells.
        self.host.name == host.name && host.port.is_none_or(|port| port == self.port)
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.host.is_localhost() || self.host.address().is_some_and(|address| address.is_loopback())
    }
}

fn own_port(scheme: &str) -> Option<u16> {
    [("http", 80), ("https", 443)]
        .into_iter()
        .find_map(|(name, port)| scheme.eq_ignore_ascii_case(name).then_some(port))
}

impl AllowedHost {
    pub(super) fn covers(&self, host: &HostName) -> bool {
        self.0.name == host.name && (self.0.port.is_none() || self.0.port == host.port)
    }
}

impl FromStr for AllowedHost {
    type Err = BadName;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        let is_bare_v6 = typed.parse::<std::net::Ipv6Addr>().is_ok();
        let bracketed = if is_bare_v6 { format!("[{typed}]") } else { typed.to_owned() };
        HostName::parse(bracketed.as_bytes()).map(Self).ok_or(BadName("a name or an address, with or without a port"))
    }
}

impl AllowedOrigin {
    pub(super) fn covers(&self, origin: &[u8]) -> bool {
        match &self.0 {
            Allowed::All => true,
            Allowed::This(allowed) => allowed.as_bytes().eq_ignore_ascii_case(origin),
        }
    }
}

impl FromStr for AllowedOrigin {
    type Err = BadName;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        let wrong = || BadName("SCHEME://HOST[:PORT], such as https://example.com, or 'null', or '*'");
        match typed {
            "*" => return Ok(Self(Allowed::All)),
            "null" => return Ok(Self(Allowed::This("null".to_owned()))),
            _ => {}
        }
        let uri: Uri = typed.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else { return Err(wrong()) };
        if uri.path().len() > 1 || uri.query().is_some() || HostName::parse(authority.as_str().as_bytes()).is_none() {
            return Err(wrong());
        }
        let own = own_port(scheme.as_str()).filter(|_| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
        let authority = match authority.port_u16() {
            Some(port) if Some(port) == own => authority.host(),
            _ => authority.as_str(),
        };
        Ok(Self(Allowed::This(format!("{scheme}://{authority}").to_ascii_lowercase())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_way_of_an_address_says_what_the_long_way_says_or_nothing() {
        let is_short = |typed: &str| {
            let short = HostName::of_v4(typed.as_bytes());
            assert!(short.is_none() || short == HostName::of_authority(typed.as_bytes()), "{typed}");
            short.is_some()
        };
        for typed in ["127.0.0.1", "127.0.0.1:8080", "127.0.0.1:0080"] {
            assert!(is_short(typed), "{typed}");
        }
        for port in ["", "+80", "-1", "65536", "80:80", "80x", "]"] {
            assert!(!is_short(&format!("127.0.0.1:{port}")), "{port}");
        }
        for typed in ["", "127.1", "0127.0.0.1", "127.0.0.1.", " 127.0.0.1", "a@127.0.0.1", "[::1]:80", "localhost:80"]
        {
            assert!(!is_short(typed), "{typed}");
        }
    }
}
