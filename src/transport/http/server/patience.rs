//! How long a connection is waited for: one that starts a request and never ends it, one that has none, and
//! one that takes nothing.
//!
//! hyper's own limit on headers also runs while a connection idles, and would close it under a client that
//! is about to use it. So the limits are kept here, below hyper, by what the connection is at:
//!
//! ```text
//!   accepted ──► Head ──(request handed on)──► Busy ──(response written)──► Idle, Quiet ──(a byte)──► Head
//!            header_timeout                 no limit here                idle_timeout
//! ```
//!
//! What is idle is quiet after a moment, and then holds no more than its socket: see `http1`. `phase` has what a connection
//! can be at.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    super::blocked::Blocked,
    Config,
    connection::MAX_BUFFER_LEN,
    phase::{BUSY, HEAD, IDLE, PAUSED, Phase, QUIET, STILL},
    refusal::Refusal,
    stream::Stream,
};
use crate::{
    budget::{Budget, Charge},
    clock,
    telemetry::metrics::{
        Metrics,
        labels::{Side, TimeoutOf},
    },
};

/// A connection that is not waited for without a bound.
#[derive(Debug)]
pub(super) struct Patient {
    /// Asked for less than [`READ_LEN`] at a time: hyper doubles its read buffer when a read has filled it, and keeps it
    /// while the connection idles.
    stream: Take<Stream>,
    /// What was read already: to tell the protocol, or to know that there is something.
    ahead: Bytes,
    phase: Phase,
    /// What `deadline` is for; with [`BUSY`], and what follows from it, it is for nothing.
    waits_for: u8,
    deadline: Pin<Box<Sleep>>,
    /// Set while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    blocked: Blocked,
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
            blocked: Blocked::new(&config.resources.metrics, config.blocked_of, Side::Client),
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
            write_timeout: config.write_timeout,
            head: HeadRoom { budget: config.resources.budget.clone(), len: 0, charge: None },
            metrics: config.resources.metrics.clone(),
        }
    }

    /// Puts `bytes`, which were read already, in front of what comes. They begin a request.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        // What the head before them took is its own. Without room for theirs, the next read says so.
        self.head.clear();
        let _ = self.head.grows(bytes.len());
        self.ahead = bytes;
        self.phase.set(HEAD);
        self.wait(HEAD);
    }

    /// Waits for a request to begin, without a buffer; `false` at the end of the stream. What it begins with is read
    /// again by who reads next.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop; nothing is lost.
    pub(super) async fn wake(&mut self) -> io::Result<bool> {
        self.ahead = poll_fn(|cx| self.poll_begun(cx)).await?;
        Ok(!self.ahead.is_empty())
    }

    /// What the client begins a request with; nothing at the end of the stream.
    pub(super) fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut block = [const { MaybeUninit::uninit() }; AHEAD_LEN];
        let mut buf = ReadBuf::uninit(&mut block);
        ready!(Pin::new(self).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(kept(buf.filled())))
    }

    fn wait(&mut self, phase: u8) {
        self.waits_for = phase;
        let limit = match phase {
            HEAD => self.header_timeout,
            IDLE => self.idle_timeout.min(QUIET_AFTER),
            QUIET => self.idle_timeout.saturating_sub(QUIET_AFTER),
            _ => return,
        };
        self.deadline.as_mut().reset(clock::now() + limit);
    }

    /// Nothing was there to be read; ready when there has been nothing for too long.
    fn poll_too_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut phase = self.phase.at();
        if phase != self.waits_for {
            self.wait(phase);
        }
        if !Phase::is_limited(phase) {
            return Poll::Pending;
        }
        ready!(self.deadline.as_mut().poll(cx));
        if phase == IDLE {
            // What waits for the client to take it has a limit of its own.
            phase = if self.stalled.is_none() { QUIET } else { IDLE };
            self.phase.set(phase);
            self.wait(phase);
            ready!(self.deadline.as_mut().poll(cx));
        }
        if phase == HEAD {
            self.metrics.timeouts.add((TimeoutOf::Header,), 1);
        }
        if phase == HEAD && self.stalled.is_none() {
            // A courtesy, tried once. Nothing of ours is on its way that it could cut in two.
            let refusal = Refusal::headers_too_late(self.header_timeout).into_bytes();
            let _ = Pin::new(self.stream.get_mut()).poll_write(cx, &refusal);
            let _ = Pin::new(self.stream.get_mut()).poll_flush(cx);
        }
        let what = if phase == HEAD { "the request's headers took too long" } else { "no request for too long" };
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, what))
    }

    /// The outcome of writing, with a limit on how long there is none.
    fn limited<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.blocked.note(&outcome);
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

