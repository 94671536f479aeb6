//! Whether streams are streams: does something hold events back, and does something close what is silent.
//!
//! Told by time: an answer of many events that comes all at once was held back, and a silent stream that ends before we end it
//! was closed on the way. Nothing is concluded from one slow piece.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::json;
use shadowcat::{clock::now, transport::http::Incoming};
use tokio::time::timeout_at;

use super::{
    answer::{millis, text},
    asker::{Asker, Era, is_event_stream, modern_meta},
    finding::Finding,
};

/// Who is on the way, by what they write into heads.
pub(super) fn headers(asker: &Asker) -> Finding {
    let Some(headers) = &asker.first else { return Finding::skipped(WAY, "no answer to look at") };
    let named: Vec<String> =
        SIGNS.iter().filter_map(|name| text(headers, name).map(|value| format!("{name}: {value}"))).collect();
    let seen = if named.is_empty() { "nobody on the way gives a name".to_owned() } else { named.join("; ") };
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Finding::problem(WAY, seen).advise(COMPRESSED);
    }
    Finding::ok(WAY, seen)
}

/// Opens the listening stream and holds it for as long as `idle`.
pub(super) async fn check(asker: &mut Asker, idle: Duration) -> Vec<Finding> {
    let (request, by) = if asker.era() == Some(&Era::Modern) {
        let params = json!({"_meta": modern_meta(), "notifications": {"toolsListChanged": true}});
        (asker.request(LISTEN, &params), LISTEN)
    } else {
        (asker.bare(Method::GET), "GET")
    };
    let started = now();
    let answer = match timeout_at(started + HEAD, asker.client.send(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            return vec![Finding::problem(STREAM, format!("{by}: {}", error.cause())).advise(BUFFERED)];
        }
        Err(_) => {
            let seen = format!("{by} got nothing within {} s, not even a head", HEAD.as_secs());
            return vec![Finding::problem(STREAM, seen).advise(BUFFERED)];
        }
    };
    let took = now() - started;
    if !is_event_stream(answer.headers()) {
        return vec![no_stream(by, answer.status())];
    }
    let first = opened(by, answer.headers(), took);
    vec![first, held(answer.into_body(), idle).await]
}

fn no_stream(by: &str, status: StatusCode) -> Finding {
    // Rules G1 and H12: this is the regular way to say so.
    if status == if by == LISTEN { StatusCode::NOT_FOUND } else { StatusCode::METHOD_NOT_ALLOWED } {
        return Finding::ok(STREAM, format!("none to listen to ({}): the server sends only answers", status.as_u16()));
    }
    if by == LISTEN {
        return Finding::warning(STREAM, format!("{by} got {} and no event stream", status.as_u16()))
            .advise("a server that does not know the method must answer 404 and -32601; see its log");
    }
    Finding::warning(STREAM, format!("GET got {} and no event stream", status.as_u16()))
        .advise("a server without a listening stream must answer 405; does something on the way refuse GET?")
}

fn opened(by: &str, headers: &HeaderMap, took: Duration) -> Finding {
    let seen = format!("{by} opened an event stream after {}", millis(took));
    if let Some(encoding) = text(headers, &header::CONTENT_ENCODING) {
        return Finding::problem(STREAM, format!("{seen}, compressed ({encoding})")).advise(COMPRESSED);
    }
    Finding::ok(STREAM, seen)
}

/// What is seen of a stream on which nobody has anything to say.
async fn held(mut body: Incoming, idle: Duration) -> Finding {
    if idle.is_zero() {
        return Finding::skipped(IDLE, "not to be tried (--idle 0)");
    }
    let (started, mut pieces) = (now(), 0_u32);
    let (mut last, mut longest) = (started, Duration::ZERO);
    let end = loop {
        let frame = timeout_at(started + idle, body.frame()).await;
        longest = longest.max(now() - last);
        match frame {
            Err(_) => break None,
            Ok(None) => break Some("closed".to_owned()),
            Ok(Some(Err(error))) => break Some(format!("broken off ({error})")),
            Ok(Some(Ok(_))) => (last, pieces) = (now(), pieces + 1),
        }
    };
    let sign = match pieces {
        0 => "without a sign of life".to_owned(),
        1 => format!("1 piece came, the longest silence was {} s", longest.as_secs()),
        pieces => format!("{pieces} pieces came, the longest silence was {} s", longest.as_secs()),
    };
    let lived = (now() - started).as_secs();
    match end {
        Some(how) => Finding::warning(IDLE, format!("the stream was {how} after {lived} s, {sign}")).advise(
            "something gives up what is silent: raise its read timeout (nginx: proxy_read_timeout, HAProxy: timeout \
             server), or have the server send comments more often",
        ),
        None if pieces == 0 && idle >= LONG => {
            Finding::warning(IDLE, format!("open after {lived} s, {sign}")).advise(SILENT)
        }
        None => Finding::ok(IDLE, format!("open after {lived} s, {sign}")),
    }
}

const WAY: &str = "on the way";
const STREAM: &str = "stream";
const IDLE: &str = "idle";

/// What 2026-07-28 has in place of GET.
const LISTEN: &str = "subscriptions/listen";

const SIGNS: [HeaderName; 5] = [
    header::SERVER,
    header::VIA,
    header::CONTENT_ENCODING,
    HeaderName::from_static("x-accel-buffering"),
    HeaderName::from_static("cf-ray"),
];

const BUFFERED: &str = "something holds the stream back until it ends: turn buffering off (nginx: proxy_buffering off; \
                        others: see docs/OPERATING.md), or have the server send its head at once";
const COMPRESSED: &str = "who compresses gathers first, and did so without being asked: turn compression off for \
                          text/event-stream and application/json of this path";
const SILENT: &str = "most proxies close after 60 s of silence: have the server send comments, and see that nothing \
                      buffers them";

/// How long the head of a stream may take.
const HEAD: Duration = Duration::from_secs(5);

/// Silence that is longer than most proxies bear.
const LONG: Duration = Duration::from_secs(60);
