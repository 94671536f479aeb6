//! A session the server has lost: the remembered handshake is replayed, and what was refused goes to the new
//! session, once (rule G11; the closed list of what is sent again).

use http::{HeaderMap, Method, response::Parts};
use shadowcat_codecs::envelope::{Envelope, Kind, text};

use super::{
    Dial, Gate,
    heads::{Media, encoded, media},
    outward::{add_body_headers, request},
    posted::{Key, Outgoing, Purpose},
};
use crate::{
    session::{Reason, mirror::MCP_SESSION_ID},
    transport::http::{Body, Incoming},
};

/// What waits for the new session.
#[derive(Debug, Default)]
pub(super) struct Reopening {
    /// In the order they were posted first.
    refused: Vec<(Key, Outgoing)>,
}

impl Reopening {
    pub(super) fn take(&mut self) -> Vec<Outgoing> {
        self.refused.sort_by_key(|(key, _)| *key);
        self.refused.drain(..).map(|(_, outgoing)| outgoing).collect()
    }
}

impl Dial {
    /// A message was refused with 404 because its session is gone.
    pub(super) fn session_lost(&mut self, key: Key) {
        let Some(posted) = self.posted.get_mut(&key) else { return };
        let generation = posted.generation;
        let may_resend = self.dialed.handshake().is_some()
            && posted.outgoing.as_ref().is_some_and(|outgoing| !outgoing.is_resent && !outgoing.answers());
        let Some(mut outgoing) = posted.outgoing.take().filter(|_| may_resend) else {
            tracing::warn!("the session is gone, and with it what the message belonged to");
            return self.fail(key, &Reason::SessionNotFound);
        };
        self.remove(key);
        outgoing.is_resent = true;
        if matches!(self.gate, Some(Gate::Reopening)) {
            self.reopening.refused.push((key, outgoing));
        } else if generation == Some(self.dialed.generation()) {
            self.reopening.refused.push((key, outgoing));
            self.reopen();
        } else {
            self.waiting.push_front(outgoing);
        }
    }

    /// The session is gone while nobody asks anything.
    pub(super) fn reopen_for_listening(&mut self) {
        let is_at_it = matches!(self.gate, Some(Gate::Reopening));
        if !is_at_it && self.dialed.handshake().is_some() {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        tracing::info!("the session is gone; the handshake is replayed");
        self.gate = Some(Gate::Reopening);
        let initialize = self.dialed.handshake().map(|(initialize, _)| named_copy(initialize));
        self.post_handshake(Purpose::Reopening, initialize, HeaderMap::new());
    }

    fn post_handshake(&mut self, purpose: Purpose, frame: Option<bytes::Bytes>, mut headers: HeaderMap) {
        let Some(frame) = frame else { return self.reopening_failed("there is no handshake to replay") };
        add_body_headers(&mut headers);
        let request = request(Method::POST, self.client.url().clone(), headers, Body::from(frame));
        let limit = self.options.waits.response.of("initialize");
        self.launch(purpose, request, None, limit);
    }

    pub(super) fn handle_reopening_head(&mut self, key: Key, parts: &Parts, body: Incoming) {
        let Some(posted) = self.posted.get_mut(&key) else { return };
        if !parts.status.is_success() {
            return self.reopening_failed(parts.status.as_str());
        }
        if posted.purpose == Purpose::Reopened {
            self.remove(key);
            return self.reopened();
        }
        posted.session = parts.headers.get(MCP_SESSION_ID).cloned();
        if let Some(what) = encoded(&parts.headers) {
            return self.reopening_failed(&what);
        }
        match media(&parts.headers) {
            Media::Events => self.read_events(key, body),
            _ => self.read_whole(key, body, self.options.limits.max_frame_len()),
        }
    }

    /// The answer to the replayed `initialize`. The client had its own long ago, so this one is kept from it.
    pub(super) fn handle_reopening_answer(&mut self, key: Key, envelope: &Envelope, frame: &[u8]) {
        let version = envelope.result_protocol_version().and_then(|span| text(span, frame));
        let session = self.remove(key).and_then(|mut posted| posted.session.take());
        if envelope.kind() != Kind::Response {
            return self.reopening_failed("initialize was refused");
        }
        // What the client knows of the session has to hold in the new one.
        if version.as_deref() != self.dialed.version() {
            return self.reopening_failed("the server speaks another version now");
        }
        self.dialed.negotiated(session, version.as_deref());
        let initialized = self.dialed.handshake().map(|(_, initialized)| named_copy(initialized));
        let headers = self.dialed.session_headers();
        self.post_handshake(Purpose::Reopened, initialized, headers);
    }

    fn reopened(&mut self) {
        self.gate = None;
        for outgoing in self.reopening.take().into_iter().rev() {
            self.waiting.push_front(outgoing);
        }
        self.listen_afresh();
    }

    /// There is no new session: whoever waited for it gets an error.
    pub(super) fn reopening_failed(&mut self, what: &str) {
        tracing::warn!(%what, "no new session came about");
        self.gate = None;
        let attempts: Vec<Key> = self
            .posted
            .iter()
            .filter(|(_, posted)| matches!(posted.purpose, Purpose::Reopening | Purpose::Reopened))
            .map(|(&key, _)| key)
            .collect();
        for key in attempts {
            self.remove(key);
        }
        for outgoing in self.reopening.take() {
            self.fail_unposted(&outgoing, &Reason::SessionNotFound);
        }
    }
}

/// A copy of what outlives, or is outlived by, the block it lies in: a kept handshake, a request that is held.
pub(super) fn named_copy(frame: &[u8]) -> bytes::Bytes {
    bytes::Bytes::from(frame.to_owned())
}
