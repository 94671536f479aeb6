//! Another child in place of one that crashed: the client's half of the handshake, kept and said again.
//!
//! The client learns of it only by the errors of what it had asked. What is said again are its own bytes, its id
//! included: nothing else waits at a child that was said nothing yet, so nothing can be confused with it. The
//! answer is swallowed, but must agree on the same version, or the client would go on in a revision that the child
//! does not speak. Nothing else that the first child was told is known to the second.

use std::time::Instant;

use bytes::Bytes;
use shadowcat_codecs::envelope::{Envelope, Kind};

use super::{
    super::{Reason, RequestId, replay::keep_copy, spelling},
    Output, Owned, Phase,
};

/// What the client said to shake hands, and how far it is said again.
#[derive(Debug)]
pub(super) struct Handshake {
    max: usize,
    initialize: Option<(RequestId, Bytes)>,
    initialized: Option<Bytes>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The child that is there knows of it.
    Shaken,
    /// There is no child.
    Away,
    /// Another child owes the answer.
    Asked(Instant),
}

impl Handshake {
    pub(super) fn new(max: usize) -> Self {
        Self { max, initialize: None, initialized: None, state: State::Shaken }
    }

    pub(super) fn keep_initialize(&mut self, frame: &Bytes, envelope: &Envelope) {
        let id = envelope.id().filter(|_| frame.len() <= self.max);
        self.initialize = id.map(|id| (RequestId::new(id.of(frame)), keep_copy(frame)));
    }

    pub(super) fn keep_initialized(&mut self, frame: &Bytes) {
        self.initialized = (frame.len() <= self.max).then(|| keep_copy(frame));
    }

    /// The bytes that are kept.
    pub(super) fn kept_len(&self) -> usize {
        let initialize = self.initialize.as_ref().map_or(0, |(_, frame)| frame.len());
        initialize + self.initialized.as_ref().map_or(0, Bytes::len)
    }

    /// Keeps nothing: the session will end with its child.
    pub(super) fn forget(&mut self) {
        (self.initialize, self.initialized) = (None, None);
    }

    /// Since when another child owes the answer.
    pub(super) fn since(&self) -> Option<Instant> {
        match self.state {
            State::Asked(since) => Some(since),
            State::Shaken | State::Away => None,
        }
    }

    /// Whether this is that answer.
    pub(super) fn is_answered_by(&self, frame: &[u8], envelope: &Envelope) -> bool {
        let (State::Asked(_), Some((asked, _)), Some(id)) = (self.state, &self.initialize, envelope.id()) else {
            return false;
        };
        let id = id.of(frame);
        let is_answer = matches!(envelope.kind(), Kind::Response | Kind::Error);
        is_answer && (asked.as_bytes() == id || spelling::means_same(asked.as_bytes(), id))
    }
}

impl Owned {
    /// Whether the session can outlive its child: it is in use, and all of its handshake was kept.
    #[must_use]
    pub fn can_go_on(&self) -> bool {
        let Handshake { initialize, initialized, .. } = &self.handshake;
        match self.phase {
            Phase::Initialized => initialize.is_some(),
            Phase::Running => initialize.is_some() && initialized.is_some(),
            Phase::New | Phase::Initializing | Phase::Ended => false,
        }
    }

    /// The child crashed, and there will be another: each request that waits gets an error with its own id, and
    /// what the child asked is forgotten. Streams stay. Returns how many requests those were.
    ///
    /// Until the other child [is back](Self::is_away), nothing may be [posted](Self::post).
    pub fn crash(&mut self, reason: &Reason) -> usize {
        let told = self.fail_all(reason);
        while self.hold.take(|held| held.request.is_some()).is_some() {
            self.counts.lost += 1;
        }
        self.questions.forget();
        self.handshake.state = State::Away;
        told
    }

    /// There is another child: the handshake is said to it.
    pub fn begin_again(&mut self, now: Instant) {
        if let Some((_, frame)) = &self.handshake.initialize {
            self.handshake.state = State::Asked(now);
            self.out.push_back(Output::ToChild(frame.clone()));
        }
    }

    /// Whether there is no child that knows of the session.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.handshake.state != State::Shaken
    }

    /// The other child answered `initialize`.
    pub(super) fn shake(&mut self, frame: &[u8], envelope: &Envelope) {
        let found = super::hear::version_of(frame, envelope);
        if envelope.kind() == Kind::Response && found == self.version {
            self.handshake.state = State::Shaken;
            self.out.extend(self.handshake.initialized.clone().map(Output::ToChild));
            return;
        }
        let named = |version: Option<&str>| version.unwrap_or("none").to_owned();
        let what = match envelope.kind() {
            Kind::Error => "it answered initialize with an error".to_owned(),
            _ => {
                let (found, agreed) = (named(found.as_deref()), named(self.version()));
                format!("its version is {found}, and the session has agreed on {agreed}")
            }
        };
        let _ = self.end(&Reason::RestartFailed { what });
    }
}
