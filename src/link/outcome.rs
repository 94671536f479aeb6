//! What ends a session of two byte streams.

use std::{fmt, time::Duration};

use crate::{session::Timeout, telemetry::metrics::labels::SessionEnd};

/// What ended a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The client ended its stream, or went away.
    Client,
    /// The server exited, or ended its stream, while the client still wanted something.
    Server,
    /// The server did not answer `initialize` within this time.
    Mute(Duration),
    /// We were told to stop.
    Stopped,
    /// A side kept us waiting for too long.
    Timeout(Timeout),
}

impl From<&Cause> for SessionEnd {
    fn from(cause: &Cause) -> Self {
        match cause {
            Cause::Client => Self::Client,
            Cause::Server | Cause::Mute(_) => Self::Server,
            Cause::Stopped => Self::Stopped,
            Cause::Timeout(_) => Self::Timeout,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("the client ended"),
            Self::Server => f.write_str("the server ended"),
            Self::Mute(_) => f.write_str("the server did not answer initialize in time"),
            Self::Stopped => f.write_str("we were told to stop"),
            Self::Timeout(timeout) => timeout.fmt(f),
        }
    }
}
