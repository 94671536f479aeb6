//! [`Lane`]: one exchange that waits, until it is decided how it is answered, and from then on.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::oneshot;

use super::Opening;
use crate::{
    budget::Allowance,
    session::StreamKey,
    transport::http::body::{QueueSender, queue},
};

/// What an exchange waits by.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) state: State,
    pub(super) allowance: Allowance,
    /// Whether the child may be kept waiting for this lane.
    pub(super) is_pausable: bool,
    /// When the lane began.
    pub(super) opened: Instant,
    /// When something was last written, or the lane began.
    pub(super) written: Instant,
    /// Whether it ends once what is stalled has left.
    pub(super) is_ending: bool,
    /// Whether its client was sent the beginning of an answer.
    pub(super) has_begun: bool,
    /// Since when its reader has taken nothing of a full queue, while something of it is stalled.
    pub(super) stalled: Option<Instant>,
}

/// How far its answer has come.
#[derive(Debug)]
pub(super) enum State {
    Undecided(oneshot::Sender<Opening>),
    Events(QueueSender),
}

/// Resolves when the exchange behind a lane is gone.
#[derive(Debug)]
pub(super) struct Departure(pub(super) StreamKey, pub(super) oneshot::Receiver<()>);

impl Future for Departure {
    type Output = StreamKey;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StreamKey> {
        Pin::new(&mut self.1).poll(cx).map(|_| self.0)
    }
}

impl Lane {
    /// The queue of events; decides for events if nothing was decided.
    pub(super) fn events(&mut self, heard: Instant) -> Option<&QueueSender> {
        if matches!(self.state, State::Undecided(_)) {
            let (sender, events) = queue(MAX_QUEUED);
            if let State::Undecided(answer) = std::mem::replace(&mut self.state, State::Events(sender)) {
                // An exchange that is gone is seen to be so by its queue.
                let waited = heard.saturating_duration_since(self.opened);
                self.has_begun = answer.send(Opening::Events(events, waited)).is_ok();
            }
        }
        match &self.state {
            State::Events(queue) => Some(queue),
            State::Undecided(_) => None,
        }
    }
}

/// Most bytes that wait in a lane, and one message more.
const MAX_QUEUED: u32 = 1 << 20;
