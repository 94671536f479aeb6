//! Why a message goes to nobody, for the log and for counters.

use std::fmt;

/// Why a message of a shared child, or for it, goes nowhere.
///
/// With a child of its own a client would have got some of these. With a shared one, nobody can say whose they
/// are, and to guess would be to tell one client what belongs to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a counter for each")]
pub enum Dropped {
    /// From the child: about a request that is over (Rules C3, T7). To be expected after a cancellation.
    Late,
    /// From the child: it names an id, token or subscription that was never given to it.
    Unknown,
    /// From the child: a request, which a modern server may not write (Rules T5, H9).
    ServerRequest,
    /// An array; this revision has none (Rule F8).
    Batch,
    /// JSON, but not JSON-RPC, or not a message for this direction.
    NotAMessage,
    /// From the child: it names no request at all, so it could be anybody's.
    Unattributed,
    /// From the child: it cancels a request that is no subscription (Rule C1).
    NotASubscription,
    /// From the child: a log message, though nobody asked for any (Rule C10).
    UnaskedLog,
    /// From the child: a log message that could be for more than one.
    AmbiguousLog,
    /// From a client: an answer, though nothing was asked of it (Rules T5, H4).
    ClientAnswer,
    /// From a client: a cancellation in a message of its own. Over HTTP it closes its stream instead (Rule C5).
    ClientCancelled,
    /// From a client: a notification with a progress token or a subscription, which are another's to the child.
    ClientToken,
}

/// How many messages went nowhere, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DroppedCounts([u64; Dropped::ALL.len()]);

impl Dropped {
    /// All reasons there are.
    pub const ALL: [Self; 12] = [
        Self::Late,
        Self::Unknown,
        Self::ServerRequest,
        Self::Batch,
        Self::NotAMessage,
        Self::Unattributed,
        Self::NotASubscription,
        Self::UnaskedLog,
        Self::AmbiguousLog,
        Self::ClientAnswer,
        Self::ClientCancelled,
        Self::ClientToken,
    ];

    /// A name for counters.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Unknown => "unknown",
            Self::ServerRequest => "server_request",
            Self::Batch => "batch",
            Self::NotAMessage => "not_a_message",
            Self::Unattributed => "unattributed",
            Self::NotASubscription => "not_a_subscription",
            Self::UnaskedLog => "unasked_log",
            Self::AmbiguousLog => "ambiguous_log",
            Self::ClientAnswer => "client_answer",
            Self::ClientCancelled => "client_cancelled",
            Self::ClientToken => "client_token",
        }
    }

    /// Whether its sender breaks a rule of MCP 2026-07-28, as opposed to what sharing or timing makes of a
    /// message that keeps them all.
    #[must_use]
    pub const fn is_violation(self) -> bool {
        !matches!(self, Self::Late | Self::Unattributed | Self::AmbiguousLog)
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Late => "it is about a request that is over",
            Self::Unknown => "it names an id or token that the server was never given",
            Self::ServerRequest => "it is a request of a server, which may not ask in this revision",
            Self::Batch => "it is a batch, which this revision does not have",
            Self::NotAMessage => "it is not a message of this protocol",
            Self::Unattributed => "it does not say which request it belongs to",
            Self::NotASubscription => "it cancels a request that is not a subscription",
            Self::UnaskedLog => "nobody asked for log messages",
            Self::AmbiguousLog => "it could be for more than one client",
            Self::ClientAnswer => "it is a client's answer, and nothing was asked",
            Self::ClientCancelled => "it is a cancellation in place of a closed stream",
            Self::ClientToken => "it names a token or subscription, which are another's on a shared server",
        })
    }
}

impl DroppedCounts {
    pub(super) fn add(&mut self, reason: Dropped) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// How many went nowhere for `reason`.
    #[must_use]
    pub fn of(&self, reason: Dropped) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// All that happened, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Dropped, u64)> {
        Dropped::ALL.into_iter().zip(self.0).filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let mut counts = DroppedCounts::default();
        for (index, reason) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            counts.add(reason);
            assert_eq!(counts.of(reason), 1, "{reason}");
            assert!(Dropped::ALL.iter().filter(|other| other.label() == reason.label()).count() == 1, "{reason}");
        }
        assert_eq!(counts.iter().count(), Dropped::ALL.len());
    }
}
