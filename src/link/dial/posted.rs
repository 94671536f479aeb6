//! What is remembered of a request to the server while its answer is awaited, and of a message before it is one.

use bytes::Bytes;
use futures::future::AbortHandle;
use http::{HeaderValue, StatusCode};
use shadowcat_codecs::envelope::{BatchElement, Envelope, IdClass, Kind};
use tracing::Span;

use super::departure::Departure;
use crate::{
    session::{
        Message, Reason, RequestId, Session, StreamKey,
        dialed::{back_off::BackOff, is_method},
        revision::Era,
    },
    verify::Seen,
};

/// Names one exchange with the server, in the order they began.
pub(super) type Key = u64;

/// A message of the client that was not posted yet, or whose answer's headers have not come.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) frame: Bytes,
    pub(super) envelope: Envelope,
    pub(super) elements: Box<[BatchElement]>,
    /// Whether the session knows of it already.
    pub(super) is_noted: bool,
    /// Whether it answers the server for the client.
    pub(super) is_own_answer: bool,
    /// Whether it was refused once with its session, and is sent to the next one ("Sent again" in ARCHITECTURE.md).
    pub(super) is_resent: bool,
    /// Redirects that were followed.
    pub(super) hops: u8,
    /// With `--verify`: the frame as it came in; `None` also if it is ours.
    pub(super) seen: Option<Seen>,
}

/// One exchange with the server.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) purpose: Purpose,
    /// The requests that want an answer by this exchange.
    pub(super) ids: Vec<RequestId>,
    /// What was posted, until it is clear that it was taken.
    pub(super) outgoing: Option<Outgoing>,
    pub(super) era: Era,
    /// When what a request consists of has left us. Nothing that may refer to it is sent before.
    pub(super) departure: Option<Departure>,
    /// The session it was sent in, if it bore one.
    pub(super) generation: Option<u32>,
    pub(super) is_initialize: bool,
    pub(super) is_initialized: bool,
    /// `subscriptions/listen`: answered by a stream without an end.
    pub(super) is_listen: bool,
    pub(super) is_tools_list: bool,
    /// The answer's status, once its headers have come.
    pub(super) status: Option<StatusCode>,
    /// The session the answer's headers named.
    pub(super) session: Option<HeaderValue>,
    /// Why the answer, should it not come.
    pub(super) failure: Option<Reason>,
    /// Behind which event a stream that was cut is resumed.
    pub(super) last_id: Option<Box<[u8]>>,
    /// How often that failed since it last succeeded.
    pub(super) failed_resumes: u32,
    pub(super) back_off: BackOff,
    pub(super) abort: AbortHandle,
    /// Where it is said what becomes of it.
    pub(super) span: Span,
}

/// Why we asked the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For the client: a message of it was posted.
    Message,
    /// The stream of what the server says unasked (rule G1).
    Listening,
    /// The stream of everything the server says, in HTTP+SSE (rule L1).
    Events,
    /// The remembered handshake, first half.
    Reopening,
    /// The remembered handshake, second half.
    Reopened,
    /// The end of the session (rule G12).
    Leaving,
}

impl Outgoing {
    pub(super) fn new(frame: Bytes, envelope: Envelope, elements: &[BatchElement]) -> Self {
        let elements = elements.into();
        let (is_noted, is_own_answer, is_resent) = (false, false, false);
        Self { frame, envelope, elements, is_noted, is_own_answer, is_resent, hops: 0, seen: None }
    }

    pub(super) fn message(&self) -> Message<'_> {
        Message { frame: &self.frame, envelope: &self.envelope, elements: &self.elements }
    }

    pub(super) fn is(&self, method: &str) -> bool {
        is_method(&self.envelope, &self.frame, method)
    }

    /// The requests in it.
    pub(super) fn ids(&self) -> Vec<RequestId> {
        let alone = std::slice::from_ref(&self.envelope);
        let of = |envelope: &Envelope| match (envelope.kind(), envelope.id_class()) {
            (Kind::Request, IdClass::Number | IdClass::String) => {
                envelope.id().map(|id| RequestId::new(id.of(&self.frame)))
            }
            _ => None,
        };
        let inside = self.elements.iter().map(BatchElement::envelope);
        alone.iter().chain(inside).filter_map(of).collect()
    }

    /// Whether it is the request with this id, and no more than that.
    pub(super) fn is_request(&self, id: &RequestId) -> bool {
        self.elements.is_empty() && self.ids().contains(id)
    }

    /// Whether something in it wants an answer.
    pub(super) fn asks(&self) -> bool {
        self.envelope.kind() == Kind::Request
            || self.elements.iter().any(|element| element.envelope().kind() == Kind::Request)
    }

    /// Whether it answers the server. Another session does not know the question.
    pub(super) fn answers(&self) -> bool {
        matches!(self.envelope.kind(), Kind::Response | Kind::Error)
    }
}

impl Posted {
    pub(super) fn new(purpose: Purpose, abort: AbortHandle) -> Self {
        Self {
            purpose,
            ids: Vec::new(),
            outgoing: None,
            era: Era::Legacy,
            departure: None,
            generation: None,
            is_initialize: false,
            is_initialized: false,
            is_listen: false,
            is_tools_list: false,
            status: None,
            session: None,
            failure: None,
            last_id: None,
            failed_resumes: 0,
            back_off: BackOff::default(),
            abort,
            span: Span::none(),
        }
    }

    /// Whether it is one of those whose number is limited.
    pub(super) fn counts(&self) -> bool {
        self.purpose == Purpose::Message && !self.ids.is_empty()
    }

    /// Whether its request is still on its way to the server. What was answered was read, or never will be.
    pub(super) fn is_leaving(&self) -> bool {
        self.status.is_none() && self.departure.as_ref().is_some_and(|departure| !departure.has_happened())
    }

    /// Whether one of its requests waits for an answer.
    pub(super) fn awaits_answer(&self, session: &Session) -> bool {
        self.ids.iter().any(|id| session.is_pending(StreamKey::UPSTREAM, id))
    }

    /// Whether the client would miss something if this were cut off now.
    pub(super) fn is_needed(&self, session: &Session) -> bool {
        match self.purpose {
            Purpose::Message if self.ids.is_empty() => self.status.is_none(),
            Purpose::Message => !self.is_listen && self.awaits_answer(session),
            Purpose::Reopening | Purpose::Reopened => true,
            Purpose::Listening | Purpose::Events | Purpose::Leaving => false,
        }
    }
}
