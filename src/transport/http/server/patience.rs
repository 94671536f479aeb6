//! How long a connection is waited for: one that starts a request and never ends it, one that has none, and
//! one that takes nothing.
//!
//! hyper's own limit on headers also runs while a connection idles, and would close it under a client that
//! is about to use it. So the limits are kept here, below hyper, by what the connection is at:
//!
//! ```text
//!   accepted ──► Head ──(request handed on)──► Busy ──(response written)──► Idle ──(a byte)──► Head
//!            header_timeout                 no limit here             idle_timeout
//! ```

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take},
    time::{Instant, Sleep, sleep_until},
};

use super::{Config, connection::MAX_BUFFER_LEN, stream::Stream};
use crate::{
    budget::{Budget, Charge},
    clock,
    telemetry::metrics::{Metrics, labels::TimeoutOf},
};

/// A connection that is not waited for without a bound.
#[derive(Debug)]
pub(super) struct Patient {
    /// Asked for less than [`READ_LEN`] at a time: hyper doubles its read buffer when a read has filled it, and keeps it
    /// while the connection idles.
    stream: Take<Stream>,
    /// What was read already to tell the protocol.
    ahead: Bytes,
    phase: Phase,
    /// What `deadline` is for; with [`BUSY`] it is for nothing.
    waits_for: u8,
    deadline: Pin<Box<Sleep>>,
    /// Set while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    header_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    head: HeadRoom,
    metrics: Metrics,
}

/// What a request's head takes while it is not complete. One of ordinary length is part of what a connection has in any
/// case.
#[derive(Debug)]
struct HeadRoom {
    budget: Budget,
    len: usize,
    charge: Option<Charge>,
}

/// What a connection is at, shared with its exchanges.
#[derive(Debug, Clone)]
pub(super) struct Phase(Arc<AtomicU8>);

/// An exchange that runs. When dropped, the connection is idle.
#[derive(Debug)]
pub(super) struct Running(Phase);

const HEAD: u8 = 0;
const BUSY: u8 = 1;
const IDLE: u8 = 2;

impl Phase {
    /// Of a new connection, which owes us a request.
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(HEAD)))
    }

    /// From now on the connection is waited for without a limit on what it sends.
    pub(super) fn trust(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    pub(super) fn run(&self) -> Running {
        self.trust();
        Running(self.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.store(IDLE, Ordering::Relaxed);
    }
}

impl Patient {
    /// `ahead` was read from `stream` already; the rest of its request's head is due at `deadline`.
    pub(super) fn new(stream: Stream, ahead: Bytes, deadline: Instant, phase: Phase, config: &Config) -> Self {
        Self {
            stream: stream.take(0),
            ahead,
            phase,
            waits_for: HEAD,
            deadline: Box::pin(sleep_until(deadline)),
            stalled: None,
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
            write_timeout: config.write_timeout,
            head: HeadRoom { budget: config.resources.budget.clone(), len: 0, charge: None },
            metrics: config.resources.metrics.clone(),
        }
    }

    fn wait(&mut self, phase: u8) {
        self.waits_for = phase;
        let limit = match phase {
            HEAD => self.header_timeout,
            IDLE => self.idle_timeout,
            _ => return,
        };
        self.deadline.as_mut().reset(clock::now() + limit);
    }

    /// Nothing was there to be read; ready when there has been nothing for too long.
    fn poll_too_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let phase = self.phase.0.load(Ordering::Relaxed);
        if phase != self.waits_for {
            self.wait(phase);
        }
        if phase == BUSY {
            return Poll::Pending;
        }
        ready!(self.deadline.as_mut().poll(cx));
        if phase == HEAD {
            self.metrics.timeouts.add((TimeoutOf::Header,), 1);
        }
        if phase == HEAD && self.stalled.is_none() {
            // A courtesy, tried once. Nothing of ours is on its way that it could cut in two.
            let _ = Pin::new(self.stream.get_mut()).poll_write(cx, REQUEST_TIMEOUT);
            let _ = Pin::new(self.stream.get_mut()).poll_flush(cx);
        }
        let what = if phase == HEAD { "the request's headers took too long" } else { "no request for too long" };
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, what))
    }

    /// The outcome of writing, with a limit on how long there is none.
    fn limited<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let due = clock::now() + self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(due)));
        ready!(stalled.as_mut().poll(cx));
        self.metrics.timeouts.add((TimeoutOf::Write,), 1);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client took nothing for too long")))
    }
}

impl HeadRoom {
    /// Whether there is room for `len` bytes more.
    fn grows(&mut self, len: usize) -> bool {
        self.len += len;
        if self.len > FREE_HEAD_LEN && self.charge.is_none() {
            self.charge = self.budget.try_take(MAX_BUFFER_LEN);
        }
        self.len <= FREE_HEAD_LEN || self.charge.is_some()
    }

    fn clear(&mut self) {
        (self.len, self.charge) = (0, None);
    }
}

/// A head that is no longer takes no room beside that of its connection.
const FREE_HEAD_LEN: usize = 8 << 10;

/// What a client is told whose headers find no room. In `Retry-After`, seconds.
const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n";

/// What hyper's read buffer grows to ("Memory" in ARCHITECTURE.md), but for a head that is longer.
pub(super) const READ_LEN: usize = 16 << 10;

/// What a client is told that does not end its headers.
pub(super) const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

impl AsyncRead for Patient {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let len = this.ahead.len().min(buf.remaining());
            buf.put_slice(this.ahead.get(..len).unwrap_or_default());
            this.ahead.advance(len);
            return Poll::Ready(Ok(()));
        }
        let filled = buf.filled().len();
        this.stream.set_limit(READ_LEN as u64 - 1);
        let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) else {
            return this.poll_too_late(cx).map(Err);
        };
        let len = buf.filled().len() - filled;
        let has_come = len > 0;
        if has_come && this.phase.0.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            this.wait(HEAD);
        }
        if this.phase.0.load(Ordering::Relaxed) != HEAD {
            this.head.clear();
        } else if !this.head.grows(len) {
            let _ = Pin::new(this.stream.get_mut()).poll_write(cx, NO_ROOM);
            let total = this.head.budget.total();
            let what = format!("no room for the request's headers: the memory budget of {total} bytes is used up");
            return Poll::Ready(Err(io::Error::other(what)));
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.stream.get_mut()).poll_write(cx, bytes);
        this.limited(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.stream.get_mut()).poll_write_vectored(cx, slices);
        this.limited(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(this.stream.get_mut()).poll_flush(cx);
        this.limited(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(this.stream.get_mut()).poll_shutdown(cx);
        this.limited(cx, shut)
    }
}
