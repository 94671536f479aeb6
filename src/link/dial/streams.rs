//! Streams that are asked for with GET: what the server says unasked, and what is left of an answer whose
//! stream was cut (rules G1 to G7). Only in the legacy era.

use std::time::{Duration, Instant};

use http::{HeaderValue, Method, StatusCode, header, response::Parts};

use super::{
    Dial, Gate, Phase,
    answer::End,
    heads::{Media, encoded, media},
    outward::request,
    posted::{Key, Purpose},
};
use crate::{
    session::{Reason, dialed::back_off::BackOff, revision::Era},
    transport::http::{Body, Incoming},
};

/// The listening stream between its connections.
#[derive(Debug, Default)]
pub(super) struct Listening {
    last_id: Option<Box<[u8]>>,
    back_off: BackOff,
    /// Whether the server has ever given us one in this session.
    was_open: bool,
}

impl Listening {
    /// An event came: whatever was wrong is over.
    pub(super) fn heard(&mut self) {
        self.back_off.reset();
    }
}

impl Dial {
    /// Asks for the stream of what the server says unasked, and posts nothing before it is there. A client that says
    /// again that it is initialized gets no second one.
    pub(super) fn begin_to_listen(&mut self, now: Instant) {
        if self.posted.values().any(|posted| posted.purpose == Purpose::Listening) {
            return;
        }
        let key = self.listen(None);
        if !matches!(self.gate, Some(Gate::Reopening)) {
            self.gate = Some(Gate::Listening { key, until: now + LISTENING_PATIENCE });
        }
    }

    /// When the listening stream is waited for no longer, if it is.
    pub(super) fn listening_due(&self) -> Option<Instant> {
        match self.gate {
            Some(Gate::Listening { until, .. }) => Some(until),
            _ => None,
        }
    }

    /// Waits for the listening stream no longer, if it is time.
    pub(super) fn open_overdue_gate(&mut self, now: Instant) {
        if self.listening_due().is_some_and(|due| due <= now) {
            tracing::debug!(after = ?LISTENING_PATIENCE, "the server does not answer that it lets us listen; going on");
            self.gate = None;
        }
    }

    fn listen(&mut self, delay: Option<Duration>) -> Key {
        let request = self.stream_request(self.listening.last_id.as_deref());
        self.launch(Purpose::Listening, request, delay, self.options.waits.sse_connect)
    }

    /// Asks anew, in a new session.
    pub(super) fn listen_afresh(&mut self) {
        let listening: Vec<Key> = self
            .posted
            .iter()
            .filter(|(_, posted)| posted.purpose == Purpose::Listening)
            .map(|(&key, _)| key)
            .collect();
        for key in listening {
            self.remove(key);
        }
        self.listening = Listening::default();
        self.begin_to_listen(super::now());
    }

    fn stream_request(&self, last_id: Option<&[u8]>) -> http::Request<Body> {
        let mut headers = self.dialed.resume_headers(last_id);
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        request(Method::GET, self.client.url().clone(), headers, Body::empty())
    }

    pub(super) fn handle_listening_head(&mut self, key: Key, parts: &Parts, body: Incoming) {
        let status = parts.status;
        if status.is_success() && encoded(&parts.headers).is_none() && matches!(media(&parts.headers), Media::Events) {
            self.listening.was_open = true;
            self.listening.back_off.opened();
            return self.read_events(key, body);
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return self.listen_later(key, None, status.as_str());
        }
        self.remove(key);
        if status == StatusCode::NOT_FOUND && self.listening.was_open {
            // The stream was there and is gone: the session is.
            return self.reopen_for_listening();
        }
        // 405 says that there is none, and so do others in their own words (rule G1).
        if status == StatusCode::METHOD_NOT_ALLOWED {
            tracing::debug!("the server has no listening stream");
        } else {
            tracing::info!(%status, "the server gives no listening stream");
        }
    }

    /// The listening stream ended, or did not come about: asks again later.
    pub(super) fn listen_later(&mut self, key: Key, end: Option<End>, what: &str) {
        self.remove(key);
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        let retry = end.as_ref().and_then(|end| end.retry);
        if let Some(last_id) = end.and_then(|end| end.last_id) {
            self.listening.last_id = Some(last_id);
        }
        let delay = self.listening.back_off.next(retry, crate::link::chance());
        tracing::debug!(%what, ?delay, "the listening stream will be asked for again");
        self.listen(Some(delay));
    }

    /// The stream of an answer was cut. Behind an event with an id the rest can be asked for, once the time has
    /// passed that the server wants (rules G6, G7); elsewhere the answer is lost.
    pub(super) fn resume(&mut self, key: Key, end: End) {
        let Some(posted) = self.posted.get_mut(&key) else { return };
        let last_id = end.last_id.or_else(|| posted.last_id.take());
        let (Some(last_id), Era::Legacy) = (last_id, posted.era) else {
            return self.fail(key, &end.timeout.map_or(Reason::StreamEnded, Reason::Timeout));
        };
        let delay = posted.back_off.next(end.retry, crate::link::chance());
        posted.last_id = Some(last_id.clone());
        tracing::debug!(?delay, "an answer's stream was cut and will be resumed");
        let request = self.stream_request(Some(&last_id));
        self.relaunch(key, request, delay);
    }

    pub(super) fn handle_resumed_head(&mut self, key: Key, parts: &Parts, body: Incoming) {
        if parts.status.is_success()
            && encoded(&parts.headers).is_none()
            && matches!(media(&parts.headers), Media::Events)
        {
            if let Some(posted) = self.posted.get_mut(&key) {
                posted.failed_resumes = 0;
                posted.back_off.opened();
            }
            return self.read_events(key, body);
        }
        if parts.status.is_server_error() {
            return self.resume_again(key, parts.status.as_str());
        }
        tracing::warn!(status = %parts.status, "the server does not resume an answer's stream");
        self.fail(key, &Reason::StreamEnded);
    }

    /// The rest of an answer could not be asked for.
    pub(super) fn resume_again(&mut self, key: Key, what: &str) {
        let Some(posted) = self.posted.get_mut(&key) else { return };
        posted.failed_resumes += 1;
        tracing::warn!(%what, attempt = posted.failed_resumes, "an answer's stream was not resumed");
        if posted.failed_resumes < MAX_RESUMES {
            self.resume(key, End::default());
        } else {
            self.fail(key, &Reason::StreamEnded);
        }
    }
}

/// How long a session waits for its listening stream before it goes on. Some servers send the headers of that stream with
/// the first event only.
const LISTENING_PATIENCE: Duration = Duration::from_millis(500);
/// How often a cut stream is asked for in a row without getting one.
const MAX_RESUMES: u32 = 5;
