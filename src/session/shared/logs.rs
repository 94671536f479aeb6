//! To whom a log message belongs. It does not say (MCP 2026-07-28, "Logging": it travels on its request's
//! stream, and a pipe has but one), so it is attributed only when there is no doubt.
//!
//! Doubt has three causes: two requests in flight asked for logs; or one that did was left by its client
//! without an answer, and the child, which may still be at it, would log another's data to whoever asks next;
//! or so many were left that we no longer know them all.

use std::collections::BTreeSet;

use super::Dropped;

#[derive(Debug, Default)]
pub(super) struct Logs {
    /// Requests in flight that asked for logs.
    asking: BTreeSet<u64>,
    /// Requests that asked for logs, whose clients left, and which the child has not answered yet.
    /// Invariant: `len <= MAX_GHOSTS`.
    ghosts: BTreeSet<u64>,
    /// Whether there were more ghosts than that: nothing can be attributed any more in this child's life.
    is_lost: bool,
}

impl Logs {
    pub(super) fn asked(&mut self, minted: u64) {
        self.asking.insert(minted);
    }

    /// The child has answered, and logs nothing more of it.
    pub(super) fn answered(&mut self, minted: u64) {
        self.asking.remove(&minted);
        self.ghosts.remove(&minted);
    }

    /// The client has left before there was an answer.
    pub(super) fn left(&mut self, minted: u64) {
        if !self.asking.remove(&minted) {
            return;
        }
        if self.ghosts.len() < MAX_GHOSTS {
            self.ghosts.insert(minted);
        } else {
            self.is_lost = true;
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.asking.is_empty() && self.ghosts.is_empty() && !self.is_lost
    }

    /// Whose a log message is.
    pub(super) fn owner(&self) -> Result<u64, Dropped> {
        let mut asking = self.asking.iter();
        match (asking.next(), asking.next(), self.ghosts.is_empty() && !self.is_lost) {
            (Some(&minted), None, true) => Ok(minted),
            // Rule C10: without a request for them there are none.
            (None, _, true) => Err(Dropped::UnaskedLog),
            _ => Err(Dropped::AmbiguousLog),
        }
    }
}

/// Most requests that are remembered because they asked for logs, lost their client, and were not answered.
/// 1024 of them are 8 KiB.
pub const MAX_GHOSTS: usize = 1024;
