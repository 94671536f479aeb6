//! An answer's headers: what they mean for whom we asked, and how the body behind them is read.

use futures::stream::abortable;
use http::{HeaderMap, Method, StatusCode, header, response::Parts};
use http_body::Body as _;

use super::{
    Cause, Dial, Phase,
    answer::Answer,
    outward::request,
    posted::{Key, Outgoing, Posted, Purpose},
    two_endpoints::Mode,
};
use crate::{
    link::{counting::count_unsent, unanswered},
    session::{Reason, dialed::locate::locate, mirror::MCP_SESSION_ID, revision::Era},
    transport::http::{Body, Incoming, SendError, client::Waited},
};

/// What the body of an answer is, by its headers (rules H6 and E16).
pub(super) enum Media {
    Events,
    Json,
    /// Not named.
    Unnamed,
    Other(String),
}

impl Dial {
    /// The headers of an answer have come, or will not come.
    pub(super) fn handle_head(&mut self, key: Key, sent: Result<http::Response<Incoming>, SendError>) {
        let Some((purpose, span)) = self.posted.get(&key).map(|posted| (posted.purpose, posted.span.clone())) else {
            return;
        };
        let _in = span.entered();
        let (parts, body) = match sent {
            Ok(response) => response.into_parts(),
            Err(error) => return self.handle_unsent(key, purpose, &error),
        };
        self.is_reached = true;
        if let Some(posted) = self.posted.get_mut(&key) {
            posted.status = Some(parts.status);
        }
        if parts.status == StatusCode::UNAUTHORIZED {
            self.tell_unauthorized();
        }
        match purpose {
            Purpose::Message => self.handle_message_head(key, &parts, body),
            Purpose::Listening => self.handle_listening_head(key, &parts, body),
            Purpose::Events => self.handle_events_head(key, &parts, body),
            Purpose::Reopening | Purpose::Reopened => self.handle_reopening_head(key, &parts, body),
            Purpose::Leaving => {
                // 405 is allowed (rule G12); whatever it is, there is nothing left to do.
                tracing::debug!(status = parts.status.as_u16(), "session ended");
                self.phase = Phase::Over;
            }
        }
    }

    fn handle_unsent(&mut self, key: Key, purpose: Purpose, error: &SendError) {
        count_unsent(&self.options.resources.metrics, error);
        let what = error.cause();
        let is_unsent =
            matches!(error, SendError::Connect { .. } | SendError::Timeout { waited: Waited::Connection, .. });
        match purpose {
            Purpose::Message if self.posted.get(&key).is_some_and(|posted| posted.last_id.is_some()) => {
                self.resume_again(key, &what);
            }
            Purpose::Message => {
                let reason = unanswered(error);
                let is_first = is_unsent && !self.is_reached && self.phase != Phase::Leaving;
                self.fail(key, &reason);
                if is_first {
                    self.give_up(&reason, super::now());
                    self.cause = Cause::Unreachable(reason.to_string());
                    self.drain(super::now());
                } else {
                    tracing::warn!(%reason, "no answer");
                }
            }
            Purpose::Listening => self.listen_later(key, None, &what),
            Purpose::Events => self.events_ended(key, &what),
            Purpose::Reopening | Purpose::Reopened => self.reopening_failed(&what),
            Purpose::Leaving => self.phase = Phase::Over,
        }
    }

    fn handle_message_head(&mut self, key: Key, parts: &Parts, body: Incoming) {
        let Some(posted) = self.posted.get_mut(&key) else { return };
        let status = parts.status;
        let is_lost = status == StatusCode::NOT_FOUND && posted.era == Era::Legacy && posted.generation.is_some();
        let is_redirect = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        if posted.is_initialize {
            posted.session = parts.headers.get(MCP_SESSION_ID).cloned();
        }
        if posted.last_id.is_some() {
            return self.handle_resumed_head(key, parts, body);
        }
        if is_lost {
            return self.session_lost(key);
        }
        if is_redirect {
            return self.redirect(key, &parts.headers, status);
        }
        if !can_begin_anew(status) {
            posted.outgoing = None;
        }
        if posted.ids.is_empty() {
            // Nothing is awaited of it, so nothing ends it that does not end by itself (rule H5: it has no body).
            self.linger_on(key);
        }
        if !status.is_success() {
            let max = self.options.limits.max_frame_len().min(MAX_REFUSAL_LEN);
            return self.read_whole(key, body, max);
        }
        let Some(posted) = self.posted.get(&key) else { return };
        if posted.ids.is_empty() || matches!(self.mode, Mode::TwoEndpoints(_)) {
            return self.handle_taken(key, parts, body);
        }
        if let Some(what) = encoded(&parts.headers) {
            return self.fail(key, &Reason::UpstreamStatus { status: status.as_u16(), what });
        }
        match media(&parts.headers) {
            Media::Events => self.read_events(key, body),
            Media::Json | Media::Unnamed if status == StatusCode::OK || !body.is_end_stream() => {
                self.read_whole(key, body, self.options.limits.max_frame_len());
            }
            Media::Json | Media::Unnamed => {
                let what = "a request was accepted as if nothing was to be answered".to_owned();
                self.fail(key, &Reason::UpstreamStatus { status: status.as_u16(), what });
            }
            Media::Other(found) => {
                let what = format!("its answer is {found:?}, neither JSON nor an event stream");
                self.fail(key, &Reason::UpstreamStatus { status: status.as_u16(), what });
            }
        }
    }

