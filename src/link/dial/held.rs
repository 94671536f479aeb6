//! Requests that wait until fewer are in flight, aside from what else the client says.
//!
//! Were they left in line, nothing behind them could be taken; and behind them may be the answer to a question
//! of the server, without which nothing in flight is ever answered.

use std::collections::VecDeque;

use super::{posted::Outgoing, reopen::named_copy};
use crate::session::RequestId;

/// The requests, in their order.
#[derive(Debug, Default)]
pub(super) struct Held {
    queue: VecDeque<Outgoing>,
    /// What they take. Invariant: at most [`MAX_LEN`], or there is only one.
    len: usize,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether there is room for this one too.
    pub(super) fn has_room_for(&self, outgoing: &Outgoing) -> bool {
        self.is_empty() || self.len + cost(outgoing) <= MAX_LEN
    }

    pub(super) fn push(&mut self, mut outgoing: Outgoing) {
        if outgoing.frame.len() <= MAX_COPIED {
            // A slice would keep the whole block it was read with.
            outgoing.frame = named_copy(&outgoing.frame);
        }
        self.len += cost(&outgoing);
        self.queue.push_back(outgoing);
    }

    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        let outgoing = self.queue.pop_front()?;
        self.len -= cost(&outgoing);
        Some(outgoing)
    }

    /// Forgets the request with this id. False: there is none.
    pub(super) fn forget(&mut self, id: &RequestId) -> bool {
        let found = self.queue.iter().position(|outgoing| outgoing.is_request(id));
        let forgotten = found.and_then(|index| self.queue.remove(index));
        self.len -= forgotten.as_ref().map_or(0, cost);
        forgotten.is_some()
    }
}

fn cost(outgoing: &Outgoing) -> usize {
    size_of::<Outgoing>() + outgoing.frame.len()
}

/// What held requests may take, but for a single one, which may be as long as a frame.
const MAX_LEN: usize = 1 << 20;
/// Longest frame that is copied. A longer one is most of its block.
const MAX_COPIED: usize = 64 << 10;
