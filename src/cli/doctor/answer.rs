//! What an answer says, and about whom: the server, or something before it.
//!
//! A 413 with a page of HTML is not the server's: advice is for whoever has to change something.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, Version, header};
use serde_json::Value;

/// An answer, read to its end or to the message that was waited for.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    /// What came of the body, if it is no event stream.
    pub(super) body: Bytes,
    /// The response of JSON-RPC in it.
    pub(super) message: Option<Value>,
    /// From the request to the head of the answer.
    pub(super) took: Duration,
}

impl Answer {
    /// The request reached the server and was understood. That it knows no such method is an answer too.
    pub(super) fn is_answered(&self) -> bool {
        let code = self.message.as_ref().and_then(|message| message.pointer("/error/code")).and_then(Value::as_i64);
        let is_message = self.message.is_some() && (code.is_none() || code == Some(METHOD_NOT_FOUND));
        is_message && (self.status.is_success() || code == Some(METHOD_NOT_FOUND))
    }

    /// A header as text, cut where it is long.
    pub(super) fn header(&self, name: &HeaderName) -> Option<String> {
        text(&self.headers, name)
    }

    /// Pages in HTML come from proxies and load balancers, not from servers of MCP.
    pub(super) fn is_html(&self) -> bool {
        let is_named = self.header(&header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
        is_named || self.body.trim_ascii_start().first() == Some(&b'<')
    }

    /// Whose answer this is.
    pub(super) fn whose(&self) -> String {
        let named = self.header(&header::SERVER).map(|name| format!(" ({name})")).unwrap_or_default();
        if self.is_html() {
            format!("something before the server{named}")
        } else if self.message.is_some() || self.status.is_success() {
            "the server itself".to_owned()
        } else {
            format!("the server or something before it{named}")
        }
    }

    /// Status, and what is said with it.
    pub(super) fn told(&self) -> String {
        let status = self.status.as_u16();
        let error = self.message.as_ref().and_then(|message| message.get("error"));
        if let Some(error) = error {
            let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
            let what = error.get("message").and_then(Value::as_str).unwrap_or_default();
            return format!("{status}, error {code}: {}", cut(what));
        }
        if self.is_html() {
            return format!("{status} with a page in HTML");
        }
        let body = String::from_utf8_lossy(&self.body);
        if self.message.is_some() || body.trim().is_empty() {
            status.to_string()
        } else {
            format!("{status}: {}", cut(body.trim()))
        }
    }
}

/// A header as text, cut where it is long.
pub(super) fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| cut(&String::from_utf8_lossy(value.as_bytes())))
}

/// Milliseconds, as precise as anybody wants them.
pub(super) fn millis(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ 0..10_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        micros => format!("{} ms", micros / 1000),
    }
}

fn cut(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(MAX_SAID).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// What is shown of what others say, in characters.
const MAX_SAID: usize = 120;

/// JSON-RPC 2.0, 5.1.
const METHOD_NOT_FOUND: i64 = -32601;
