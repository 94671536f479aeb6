//! Whether the server is there: name, TCP and TLS, with the time of each.

use std::{net::IpAddr, time::Duration};

use shadowcat::transport::http::client::Probe;

use super::{answer::millis, asker::Asker, finding::Finding};

/// Where the server is, as far as web pages are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Loopback or a private network: a browser inside it can be made to ask.
    Inside,
    /// Anybody may ask.
    Outside,
}

/// Connects once, step by step. The error is the finding that ends everything.
pub(super) async fn check(probe: &Probe, asker: &Asker) -> Result<(Finding, Place), Finding> {
    if probe.is_proxied() {
        return match asker.client.reachable().await {
            Ok(()) => {
                let seen = "through the proxy that the environment names; the server's address is not seen";
                Ok((Finding::ok(NAME, seen), Place::Outside))
            }
            Err(error) => Err(Finding::problem(NAME, error.cause()).advise(PROXY)),
        };
    }
    let reached = match probe.reach().await {
        Ok(reached) => reached,
        Err(error) => return Err(unreachable(&error.to_string())),
    };
    let mut steps = vec![format!("name {}", millis(reached.resolved)), format!("TCP {}", millis(reached.connected))];
    steps.extend(reached.secured.map(|secured| format!("TLS {}", millis(secured))));
    let mut seen = format!("{}: {}", reached.address, steps.join(", "));
    if reached.addresses > 1 {
        seen = format!("{seen}; the name has {} addresses", reached.addresses);
    }
    let finding = if reached.resolved + reached.connected + reached.secured.unwrap_or_default() > SLOW {
        Finding::warning(NAME, seen).advise("connecting is slow; see that clients keep their connections")
    } else {
        Finding::ok(NAME, seen)
    };
    Ok((finding, place(reached.address.ip())))
}

fn unreachable(what: &str) -> Finding {
    Finding::problem(NAME, what).advise(next_step(what))
}

/// What to do about a connection that did not come about.
fn next_step(what: &str) -> &'static str {
    if what.contains("the name") {
        "is the name right, and does this machine's name server know it?"
    } else if what.contains("CaUsedAsEndEntity") {
        "the server shows an authority's certificate as its own: make it one with basicConstraints=CA:FALSE, as openssl req \
         -x509 does with -addext"
    } else if what.contains("ertificate") || what.contains("UnknownIssuer") {
        "the certificate is not believed: --ca FILE names the authority; or it is for another name, or out of date"
    } else if what.contains("refused") {
        "nobody listens there: is the server started, at this port and this address?"
    } else {
        "is there a firewall on the way, or is it the wrong port, or http in place of https?"
    }
}

fn place(address: IpAddr) -> Place {
    let is_inside = match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    };
    if is_inside { Place::Inside } else { Place::Outside }
}

const NAME: &str = "reachable";
const PROXY: &str = "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY name the proxy, NO_PROXY what goes without";

/// Connecting that takes longer is worth a word.
const SLOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_not_to_get_there_has_its_own_advice() {
        for (what, advice) in [
            ("cannot connect: invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "CA:FALSE"),
            ("cannot connect: invalid peer certificate: UnknownIssuer", "--ca FILE"),
            ("cannot connect: Connection refused (os error 111)", "nobody listens"),
            ("cannot connect: timed out", "firewall"),
        ] {
            assert!(next_step(what).contains(advice), "{what}: {}", next_step(what));
        }
    }

    #[test]
    fn pages_inside_reach_private_addresses() {
        for inside in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.1.1", "::1", "fd00::1", "::ffff:127.0.0.1"] {
            assert_eq!(place(inside.parse().unwrap()), Place::Inside, "{inside}");
        }
        for outside in ["1.1.1.1", "2606:4700::1111"] {
            assert_eq!(place(outside.parse().unwrap()), Place::Outside, "{outside}");
        }
    }
}
