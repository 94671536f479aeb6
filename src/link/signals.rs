//! What tells a session to stop: signals, or whoever runs many sessions.

use std::{future::pending, io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals that tell us to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// Who may tell a session to stop.
pub(super) enum Stops {
    /// Signals: the session is the only one of this process.
    Signals(Signals),
    /// Whoever accepts sessions. `None` once it has told.
    Drain(Option<Drain>),
}

/// To be told to finish, and how long that may take.
#[derive(Debug, Clone)]
pub(super) struct Drain {
    pub(super) token: CancellationToken,
    pub(super) timeout: Duration,
}

/// What a session is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Wait for nothing.
    Stop,
    /// Ask nothing more of the client; what it has asked may be answered for so long.
    Drain(Duration),
}

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next of them. Cancel-safe, as each `recv` is.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

impl Stops {
    /// # Errors
    ///
    /// If the runtime cannot watch them.
    pub(super) fn signals() -> io::Result<Self> {
        Signals::watch().map(Self::Signals)
    }

    /// The next word. Cancel-safe.
    pub(super) async fn next(&mut self) -> Told {
        match self {
            Self::Signals(signals) => {
                signals.next().await;
                Told::Stop
            }
            Self::Drain(drain) => {
                let timeout = match drain {
                    Some(drain) => {
                        drain.token.cancelled().await;
                        drain.timeout
                    }
                    None => pending().await,
                };
                *drain = None;
                Told::Drain(timeout)
            }
        }
    }
}

impl Drain {
    pub(super) fn stops(&self) -> Stops {
        Stops::Drain(Some(self.clone()))
    }
}
