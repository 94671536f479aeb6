//! HTTP+SSE of MCP 2024-11-05: the stream's first event names the place for POSTs, and it must name us (rule L2).
//!
//! That one URI is exchanged; every other byte of the stream, of that event too, stays as it came, and a later event
//! of this name is not touched. Ours holds the upstream's path and query, so nothing is kept: neither a table nor a
//! session. It is signed, because what we send there bears our credentials: clients reach the places that the
//! upstream named, and no others. The key lives as long as the relay, as do the streams.

use std::{
    borrow::Cow,
    fmt,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use http::{Method, Uri, header, uri::PathAndQuery};
use http_body::{Body as HttpBody, Frame, SizeHint};
use ring::hmac;
use shadowcat_codecs::{
    Limits,
    sse::{EventTable, SseDecoder},
};

use super::{Place, Relay, headers};
use crate::{
    session::{Reason, StreamKey, dialed::locate::locate},
    transport::http::{Body, BodyError, Request, Response},
};

impl Relay {
    /// Passes on the event stream of HTTP+SSE. Its first event tells clients to post to `messages`, a path of ours.
    /// `None` without [`with_two_endpoints`](Self::with_two_endpoints).
    ///
    /// # Cancel safety
    ///
    /// As [`exchange`](Self::exchange); dropping the answer's body closes the upstream's stream (rule L4).
    pub async fn legacy_events(&self, request: Request, messages: &str) -> Option<Response> {
        let references = self.references.clone()?;
        if request.method() != Method::GET {
            return Some(self.refusal(StreamKey::DOWNSTREAM, &Reason::MethodNotAllowed { allowed: "GET" }));
        }
        let base = self.asked_url(&request);
        let mut answer = self.pass(request, Cow::Borrowed(&*base), Place::Endpoint).await;
        if !headers::media_type(answer.headers()).eq_ignore_ascii_case("text/event-stream") {
            return Some(answer);
        }
        if let Some(coding) = headers::content_encoding(answer.headers()) {
            let what = format!("its stream is encoded ({coding}), so its endpoint cannot be read");
            return Some(
                self.refusal(StreamKey::UPSTREAM, &Reason::UpstreamStatus { status: answer.status().as_u16(), what }),
            );
        }
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        let base = base.into_owned();
        Some(answer.map(|body| Body::boxed(Named::new(body, references, messages, base, self.options.limits))))
    }

    /// Passes a message of HTTP+SSE on to the place that the stream named. `None` without
    /// [`with_two_endpoints`](Self::with_two_endpoints).
    ///
    /// # Cancel safety
    ///
    /// As [`exchange`](Self::exchange).
    pub async fn legacy_message(&self, request: Request) -> Option<Response> {
        let references = self.references.as_ref()?;
        if request.method() != Method::POST {
            return Some(self.refusal(StreamKey::DOWNSTREAM, &Reason::MethodNotAllowed { allowed: "POST" }));
        }
        match references.target(request.uri().query().unwrap_or_default()) {
            Some(target) => Some(self.pass(request, Cow::Owned(self.client.at(target)), Place::Endpoint).await),
            None => Some(self.refusal(StreamKey::DOWNSTREAM, &Reason::SessionNotFound)),
        }
    }
}

/// Makes references to the upstream's places for POSTs, and reads them.
#[derive(Clone)]
pub(super) struct References {
    key: hmac::Key,
}

impl References {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret) })
    }

    /// What clients are to resolve against our URL: `messages` is our path.
    fn reference(&self, messages: &str, target: &Uri) -> String {
        let target = target.path_and_query().map_or("/", PathAndQuery::as_str);
        let tag = hmac::sign(&self.key, target.as_bytes());
        let signed = [tag.as_ref(), target.as_bytes()].concat();
        format!("{messages}?{PARAMETER}{}", BASE64_URL_SAFE_NO_PAD.encode(signed))
    }

    /// The place at the upstream's origin that a query of ours stands for. `None` if it is none of ours.
    pub(super) fn target(&self, query: &str) -> Option<PathAndQuery> {
        let encoded = query.split('&').find_map(|pair| pair.strip_prefix(PARAMETER))?;
        let mut signed = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let target = signed.split_off(signed.len().min(TAG_LEN));
        hmac::verify(&self.key, &target, &signed).ok()?;
        PathAndQuery::from_maybe_shared(Bytes::from(target)).ok()
    }
}

impl fmt::Debug for References {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("References(…)")
    }
}

/// A stream whose first event names us instead of the upstream.
pub(super) struct Named {
    body: Body,
    /// `None` behind the first event.
    opening: Option<Box<Opening>>,
}

/// A stream up to its first event.
struct Opening {
    references: References,
    messages: Box<str>,
    /// The URL of the stream.
    base: Uri,
    decoder: SseDecoder,
    table: EventTable,
    /// All that came. Invariant: `held.len() <= MAX_OPENING_LEN`.
    held: BytesMut,
}

impl Named {
    /// `base` is where the stream comes from, `messages` the path that clients post to.
    pub(super) fn new(body: Body, references: References, messages: &str, base: Uri, limits: Limits) -> Self {
        let (decoder, table, held) = (SseDecoder::new(limits), EventTable::new(), BytesMut::new());
        Self {
            body,
            opening: Some(Box::new(Opening { references, messages: messages.into(), base, decoder, table, held })),
        }
    }
}

