//! HTTP+SSE of 2024-11-05: one GET stream for everything the server says, whose first event names the endpoint
//! for POSTs (rules L1 to L4). Taken up only when the server refuses `initialize` as such servers do.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, response::Parts};
use shadowcat_codecs::envelope::Kind;

use super::{
    Cause, Dial, Gate, Phase,
    deliver::refusal,
    heads::{Media, encoded, media},
    outward::request,
    posted::{Key, Outgoing, Purpose},
};
use crate::{
    session::{Reason, Session, StreamKey, dialed::locate::locate},
    transport::http::{Body, Incoming},
};

/// How the server is spoken to.
#[derive(Debug)]
pub(super) enum Mode {
    /// One endpoint.
    Streamable,
    /// `initialize` was refused, for this reason; a server of two endpoints is being looked for.
    Asking { refused: Box<(Outgoing, Reason)> },
    /// The endpoint for POSTs.
    TwoEndpoints(Uri),
}

impl Mode {
    /// Whether answers come, or may come, by the one stream.
    pub(super) fn is_needed(&self, session: &Session) -> bool {
        match self {
            Self::Streamable => false,
            Self::Asking { .. } => true,
            Self::TwoEndpoints(_) => session.pending_at(StreamKey::UPSTREAM) > 0,
        }
    }
}

impl Dial {
    /// `initialize` was refused as a server of HTTP+SSE would: asks for its stream.
    pub(super) fn ask_for_endpoint(&mut self, key: Key, status: StatusCode, body: &Bytes) {
        let reason = refusal(status, body);
        let Some(outgoing) = self.posted.get_mut(&key).and_then(|posted| posted.outgoing.take()) else {
            return self.fail(key, &reason);
        };
        tracing::info!(%status, "initialize was refused; trying HTTP+SSE");
        self.remove(key);
        self.mode = Mode::Asking { refused: Box::new((outgoing, reason)) };
        self.gate = Some(Gate::Endpoint);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        let request = request(Method::GET, self.client.url().clone(), headers, Body::empty());
        self.launch(Purpose::Events, request, None, self.options.waits.sse_connect);
    }

    pub(super) fn handle_events_head(&mut self, key: Key, parts: &Parts, body: Incoming) {
        let is_stream = parts.status.is_success() && encoded(&parts.headers).is_none();
        if is_stream && matches!(media(&parts.headers), Media::Events) {
            self.read_events(key, body);
        } else {
            self.events_ended(key, parts.status.as_str());
        }
    }

    /// Where to post. Only the first such event counts; it must not lead elsewhere (rule L2).
    pub(super) fn handle_endpoint(&mut self, data: &[u8]) {
        let Mode::Asking { refused } = std::mem::replace(&mut self.mode, Mode::Streamable) else { return };
        let reference = String::from_utf8_lossy(data);
        match locate(self.client.url(), &reference) {
            Ok(endpoint) => {
                tracing::info!("the server speaks HTTP+SSE");
                self.mode = Mode::TwoEndpoints(endpoint);
                self.gate = None;
                self.waiting.push_front(refused.0);
            }
            Err(what) => {
                tracing::warn!("the endpoint the server names is not used: {what}");
                self.mode = Mode::Asking { refused };
                self.give_up_asking();
            }
        }
    }

    /// The stream ended, or did not come about.
    pub(super) fn events_ended(&mut self, key: Key, what: &str) {
        self.remove(key);
        tracing::debug!(%what, "the HTTP+SSE stream ended");
        match &self.mode {
            Mode::Asking { .. } => self.give_up_asking(),
            Mode::Streamable => {}
            Mode::TwoEndpoints(_) if self.phase == Phase::Leaving => {}
            Mode::TwoEndpoints(_) => {
                // No answer can come any more, to nothing that is asked or will be.
                if self.phase == Phase::Running {
                    self.cause = Cause::Server;
                }
                self.give_up(&Reason::StreamEnded, super::now());
                self.drain(super::now());
            }
        }
    }

    /// There is no such server either: the first refusal stands.
    fn give_up_asking(&mut self) {
        self.gate = None;
        let streams: Vec<Key> =
            self.posted.iter().filter(|(_, posted)| posted.purpose == Purpose::Events).map(|(&key, _)| key).collect();
        for key in streams {
            self.remove(key);
        }
        if let Mode::Asking { refused } = std::mem::replace(&mut self.mode, Mode::Streamable) {
            let (outgoing, reason) = *refused;
            self.fail_unposted(&outgoing, &reason);
        }
    }

    /// Answers what will not be posted again.
    pub(super) fn fail_unposted(&mut self, outgoing: &Outgoing, reason: &Reason) {
        for id in outgoing.ids() {
            let refused =
                self.session.handle_refused(StreamKey::UPSTREAM, Kind::Response, id.as_bytes(), reason.clone());
            if let Some((_, reply)) = refused {
                self.push_reply(StreamKey::UPSTREAM, &reply);
            }
        }
    }
}
