//! A message that cannot be passed on: who sent it, and who must be told.
//!
//! What it is and whose id it bears is learnt by a scan of the same bytes, while they are skipped or once they
//! were refused, so that a request gets its error and an answer's requester does not wait for ever. Nothing
//! of the message is kept but its id.

use shadowcat_codecs::{
    Limits,
    envelope::{EnvelopeScan, IdClass, Kind},
};

use crate::session::{Reason, Reply, Session, StreamKey};

/// The message that is skipped which one side is sending, if it is.
#[derive(Debug, Default)]
pub(super) struct Oversized {
    current: Option<Box<Refused>>,
}

/// A message on which nothing is decided any more, but whom to tell.
#[derive(Debug)]
pub(super) struct Refused {
    scan: EnvelopeScan,
    reason: Reason,
}

impl Oversized {
    /// A message is skipped, for this reason.
    pub(super) fn start(&mut self, limits: Limits, reason: Reason) {
        self.current = Some(Box::new(Refused { scan: EnvelopeScan::new(limits), reason }));
    }

    /// The next bytes of that message are about to be skipped; `ended` says whether they are its last.
    pub(super) fn observe(&mut self, skipped: &[u8], ended: bool) -> Option<Box<Refused>> {
        self.current.as_mut()?.scan.feed(skipped);
        if ended { self.current.take() } else { None }
    }
}

impl Refused {
    /// A whole message that is JSON, but cannot be passed on without guessing what it means.
    #[cold]
    pub(super) fn new(limits: Limits, frame: &[u8], what: String) -> Self {
        // The frame is here already, so its id costs nothing more, however long it is.
        let max_id_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let mut scan = EnvelopeScan::new(limits.with_max_id_len(max_id_len));
        scan.feed(frame);
        Self { scan, reason: Reason::Refused { what } }
    }

    /// What it is and the id it bears, as far as could be learnt.
    pub(super) fn who(&self) -> Option<(Kind, &[u8], IdClass)> {
        let (id, class) = self.scan.id_so_far()?;
        Some((self.scan.kind_so_far(), id, class))
    }

    /// Why it cannot be passed on.
    pub(super) fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The error for whoever waits for this message, which came from `from`. A null id is nobody's.
    pub(super) fn reply(&self, from: StreamKey, session: &mut Session) -> Option<(StreamKey, Reply)> {
        match self.who()? {
            (kind, id, IdClass::Number | IdClass::String) => {
                session.handle_refused(from, kind, id, self.reason.clone())
            }
            _ => None,
        }
    }
}
