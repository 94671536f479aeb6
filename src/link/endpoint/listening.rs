//! A stream on which a client only listens, and which ends when we are to stop.
//!
//! Nobody waits for an answer on it, so it would never end by itself. Between two events a last one is
//! written that says when to come back (WHATWG HTML, 9.2.6, "retry"); inside an event nothing can be, as it
//! would complete what the upstream has not (rule of event streams: an unfinished event is dropped at the
//! end of the stream).

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::{Body as HttpBody, Frame};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::transport::http::{Body, BodyError, Response};

/// The response, whose body ends when `drain` is cancelled, if it is an event stream.
pub(super) fn ended_by(drain: CancellationToken, response: Response) -> Response {
    let headers = response.headers();
    let is_stream = headers.get(header::CONTENT_TYPE).is_some_and(is_event_stream);
    // Bytes of another coding are not ours to continue, and a declared length is a promise.
    if !is_stream || headers.contains_key(header::CONTENT_ENCODING) || headers.contains_key(header::CONTENT_LENGTH) {
        return response;
    }
    response.map(|body| {
        Body::boxed(Listening {
            body,
            drained: Box::pin(drain.cancelled_owned()),
            between: Between::Events,
            is_over: false,
        })
    })
}

fn is_event_stream(value: &HeaderValue) -> bool {
    let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("text/event-stream")
}

#[derive(Debug)]
struct Listening {
    body: Body,
    drained: Pin<Box<WaitForCancellationFutureOwned>>,
    between: Between,
    is_over: bool,
}

/// What the last byte of the stream was between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    /// Nothing is open: a start, or a blank line.
    Events,
    /// As [`Between::Events`], behind a CR that an LF may belong to.
    EventsAfterCr,
    /// A line has ended, but its event has not.
    Lines,
    /// As [`Between::Lines`], behind a CR that an LF may belong to.
    LinesAfterCr,
    /// Within a line.
    Bytes,
}

impl Between {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::EventsAfterCr, b'\n') => Self::Events,
            (Self::LinesAfterCr, b'\n') => Self::Lines,
            (Self::Bytes, b'\n') => Self::Lines,
            (Self::Bytes, b'\r') => Self::LinesAfterCr,
            (_, b'\n') => Self::Events,
            (_, b'\r') => Self::EventsAfterCr,
            _ => Self::Bytes,
        }
    }

    /// Behind `chunk`. Only its last bytes tell: from the last line's beginning on, nothing before matters.
    fn behind(self, chunk: &[u8]) -> Self {
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        match chunk.iter().rposition(|byte| !is_end(byte)) {
            Some(last) => chunk.iter().skip(last + 1).fold(Self::Bytes, |between, &byte| between.after(byte)),
            None => chunk.iter().fold(self, |between, &byte| between.after(byte)),
        }
    }

    fn is_events(self) -> bool {
        matches!(self, Self::Events | Self::EventsAfterCr)
    }
}

impl HttpBody for Listening {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        // What is there already still leaves.
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some(chunk) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
                this.between = this.between.behind(chunk);
            }
            return Poll::Ready(frame);
        }
        if this.drained.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.is_over = true;
        // Dropped now: the upstream sees the listener leave, as it would without us.
        this.body = Body::empty();
        let hint = this.between.is_events().then(|| Ok(Frame::data(Bytes::from_static(COME_BACK))));
        Poll::Ready(hint)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

/// In milliseconds: as long as a restart takes.
const COME_BACK: &[u8] = b"retry: 1000\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundary_is_found_however_the_stream_is_cut() {
        let cases: &[(&[u8], bool)] = &[
            (b"", true),
            (b"\n", true),
            (b": comment", false),
            (b"data: 1\n", false),
            (b"data: 1\n\n", true),
            (b"data: 1\r\n", false),
            (b"data: 1\r\n\r\n", true),
            (b"data: 1\r\n\r", true),
            (b"data: 1\r\r", true),
            (b"data: 1\r", false),
            (b"data: 1\r\ndata: 2", false),
            (b"data: 1\n\ndata: 2", false),
            (b"data: 1\n\n\n\n", true),
        ];
        for (stream, is_boundary) in cases {
            for cut in 0..=stream.len() {
                let (one, other) = stream.split_at(cut);
                let between = Between::Events.behind(one).behind(other);
                assert_eq!(between.is_events(), *is_boundary, "{:?} at {cut}", stream.escape_ascii().to_string());
            }
        }
    }
}