    /// Something was taken that is not answered here: a notification, a response, anything in HTTP+SSE.
    fn handle_taken(&mut self, key: Key, parts: &Parts, body: Incoming) {
        let Some(posted) = self.posted.get_mut(&key) else { return };
        let is_initialized = posted.is_initialized;
        if posted.counts() {
            self.asking -= 1;
            posted.ids.clear();
            self.linger_on(key);
        }
        if encoded(&parts.headers).is_none() && matches!(media(&parts.headers), Media::Events) {
            self.read_events(key, body);
        } else if body.is_end_stream() {
            self.remove(key);
        } else {
            // Read to its end, so that the connection can be used again.
            self.read_whole(key, body, MAX_IGNORED_LEN);
        }
        if is_initialized && matches!(self.mode, Mode::Streamable) {
            self.begin_to_listen(super::now());
        }
    }

    /// Follows a redirect that keeps method and body, inside the origin; the credentials are for no other.
    fn redirect(&mut self, key: Key, headers: &HeaderMap, status: StatusCode) {
        let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
        let Some(Posted { outgoing, era, .. }) = self.posted.get_mut(&key) else { return };
        let hops = outgoing.as_ref().map_or(MAX_HOPS, |outgoing| outgoing.hops);
        let target = match location {
            None => Err("it leads nowhere"),
            Some(_) if hops >= MAX_HOPS => Err("it is one of too many"),
            Some(location) => locate(self.client.url(), location),
        };
        match (target, outgoing.take()) {
            (Ok(url), Some(outgoing)) => {
                let outgoing = Outgoing { hops: hops + 1, ..outgoing };
                let era = *era;
                self.remove(key);
                self.post_to(url, outgoing, era);
            }
            (target, _) => {
                let what = format!("a redirect that is not followed: {}", target.err().unwrap_or("not again"));
                self.fail(key, &Reason::UpstreamStatus { status: status.as_u16(), what });
            }
        }
    }

    /// Tells the server that the session has ended.
    pub(super) fn delete_session(&mut self) {
        if self.dialed.has_session() && matches!(self.mode, Mode::Streamable) {
            let headers = self.dialed.session_headers();
            let request = request(Method::DELETE, self.client.url().clone(), headers, Body::empty());
            self.launch(Purpose::Leaving, request, None, None);
        }
    }

    /// Reads an event stream.
    pub(super) fn read_events(&mut self, key: Key, body: Incoming) {
        let answer =
            Answer::events(key, body, self.options.limits, &self.allowance).with_pause(self.options.waits.sse_read);
        self.read(answer, key);
    }

    /// Reads a body as a whole, unless it is longer than `max`.
    pub(super) fn read_whole(&mut self, key: Key, body: Incoming, max: usize) {
        self.read(Answer::whole(key, body, max, &self.allowance), key);
    }

    fn read(&mut self, answer: Answer, key: Key) {
        let (answer, abort) = abortable(answer);
        self.reading.push(answer);
        if let Some(posted) = self.posted.get_mut(&key) {
            posted.abort = abort;
        }
    }

    /// Once: a client that asks again and again need not be told each time.
    fn tell_unauthorized(&mut self) {
        if !std::mem::replace(&mut self.told_unauthorized, true) {
            let reason = Reason::UpstreamStatus { status: 401, what: String::new() };
            tracing::error!("401 Unauthorized: {}", reason.hint().unwrap_or_default());
        }
    }
}

/// Whether what was posted may be needed once more: for HTTP+SSE.
fn can_begin_anew(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
}

/// What is wrong with an answer that is compressed although we did not ask for that; passed on it would be
/// no message.
pub(super) fn encoded(headers: &HeaderMap) -> Option<String> {
    let encoding = headers.get(header::CONTENT_ENCODING)?;
    let is_plain = encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    (!is_plain)
        .then(|| format!("its answer has Content-Encoding {encoding:?}, although only \"identity\" was asked for"))
}

pub(super) fn media(headers: &HeaderMap) -> Media {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Media::Unnamed };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("text/event-stream") {
        Media::Events
    } else if essence.eq_ignore_ascii_case("application/json") {
        Media::Json
    } else {
        Media::Other(essence.chars().take(MAX_SHOWN).collect())
    }
}

/// Most redirects of one message.
const MAX_HOPS: u8 = 3;
/// Longest error body that is read.
const MAX_REFUSAL_LEN: usize = 1 << 20;
/// Longest body that is read only to keep its connection.
const MAX_IGNORED_LEN: usize = 64 << 10;
const MAX_SHOWN: usize = 64;
