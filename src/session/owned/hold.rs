//! Messages of the child that no stream may carry yet, in the order they came. Bounded in messages and bytes.
//!
//! A request is worth more than a notification: somebody waits for its answer. So notifications make room,
//! oldest first; a request never does.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::{super::RequestId, OwnedLimits};

#[derive(Debug)]
pub(super) struct Hold {
    max_count: usize,
    max_bytes: usize,
    held: VecDeque<Held>,
    /// Invariant: the sum of `frame.len()` of `held`, and `bytes <= max_bytes`.
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) frame: Bytes,
    /// The id, if it is a request.
    pub(super) request: Option<RequestId>,
    pub(super) at: Instant,
    /// Place in the order of everything that happened.
    pub(super) number: u64,
}

/// There was no room.
#[derive(Debug)]
pub(super) struct Full;

impl Hold {
    pub(super) fn new(limits: &OwnedLimits) -> Self {
        Self { max_count: limits.max_held, max_bytes: limits.max_held_bytes, held: VecDeque::new(), bytes: 0 }
    }

    /// Keeps a message; returns how many notifications had to go for it, itself included.
    pub(super) fn put(&mut self, held: Held) -> Result<u64, Full> {
        let is_request = held.request.is_some();
        let len = held.frame.len();
        let mut dropped = 0;
        // Nothing is thrown out for what would not fit in any case.
        let fixed = self.held.iter().filter(|held| held.request.is_some());
        let (count, bytes) = fixed.fold((0, 0), |(count, bytes), held| (count + 1, bytes + held.frame.len()));
        if count >= self.max_count || bytes + len > self.max_bytes {
            return if is_request { Err(Full) } else { Ok(1) };
        }
        while self.held.len() >= self.max_count || self.bytes + len > self.max_bytes {
            let Some(oldest) = self.held.iter().position(|held| held.request.is_none()) else { break };
            self.remove(oldest);
            dropped += 1;
        }
        self.bytes += len;
        self.held.push_back(held);
        Ok(dropped)
    }

    /// Takes the oldest message for which `may_go`.
    pub(super) fn take(&mut self, may_go: impl FnMut(&Held) -> bool) -> Option<Held> {
        let index = self.held.iter().position(may_go)?;
        self.remove(index)
    }

    /// When the oldest request came.
    pub(super) fn oldest_request(&self) -> Option<Instant> {
        self.held.iter().find(|held| held.request.is_some()).map(|held| held.at)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// All the memory that they take, or a little more.
    pub(super) fn kept_len(&self) -> usize {
        self.bytes + self.held.len() * HELD_LEN
    }

    fn remove(&mut self, index: usize) -> Option<Held> {
        let held = self.held.remove(index)?;
        self.bytes -= held.frame.len();
        Some(held)
    }
}

/// What a message takes beside its bytes: its place in a list that may have grown to twice what is in it, and what the
/// allocator needs for the copy.
const HELD_LEN: usize = 2 * size_of::<Held>() + 32;
