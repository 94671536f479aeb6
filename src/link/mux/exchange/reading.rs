//! What an exchange is asked: the body, read whole and looked at, and whether its client can read the answer.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use shadowcat_codecs::{
    Frame, Span,
    envelope::{BatchElement, Envelope, EnvelopeParser, Kind},
    line::{LineEncoder, LineEnds},
};
use tokio::sync::oneshot;

use super::answering::{BOTH, JSON, Presence};
use crate::{
    budget::{Allowance, Toward},
    clock,
    link::{
        gathered::Gathered,
        mux::{
            Mux,
            child_io::elements_copy,
            lanes::{Opening, Seat},
            order::{Claim, Post},
        },
        no_room,
    },
    session::{Reason, Reply},
    telemetry::{
        metrics::{
            Metrics,
            labels::{CopyReason, Link, To},
        },
        trace::{Traced, shown},
    },
    transport::http::RequestBody,
};

impl Mux {
    /// Reads a body whole, as it has to become one line, and parses its envelope.
    pub(super) async fn read(
        &self,
        headers: HeaderMap,
        body: RequestBody,
        (allowance, traced): (Allowance, &mut Traced),
    ) -> Result<(Box<Post>, Presence, oneshot::Receiver<Opening>), Reply> {
        let limits = self.parts.options.limits;
        let metrics = &self.parts.options.resources.metrics;
        let body = whole(body, limits.max_frame_len(), (&allowance, metrics)).await.map_err(Reply::without_id)?;
        let arrived = clock::now().into_std();
        let invalid = |what: String, at: u64| Reply::without_id(Reason::InvalidJson { what, at });
        let seen = self.parts.options.resources.verify.blanked(&body);
        // Raw line ends can only stand between tokens (rule E9): one message must stay one line.
        let line = LineEncoder::new(LineEnds::BlankAlways).encode(Frame::new(body));
        let frame = line.map_err(|error| invalid(error.to_string(), 0))?.into_frame();
        let mut parser = EnvelopeParser::new(limits);
        let parsed = parser.parse(&frame).inspect_err(|_| metrics.noise.add((Link::Mux, To::Server), 1));
        let envelope = parsed.map_err(|error| match error.is_syntax() {
            true => invalid(error.to_string(), error.at() as u64),
            false => Reply::without_id(Reason::Refused { what: error.to_string() }),
        })?;
        if envelope.kind() == Kind::Other {
            let what = "neither a request, a notification nor a response".to_owned();
            return Err(Reply::without_id(Reason::InvalidRequest { what }));
        }
        note_posted(&frame, &envelope, traced);
        let (answer, opening) = oneshot::channel();
        let (tell, presence) = oneshot::channel();
        let elements = elements_copy(&parser);
        let seat = Seat { answer, presence, allowance };
        let span = traced.span().clone();
        let claim = self.limit(&frame, &envelope, &elements).map(|limit| Claim::new(limit, arrived));
        let post = Post { frame: frame.into_bytes(), envelope, elements, headers, arrived, seat, span, seen, claim };
        Ok((Box::new(post), Presence { _tell: tell }, opening))
    }

    /// How long the answer to this message may take; of a batch, the first of its answers.
    fn limit(&self, frame: &[u8], envelope: &Envelope, elements: &[BatchElement]) -> Option<Duration> {
        let response = &self.parts.options.response;
        let envelopes = [envelope].into_iter().chain(elements.iter().map(BatchElement::envelope));
        envelopes.filter_map(|envelope| response.of_message(envelope, frame)).min()
    }
}

/// Looks at which trace a message belongs to, and says that it is here.
fn note_posted(frame: &[u8], envelope: &Envelope, traced: &mut Traced) {
    traced.learn(envelope.traceparent().map(|place| place.of(frame)));
    if tracing::enabled!(tracing::Level::DEBUG) {
        let text = |place: Span| shown(place.of(frame));
        let (method, id) = (envelope.method().map(text), envelope.id().map(text));
        traced.span().in_scope(|| {
            tracing::debug!(kind = ?envelope.kind(), ?method, ?id, bytes = frame.len(), "client to server");
        });
    }
}

/// The body in one piece. The limit is checked before more of it is kept, and nothing more is read while there is no
/// room for it.
async fn whole(
    mut body: RequestBody,
    limit: usize,
    (allowance, metrics): (&Allowance, &Metrics),
) -> Result<Bytes, Reason> {
    let declared = body.size_hint().exact();
    let too_large = || Reason::MessageTooLarge { limit, at: 0, declared };
    let told = declared.map(|len| usize::try_from(len).unwrap_or(usize::MAX));
    if told.is_some_and(|len| len > limit) {
        return Err(too_large());
    }
    let (mut gathered, mut pieces) = (Gathered::new(allowance, Toward::Server, limit), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Reason::InvalidRequest { what: format!("the body broke off: {error}") })?;
        let Ok(mut piece) = frame.into_data() else { continue };
        if piece.len() > limit - gathered.len() {
            return Err(too_large());
        }
        pieces += usize::from(!piece.is_empty());
        poll_fn(|cx| gathered.poll_push(cx, &mut piece, told)).await.map_err(no_room)?;
    }
    let whole = gathered.finish();
    if pieces > 1 {
        metrics.copied(CopyReason::RequestJoin, whole.len());
    }
    Ok(whole)
}

/// Rules H3 and H4: JSON in, and the client must be able to read either form of the answer.
pub(super) fn check_media(headers: &HeaderMap) -> Result<(), Reply> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(JSON) {
        return Err(Reply::without_id(Reason::UnsupportedMedia { found: media.to_owned() }));
    }
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let found = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
        return Err(Reply::without_id(Reason::UnsupportedEncoding { found, supported: "identity".to_owned() }));
    }
    if accepts(headers, "application", "json") && accepts(headers, "text", "event-stream") {
        return Ok(());
    }
    Err(Reply::without_id(Reason::NotAcceptable { required: BOTH }))
}

/// Whether `Accept` names the media type, or a range it is in. Without the header, anything goes (RFC 9110,
/// 12.5.1).
pub(super) fn accepts(headers: &HeaderMap, kind: &str, subtype: &str) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|range| {
        let essence = range.split(';').next().unwrap_or_default().trim();
        essence.split_once('/').is_some_and(|(one, other)| {
            (one == "*" || one.eq_ignore_ascii_case(kind)) && (other == "*" || other.eq_ignore_ascii_case(subtype))
        })
    })
}
