//! Messages that were read, or made here, and are neither posted nor held: what is posted next.

use std::collections::VecDeque;

use super::posted::Outgoing;
use crate::session::RequestId;

/// The messages, in their order.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Outgoing>,
    /// How many of them answer the server for the client.
    own_answers: usize,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn front(&self) -> Option<&Outgoing> {
        self.queue.front()
    }

    pub(super) fn push_back(&mut self, outgoing: Outgoing) {
        self.queue.push_back(outgoing);
    }

    pub(super) fn push_front(&mut self, outgoing: Outgoing) {
        self.own_answers += usize::from(outgoing.is_own_answer);
        self.queue.push_front(outgoing);
    }

    /// Queues an answer to the server that is ours.
    pub(super) fn push_own_answer(&mut self, outgoing: Outgoing) {
        self.own_answers += 1;
        self.queue.push_back(Outgoing { is_own_answer: true, ..outgoing });
    }

    pub(super) fn pop_front(&mut self) -> Option<Outgoing> {
        let outgoing = self.queue.pop_front()?;
        self.own_answers -= usize::from(outgoing.is_own_answer);
        Some(outgoing)
    }

    /// Whether so many answers of ours wait for the server to take them that it must not be able to cause more.
    pub(super) fn is_full_of_own_answers(&self) -> bool {
        self.own_answers >= MAX_OWN_ANSWERS
    }

    /// Forgets the request with this id, unless it is in a batch. False: there is none.
    pub(super) fn forget(&mut self, id: &RequestId) -> bool {
        let found = self.queue.iter().position(|outgoing| outgoing.is_request(id) && !outgoing.is_noted);
        found.is_some_and(|index| self.queue.remove(index).is_some())
    }
}

/// Most answers of ours that wait: each is posted by itself, and taken before the next.
const MAX_OWN_ANSWERS: usize = 64;