/// A copy, because the bytes lie on the stack.
fn kept(bytes: &[u8]) -> Bytes {
    BytesMut::from(bytes).freeze()
}

/// How long a connection is idle before it is quiet. One that is in use is not taken apart between two requests.
const QUIET_AFTER: Duration = Duration::from_millis(250);

/// Room for what is read before it is known what it is: most heads in one read.
pub(super) const AHEAD_LEN: usize = 1 << 10;

/// A head that is no longer takes no room beside that of its connection.
pub(super) const FREE_HEAD_LEN: usize = 8 << 10;

/// What hyper's read buffer grows to ("Memory" in ARCHITECTURE.md), but for a head that is longer.
pub(super) const READ_LEN: usize = 16 << 10;

impl AsyncRead for Patient {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let len = this.ahead.len().min(buf.remaining());
            buf.put_slice(this.ahead.get(..len).unwrap_or_default());
            this.ahead.advance(len);
            if this.ahead.is_empty() {
                // Its block goes too.
                this.ahead = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        this.phase.has_ended();
        let filled = buf.filled().len();
        this.stream.set_limit(READ_LEN as u64 - 1);
        let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) else {
            return this.poll_too_late(cx).map(Err);
        };
        let len = buf.filled().len() - filled;
        let has_come = len > 0;
        if has_come && matches!(this.phase.at(), IDLE | QUIET) {
            this.phase.set(HEAD);
            // What the heads before it took is theirs: a connection may be kept for many of them.
            this.head.clear();
            // Its time begins when hyper asks for more, which is now, unless the whole head is here: then it needs none,
            // and what comes behind it must not find a deadline that was for something else.
            this.waits_for = BUSY;
        }
        if this.phase.at() != HEAD {
            this.head.clear();
        } else if !this.head.grows(len) {
            let total = this.head.budget.total();
            let _ = Pin::new(this.stream.get_mut()).poll_write(cx, &Refusal::no_room(total).into_bytes());
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
        if flushed.is_ready() && this.phase.at() == PAUSED {
            // hyper flushes when it has written all.
            this.phase.set(STILL);
        }
        this.limited(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(this.stream.get_mut()).poll_shutdown(cx);
        this.limited(cx, shut)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::UnixStream};

    use super::*;

    #[tokio::test]
    async fn a_head_behind_another_takes_room_for_itself_alone() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (config, phase) = (Config::default(), Phase::new());
        let (budget, due) = (&config.resources.budget, clock::now() + config.header_timeout);
        let mut patient = Patient::new(Stream::Unix(near), Bytes::new(), due, phase.clone(), &config);
        let mut read = vec![0; FREE_HEAD_LEN];
        far.write_all(&read).await.unwrap();
        patient.read_exact(&mut read).await.unwrap();
        assert_eq!(budget.held(), 0, "a head of ordinary length");
        drop(phase.run());
        patient.unread(Bytes::from_static(b"POST"));
        patient.read_exact(read.get_mut(..4).unwrap()).await.unwrap();
        far.write_all(b" ").await.unwrap();
        patient.read_exact(read.get_mut(..1).unwrap()).await.unwrap();
        assert_eq!(budget.held(), 0, "what was before it is not its own");
        far.write_all(&read).await.unwrap();
        patient.read_exact(&mut read).await.unwrap();
        assert_eq!(budget.held(), MAX_BUFFER_LEN, "what was read of it before is");
    }
}
