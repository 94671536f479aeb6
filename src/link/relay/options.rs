//! How a relay treats what passes.

use std::{fmt, time::Duration};

use http::Uri;
use shadowcat_codecs::Limits;

use crate::{resources::Resources, session::ResponseTimeouts};

/// How a relay treats what passes.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// What a message may be, in both directions.
    pub limits: Limits,
    /// What is done about a request that contradicts itself.
    pub header_check: HeaderCheck,
    /// How clients name us, if they log in with OAuth.
    pub public_url: Option<Uri>,
    /// Whether answers do not say in `Server-Timing` how long they took in here, and at the server.
    pub no_server_timing: bool,
    /// What it shares with the process.
    pub resources: Resources,
    /// How long the upstream may take to begin an answer, and then to go on with it: every byte of it, a comment
    /// too, begins the time anew. Then the client gets a 504, or sees the answer break off.
    pub response: ResponseTimeouts,
    /// How long the upstream may take to begin a stream that is asked for with GET. For ever if `None`.
    pub sse_connect: Option<Duration>,
    /// How long an event stream may bring no byte, comments included. For ever if `None`.
    pub sse_read: Option<Duration>,
}

/// What is done about a request whose mirrored headers do not say what its body says, or that is no JSON, or that
/// holds a routing key twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_enums, reason = "a link must say what it does in each")]
pub enum HeaderCheck {
    /// Answered with an error; the upstream never has the whole message.
    Strict,
    /// Logged; the upstream decides.
    #[default]
    Warn,
    /// Not looked at.
    Off,
}

impl fmt::Display for HeaderCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Warn => "warn",
            Self::Off => "off",
        })
    }
}
