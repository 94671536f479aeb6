//! The bounds of one session.

use std::time::Duration;

use super::super::replay::ReplayLimits;

/// The bounds of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedLimits {
    /// Most requests that wait, in either direction.
    pub max_pending: usize,
    /// Most listening streams, those included that the client may come back to.
    pub max_listening: usize,
    /// Most messages held back until the client opens a stream.
    pub max_held: usize,
    /// Most bytes of them.
    pub max_held_bytes: usize,
    /// How long a request of the child is held back before it gets an error.
    pub hold: Duration,
    /// How long a session lives without any connection of its client.
    pub idle: Duration,
    /// What is kept for resumption.
    pub replay: ReplayLimits,
    /// Most bytes of each of the two messages that are kept to shake hands with another child. 0: none is kept, and the
    /// session ends with its child.
    pub max_handshake: usize,
}

impl Default for OwnedLimits {
    fn default() -> Self {
        Self {
            max_pending: 4096,
            max_listening: 16,
            max_held: 256,
            max_held_bytes: 1 << 20,
            hold: Duration::from_secs(30),
            idle: Duration::from_secs(30 * 60),
            replay: ReplayLimits::default(),
            max_handshake: 0,
        }
    }
}
