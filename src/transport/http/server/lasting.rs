//! A response that lasts: the stream on which a client listens, while nothing is there to be sent.
//!
//! hyper holds a buffer each way for it, as for any other, and that for hours. So it gives it back as soon as its head
//! is sent and its body pauses: what is left of it is written here, piece by piece as chunks (RFC 9112, 7.1), as hyper
//! writes them, and holds no more than what waits to be taken.
//!
//! ```text
//!   hyper ──(head sent, body pauses)──► here ──(last chunk)──► the socket alone, as behind any other response
//! ```

use std::{
    collections::VecDeque,
    fmt::Write as _,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version, header, request::Parts};
use http_body::Body as _;
use tokio::io::AsyncWrite as _;

use super::{
    super::{Body, BodyError, Response},
    exchange::Leaving,
    patience::Patient,
};

/// What is on its way of a response.
#[derive(Debug, Default)]
struct Outgoing {
    /// What was not taken yet, the front first.
    slices: VecDeque<Bytes>,
    is_flushed: bool,
    /// Set behind the last piece: how the body has ended.
    end: Option<Result<(), BodyError>>,
}

/// Whether the answer to a request may be one that lasts: nobody waits for the rest of what was asked, and the
/// connection goes on behind it.
pub(super) fn may_last(request: &Parts) -> bool {
    request.method == Method::GET && request.version == Version::HTTP_11 && goes_on(&request.headers)
}

/// Whether it is one: sent in chunks, for as long as there are any.
pub(super) fn lasts(response: &Response) -> bool {
    let is_framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER, header::UPGRADE]
        .iter()
        .any(|name| response.headers().contains_key(name));
    let is_plain = response.status() == StatusCode::OK && response.version() == Version::HTTP_11 && !is_framed;
    let body: &Body = response.body();
    is_plain && goes_on(response.headers()) && !body.is_end_stream() && body.size_hint().exact().is_none()
}

/// Whether these headers say nothing else than that the connection is kept.
fn goes_on(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
}

/// Sends the rest of `response`. Returns what the client has sent meanwhile, `ahead` first, which begins a request.
///
/// # Errors
///
/// If the client left, takes nothing for too long, or the body breaks off: the connection is to be closed then.
///
/// # Cancel safety
///
/// Dropping the future loses what is on its way: the connection is to be closed then.
pub(super) async fn send(io: &mut Patient, mut response: Leaving, mut ahead: Bytes) -> io::Result<Bytes> {
    if ahead.is_empty() {
        // Its block goes too.
        ahead = Bytes::new();
    }
    let mut outgoing = Outgoing { is_flushed: true, ..Outgoing::default() };
    poll_fn(|cx| {
        if let Poll::Ready(sent) = outgoing.poll(io, &mut response, cx) {
            return Poll::Ready(sent);
        }
        // As long as nothing has come: what begins a request waits for its turn.
        while ahead.is_empty() {
            ahead = ready!(io.poll_begun(cx))?;
            if ahead.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Pending
    })
    .await?;
    Ok(ahead)
}

impl Outgoing {
    /// Ready when all is sent.
    fn poll(&mut self, io: &mut Patient, response: &mut Leaving, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.slices.is_empty() {
                let written = ready!(self.poll_write(io, cx))?;
                advance(&mut self.slices, written);
            }
            if !self.is_flushed {
                ready!(Pin::new(&mut *io).poll_flush(cx))?;
                self.is_flushed = true;
            }
            if let Some(end) = self.end.take() {
                return Poll::Ready(end.map_err(io::Error::other));
            }
            self.take(response, cx);
            if self.slices.is_empty() && self.end.is_none() {
                self.slices = VecDeque::new();
                return Poll::Pending;
            }
        }
    }

    fn poll_write(&mut self, io: &mut Patient, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        for (slot, slice) in slices.iter_mut().zip(&self.slices) {
            *slot = IoSlice::new(slice);
            count += 1;
        }
        self.is_flushed = false;
        let written = ready!(Pin::new(io).poll_write_vectored(cx, slices.get(..count).unwrap_or_default()))?;
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    /// Takes from the body what is there, to leave in one write.
    fn take(&mut self, response: &mut Leaving, cx: &mut Context<'_>) {
        let mut heads = BytesMut::new();
        while self.slices.len() + 4 <= MAX_SLICES {
            match Pin::new(&mut *response).poll_frame(cx) {
                // Trailers were not announced, so they are not sent.
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) if !piece.is_empty() => self.push(piece, &mut heads),
                    _ => {}
                },
                Poll::Ready(Some(Err(error))) => {
                    self.end = Some(Err(error));
                    return;
                }
                Poll::Ready(None) => {
                    self.slices.push_back(Bytes::from_static(LAST));
                    self.end = Some(Ok(()));
                    return;
                }
                Poll::Pending => return,
            }
        }
    }

    /// A chunk, whose length is written in `heads`.
    fn push(&mut self, piece: Bytes, heads: &mut BytesMut) {
        // Writing into a buffer that grows cannot fail.
        let _ = write!(heads, "{:X}\r\n", piece.len());
        self.slices.extend([heads.split().freeze(), piece, Bytes::from_static(b"\r\n")]);
    }
}

fn advance(slices: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = slices.front_mut() {
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        slices.pop_front();
    }
}

/// Most slices of one write: a few chunks of three each.
const MAX_SLICES: usize = 32;
const LAST: &[u8] = b"0\r\n\r\n";