impl Opening {
    /// Takes a piece in. Returns all that came, once the first event is whole.
    fn take_in(&mut self, piece: Bytes) -> Result<Option<Bytes>, String> {
        self.held.extend_from_slice(&piece);
        let mut piece = piece;
        let first = self.decoder.push(&mut piece, &mut self.table).map_err(|error| error.to_string())?;
        if let Some(event) = first.as_ref().and_then(|batch| batch.iter().next()) {
            let reference = match event.event() {
                b"endpoint" => Some(self.renamed(event.data())?),
                _ => {
                    tracing::warn!("the server's stream does not begin with its endpoint; passed on as it is");
                    None
                }
            };
            return Ok(Some(self.opened(reference)));
        }
        if self.held.len() > MAX_OPENING_LEN {
            return Err(format!("there is none in the first {MAX_OPENING_LEN} bytes"));
        }
        Ok(None)
    }

    /// Where the URI lies in what is held, and ours.
    fn renamed(&self, data: &[u8]) -> Result<(Range<usize>, String), String> {
        let place = first_data(&self.held).filter(|place| self.held.get(place.clone()) == Some(data));
        let place = place.ok_or("it is not on one line")?;
        let told = std::str::from_utf8(data).map_err(|_| "it is no URL")?;
        let target = locate(&self.base, told)?;
        Ok((place, self.references.reference(&self.messages, &target)))
    }

    /// What is held, with the URI exchanged (a named copy).
    fn opened(&mut self, reference: Option<(Range<usize>, String)>) -> Bytes {
        let Some((place, reference)) = reference else { return self.held.split().freeze() };
        let mut opened = BytesMut::with_capacity(self.held.len() + reference.len());
        opened.extend_from_slice(self.held.get(..place.start).unwrap_or_default());
        opened.extend_from_slice(reference.as_bytes());
        opened.extend_from_slice(self.held.get(place.end..).unwrap_or_default());
        opened.freeze()
    }
}

impl HttpBody for Named {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
            let Some(opening) = &mut this.opening else { return Poll::Ready(frame) };
            let piece = match frame {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let held = opening.held.split().freeze();
                    this.opening = None;
                    return Poll::Ready((!held.is_empty()).then(|| Ok(Frame::data(held))));
                }
            };
            let opened = match opening.take_in(piece) {
                Ok(None) => continue,
                Ok(Some(opened)) => Ok(Frame::data(opened)),
                Err(what) => {
                    tracing::warn!("the endpoint the server names is not used: {what}; the stream is broken off");
                    // Dropped now: the upstream sees its client leave.
                    this.body = Body::empty();
                    Err(BodyError::Aborted(format!("the server's endpoint: {what}")))
                }
            };
            this.opening = None;
            return Poll::Ready(Some(opened));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.opening.as_ref().is_none_or(|opening| opening.held.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        if self.opening.is_some() { SizeHint::default() } else { self.body.size_hint() }
    }
}

/// The value of the first `data` line, which is the first event's: without such a line an event is none (WHATWG HTML,
/// 9.2.6). `None` if it has no value.
fn first_data(held: &[u8]) -> Option<Range<usize>> {
    let mut start = if held.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
    // The LF of a CRLF ends an empty line here, which is skipped like any other.
    for line in held.get(start..)?.split(|byte| matches!(byte, b'\r' | b'\n')) {
        if let Some(value) = line.strip_prefix(b"data:") {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            let end = start + line.len();
            return Some(end - value.len()..end);
        }
        if line == b"data" {
            return None;
        }
        start += line.len() + 1;
    }
    None
}

/// Most bytes before the first event's end. A URI that clients post to has to be shorter than a request's head.
const MAX_OPENING_LEN: usize = 16 << 10;
/// Of SHA-256.
const TAG_LEN: usize = 32;
const PARAMETER: &str = "to=";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_leads_back_and_a_changed_one_nowhere() {
        let references = References::new().unwrap();
        let reference = references.reference("/messages", &Uri::from_static("http://a.example/x/y?session=1&b=%2F"));
        let (path, query) = reference.split_once('?').unwrap();
        assert_eq!(path, "/messages");
        assert_eq!(references.target(query).unwrap(), "/x/y?session=1&b=%2F");
        assert_eq!(references.target(&format!("a=b&{query}&c")).unwrap(), "/x/y?session=1&b=%2F");
        assert_eq!(References::new().unwrap().target(query), None, "another relay's");
        for cut in 0..query.len() {
            assert_eq!(references.target(query.get(..cut).unwrap()), None, "cut at {cut}");
        }
        let other = BASE64_URL_SAFE_NO_PAD.encode([&[0; TAG_LEN][..], b"/admin"].concat());
        for other in ["", "to=", "to=/x/y", "to=!", &format!("to={other}")] {
            assert_eq!(references.target(other), None, "{other}");
        }
    }

    #[test]
    fn the_first_data_line_is_found_whatever_stands_around_it() {
        for (held, found) in [
            ("event: endpoint\ndata: /m?a\n\n", Some("/m?a")),
            ("data:/m\r\nevent:endpoint\r\n\r\n", Some("/m")),
            ("\u{feff}data:  /m\r\r", Some(" /m")),
            (": data: no\r\n\r\nretry: 1\n\nid: data:\ndatabase: no\ndata: /m\n", Some("/m")),
            ("data\ndata: /m\n\n", None),
            ("event: endpoint\n\n", None),
        ] {
            assert_eq!(first_data(held.as_bytes()).and_then(|place| held.get(place)), found, "{held:?}");
        }
    }
}
