//! Where two sides meet: the only place that knows both the transports and the session.
//!
//! | | upstream is a byte stream | upstream is HTTP |
//! |---|---|---|
//! | **downstream is a byte stream** | [`pipe`] | [`dial`] |
//! | **downstream is HTTP** | [`mux`] | [`relay`] |
//!
//! Around [`pipe`]: [`stdio`] for a server that is a child, [`socket`] for one that listens; [`lines`] runs a session
//! of any kind for each client that connects.
//!
//! A link is where backpressure lives: it reads from one side only when the other has room. There is no
//! unbounded queue, no task per message, no detached task.

mod counting;
#[cfg(unix)]
pub mod dial;
#[cfg(unix)]
pub mod endpoint;
#[cfg(unix)]
mod gathered;
mod http_error;
mod intake;
#[cfg(unix)]
pub mod lines;
#[cfg(unix)]
pub mod mux;
#[cfg(unix)]
mod nursery;
mod outbox;
#[cfg(unix)]
mod outcome;
#[cfg(unix)]
mod parting;
pub mod pipe;
mod refused;
pub mod relay;
mod server_timing;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
pub mod socket;
#[cfg(unix)]
pub mod stdio;
pub mod waits;

use std::{fmt::Display, io};

use crate::{
    budget::{Allowance, Budget, Exhausted},
    resources::Resources,
    session::{Counts, Reason, Timeout},
    transport::http::{SendError, client::Waited},
};
use pipe::Blocked;

/// Logs why a session ended, how many requests were left unanswered, and what crossed.
pub fn log_end(cause: &impl Display, orphans: usize, counts: Counts, blocked: Blocked) {
    tracing::info!(
        %cause,
        orphans,
        to_server = counts.to_upstream,
        to_client = counts.to_downstream,
        kept_back = counts.quarantined,
        late = counts.late,
        waited_for_client_ms = blocked.downstream.as_millis(),
        waited_for_server_ms = blocked.upstream.as_millis(),
        "session ended"
    );
}

#[cfg(unix)]
/// A random number, to spread attempts. Any will do where the system has none.
fn chance() -> u16 {
    let mut bytes = [0; 2];
    let _ = getrandom::fill(&mut bytes);
    u16::from_ne_bytes(bytes)
}

/// What whoever waits is told when there was no room for a message.
fn no_room(exhausted: Exhausted) -> Reason {
    tracing::warn!(%exhausted, "a message is refused");
    Reason::Overloaded { what: exhausted.to_string(), retry_after: RETRY_AFTER }
}

/// What whoever is new is told when there is no room for more.
fn not_admitted(budget: &Budget) -> Reason {
    let (held, total) = (budget.held(), budget.total());
    tracing::warn!(held, total, "the memory budget is used up; refused");
    Reason::Overloaded { what: format!("the memory budget of {total} bytes is used up"), retry_after: RETRY_AFTER }
}

/// When to try again where there is no room, in seconds.
const RETRY_AFTER: u32 = 5;

/// Room for the one session of a process.
fn session_room(resources: &Resources) -> io::Result<Allowance> {
    let budget = &resources.budget;
    let used_up = || io::Error::other(format!("the memory budget of {} bytes is used up", budget.total()));
    budget.try_admit(0, SESSION_LEN).ok_or_else(used_up)
}

/// What a session may always hold of messages, both directions together, so that ordinary ones go on when memory is
/// short: a read buffer of the smallest size each way.
const SESSION_LEN: usize = 2 * intake::MIN_BLOCK_LEN;

/// Why a request over HTTP has no answer.
fn unanswered(error: &SendError) -> Reason {
    let SendError::Timeout { waited, after, .. } = error else {
        if let SendError::NoRoom { .. } = error {
            return Reason::Overloaded { what: error.to_string(), retry_after: RETRY_AFTER };
        }
        return Reason::ServerUnreachable { what: error.cause(), url: error.destination() };
    };
    let what = match waited {
        Waited::Connection => format!("connecting to {}", error.destination()).into(),
        Waited::Answer => format!("the answer of {}", error.destination()).into(),
    };
    Reason::Timeout(Timeout { what, after: *after })
}
