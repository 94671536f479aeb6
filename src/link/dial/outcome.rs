//! What a session with a server over HTTP is held to, and how it ended.

use std::{fmt, time::Duration};

use shadowcat_codecs::Limits;

use crate::{
    link::{pipe::Blocked, waits::Waits},
    resources::Resources,
    session::{Counts, Timeout},
    telemetry::metrics::labels::SessionEnd,
};

/// What a session of this link is held to.
#[derive(Debug, Clone)]
pub struct Options {
    /// The maxima of frames and envelopes.
    pub limits: Limits,
    /// Most requests in flight. Beyond, requests wait, and when 1 MiB of them does, the client is not read;
    /// but while the server waits for an answer of the client, it is, and requests get errors.
    pub max_pending: usize,
    /// How long answers are awaited after the end of the client's stream; for ever if `None`.
    pub drain: Option<Duration>,
    /// What the session shares with the process.
    pub resources: Resources,
    /// How long who is waited for.
    pub waits: Waits,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What ended it.
    pub cause: Cause,
    /// Requests that got an error because the drain deadline passed.
    pub orphans: usize,
    /// What crossed.
    pub counts: Counts,
    /// How long the client kept us waiting. What an HTTP server does not read yet waits elsewhere.
    pub blocked: Blocked,
}

/// What ended a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The client ended its stream, or went away.
    Client,
    /// The server ended the one stream of HTTP+SSE, without which there is no answer any more.
    Server,
    /// We were told to stop by a signal.
    Stopped,
    /// The very first request did not reach the server: the address is wrong, or nobody is there. A client
    /// that started us sees our end, as it would see that of a command that cannot be started.
    Unreachable(String),
    /// The client took nothing of what was there for it, for too long.
    Timeout(Timeout),
}

impl Outcome {
    /// Whether nobody has reason to complain. Whoever tells us to stop knows what is left unanswered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self.cause, Cause::Client | Cause::Stopped) && self.orphans == 0
    }
}

impl From<&Cause> for SessionEnd {
    fn from(cause: &Cause) -> Self {
        match cause {
            Cause::Client => Self::Client,
            Cause::Server => Self::Server,
            Cause::Stopped => Self::Stopped,
            Cause::Unreachable(_) => Self::Unreachable,
            Cause::Timeout(_) => Self::Timeout,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("the client ended"),
            Self::Server => f.write_str("the server ended its stream"),
            Self::Stopped => f.write_str("we were told to stop"),
            Self::Unreachable(what) => f.write_str(what),
            Self::Timeout(timeout) => timeout.fmt(f),
        }
    }
}
