//! What a connection is at, as its socket and its exchanges tell each other: a request's head, an exchange, nothing; or a
//! response that [lasts](super::lasting), which is lent to whoever writes it while it has nothing to say.
//!
//! How long each of it may take is no matter of this file: see `patience`.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

use super::exchange::Leaving;

/// What a connection is at, shared with its exchanges.
#[derive(Debug, Clone)]
pub(super) struct Phase(Arc<At>);

#[derive(Debug)]
struct At {
    phase: AtomicU8,
    /// Bodies of requests that somebody may still read, also behind the response.
    unread: AtomicUsize,
    /// A response that lasts, on its way out of hyper.
    lent: Mutex<Option<Box<Leaving>>>,
}

/// An exchange that runs. When dropped, the connection is idle.
#[derive(Debug)]
pub(super) struct Running(Phase);

/// A request's body that is not dropped yet: until then, what comes next on the connection may belong to it.
#[derive(Debug)]
pub(super) struct Unread(Phase);

pub(super) const HEAD: u8 = 0;
pub(super) const BUSY: u8 = 1;
pub(super) const IDLE: u8 = 2;
/// Idle for a moment.
pub(super) const QUIET: u8 = 3;
/// Busy with a response that lasts, and that has nothing to say for now.
pub(super) const PAUSED: u8 = 4;
/// Paused, and all that it has said is written.
pub(super) const STILL: u8 = 5;
/// Whoever drops the response gives it back.
const LENT: u8 = 6;
/// An exchange has ended, and the socket does not know yet that it is idle.
const ENDED: u8 = 7;

impl Phase {
    /// Of a new connection, which owes us a request.
    pub(super) fn new() -> Self {
        Self(Arc::new(At { phase: AtomicU8::new(HEAD), unread: AtomicUsize::new(0), lent: Mutex::default() }))
    }

    /// From now on the connection is waited for without a limit on what it sends.
    pub(super) fn trust(&self) {
        self.set(BUSY);
    }

    pub(super) fn run(&self) -> Running {
        self.trust();
        Running(self.clone())
    }

    /// Whether nothing has happened for a moment, everything is written, and nothing but a request can come next.
    pub(super) fn is_quiet(&self) -> bool {
        self.at() == QUIET && self.0.unread.load(Ordering::Acquire) == 0
    }

    /// Whether an exchange has ended since this was asked last. From now on the connection is idle.
    pub(super) fn has_ended(&self) -> bool {
        let has_ended = self.at() == ENDED;
        if has_ended {
            self.set(IDLE);
        }
        has_ended
    }

    /// A response that lasts was asked for more, and has nothing for now, or has.
    pub(super) fn note(&self, is_pause: bool) {
        match (is_pause, self.at()) {
            (true, BUSY) => self.set(PAUSED),
            (false, PAUSED | STILL) => self.set(BUSY),
            _ => {}
        }
    }

    /// Whether a response that lasts pauses, and all of it is written.
    pub(super) fn is_still(&self) -> bool {
        self.at() == STILL
    }

    /// Asks for the response back from whoever drops it next, if the connection is still.
    pub(super) fn lend(&self) {
        if self.is_still() {
            self.set(LENT);
        }
    }

    /// Whether a response that is dropped now is to be given back.
    pub(super) fn is_lent(&self) -> bool {
        self.at() == LENT
    }

    /// Gives it back, and what it holds.
    pub(super) fn give_back(&self, response: Leaving) {
        *self.lent() = Some(Box::new(response));
    }

    /// The response that was given back.
    pub(super) fn take_back(&self) -> Option<Box<Leaving>> {
        self.lent().take()
    }

    /// Nothing that holds the lock can panic half-way.
    fn lent(&self) -> MutexGuard<'_, Option<Box<Leaving>>> {
        self.0.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection is waited for with a limit on what it sends.
    pub(super) fn is_limited(phase: u8) -> bool {
        matches!(phase, HEAD | IDLE | QUIET)
    }

    pub(super) fn at(&self) -> u8 {
        self.0.phase.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, phase: u8) {
        self.0.phase.store(phase, Ordering::Relaxed);
    }
}

impl Running {
    /// Of its connection.
    pub(super) fn phase(&self) -> &Phase {
        &self.0
    }

    /// The exchange's request has a body.
    pub(super) fn unread(&self) -> Unread {
        self.0.0.unread.fetch_add(1, Ordering::Relaxed);
        Unread(self.0.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(ENDED);
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.0.0.unread.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_is_not_quiet_while_somebody_may_read_the_body_of_its_last_request() {
        let phase = Phase::new();
        let running = phase.run();
        let unread = running.unread();
        drop(running);
        assert!(!phase.is_quiet(), "only idle");
        phase.set(QUIET);
        assert!(!phase.is_quiet());
        drop(unread);
        assert!(phase.is_quiet());
    }
}
