//! A child while it runs: its streams, and what is known of its end.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    child_io::{ChildIo, Said},
    patience::Patience,
};
use crate::{
    clock,
    supervise::{ChildId, ExitStatus, last_words::LastWords},
};

/// The child, while there is one.
pub(super) struct Running {
    pub(super) id: ChildId,
    /// When it was started.
    pub(super) born: Instant,
    pub(super) io: ChildIo,
    pub(super) status: Option<ExitStatus>,
    pub(super) words: watch::Receiver<LastWords>,
    pub(super) said: Vec<Said>,
    /// When to stop waiting for the end of the stdout of a child that has exited: somebody else holds it.
    pub(super) linger_due: Option<Instant>,
    /// When to stop waiting for the exit of a child whose stdout has ended: it will answer nothing any more.
    pub(super) settle_due: Option<Instant>,
    pub(super) patience: Patience,
    /// Whether it ended before it was asked to, and how is not known yet.
    pub(super) is_lost: bool,
}

/// What one turn of the child's streams brought.
pub(super) enum Moved {
    /// Everything queued was written.
    Written,
    /// The child begins to keep us waiting, which has a limit.
    Blocked,
    /// The child reads no more.
    Lost,
    /// The child said something, or its stream ended.
    Read,
}

impl Running {
    /// Whether it was reaped, and everything it said was heard.
    pub(super) fn is_over(&self) -> bool {
        self.status.is_some() && self.io.has_ended()
    }

    pub(super) fn exited(&mut self, status: Option<ExitStatus>) {
        // Without the keeper nobody knows; it kills what it leaves.
        let status = status.unwrap_or(ExitStatus::Signal(9));
        tracing::info!(pid = %self.id, %status, "server exited");
        self.status = Some(status);
        self.linger_due = Some(clock::now().into_std() + LINGER);
    }

    pub(super) fn poll_io(&mut self, cx: &mut Context<'_>, can_read: bool) -> Poll<Moved> {
        match self.io.poll_write(cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(Moved::Written),
            Poll::Ready(Err(error)) => {
                tracing::debug!(pid = %self.id, %error, "the server reads no more");
                return Poll::Ready(Moved::Lost);
            }
            Poll::Pending if self.io.is_blocked() => {
                if self.patience.blocked(self.io.taken(), || clock::now().into_std()) {
                    return Poll::Ready(Moved::Blocked);
                }
            }
            Poll::Pending => {}
        }
        if can_read {
            return self.io.poll_read(cx, &mut self.said).map(|()| Moved::Read);
        }
        Poll::Pending
    }
}

/// How long the stdout of a child that has exited may stay open. What it wrote itself is there at once.
pub(super) const LINGER: Duration = Duration::from_secs(1);
