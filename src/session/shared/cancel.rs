//! The one message we send to a shared child ourselves: a client does not want its answer any more.

use bytes::BytesMut;
use shadowcat_codecs::envelope::Replacement;

use crate::session::write_cancelled;

/// `notifications/cancelled` for a request whose exchange is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the child goes on working unless it is told"]
pub struct Cancel {
    minted: u64,
    why: Leaving,
}

/// Why an exchange is over before its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leaving {
    /// The client has closed its stream.
    ClientGone,
    /// The client reads too slowly, so we have cut its stream for the sake of the others.
    QueueFull,
    /// There was no answer in time.
    TimedOut,
    /// The memory budget has no room for what is said of it.
    NoRoom,
}

impl Cancel {
    pub(super) const fn new(minted: u64, why: Leaving) -> Self {
        Self { minted, why }
    }

    /// Appends the message to `buf`, without a line end.
    pub fn write(&self, buf: &mut BytesMut) {
        write_cancelled(buf, Replacement::from(self.minted).as_bytes(), self.why.text());
    }
}

impl Leaving {
    /// Plain words, nothing to escape.
    const fn text(self) -> &'static str {
        match self {
            Self::ClientGone => "the client closed the stream",
            Self::QueueFull => "the client read too slowly",
            Self::TimedOut => "there was no answer in time",
            Self::NoRoom => "there was no memory left for it",
        }
    }
}
