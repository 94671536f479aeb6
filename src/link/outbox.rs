//! What one writer has yet to write: whole frames with their line ends, as shared slices.
//!
//! Neighbouring frames that lie in one block with just an LF between them are one slice, and all slices
//! leave in as few writes as the system allows. Nothing is copied.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use shadowcat_codecs::{
    FrameBatch,
    line::{LINE_END, LineRuns},
};

use crate::{
    transport::Writer,
    verify::{Check, Edit, Seen},
};

/// A writer and its queue. The queue is bounded by who fills it: a link reads no more from one side while
/// this holds what came from there.
#[derive(Debug)]
pub(super) struct Outbox {
    /// `None` once closed, by us or because the reader is gone.
    writer: Option<Writer>,
    /// Invariant: no slice is empty.
    queue: VecDeque<Bytes>,
    /// Whether everything that was written may still be on its way through a helper thread.
    unflushed: bool,
    /// Bytes of our own messages queued since the queue was last empty.
    own_len: usize,
    /// With `--verify`.
    check: Option<Box<Check>>,
    /// Bytes that were ever written.
    taken: u64,
}

impl Outbox {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer: Some(writer), queue: VecDeque::new(), unflushed: false, own_len: 0, check: None, taken: 0 }
    }

    /// The outbox, with what leaves held against what came in.
    pub(super) fn checked(self, check: Option<Box<Check>>) -> Self {
        Self { check, ..self }
    }

    /// A frame as it came in, if it is looked at.
    pub(super) fn seen(&self, frame: &[u8]) -> Option<Seen> {
        self.check.as_ref().map(|check| check.seen(frame))
    }

    /// What was seen is among what is pushed next.
    pub(super) fn enter(&mut self, seen: Option<Seen>) {
        if let (Some(check), Some(seen), true) = (&mut self.check, seen, self.writer.is_some()) {
            check.enter(seen);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.unflushed
    }

    /// How many bytes the reader has ever taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether so many messages of our own wait that their reader must not be able to cause more.
    pub(super) fn is_full_of_replies(&self) -> bool {
        self.own_len >= MAX_OWN_LEN
    }

    /// Queues the frames of `batch`, except those whose index is in `dropped`, which is ascending.
    pub(super) fn push_batch(&mut self, batch: &FrameBatch, dropped: &[usize]) {
        for run in LineRuns::new(batch, dropped) {
            self.push(batch.block().slice(run.range));
            if !run.has_line_end {
                self.push(Bytes::from_static(LINE_END));
            }
        }
    }

    /// Queues one message of our own, without its line end.
    pub(super) fn push_line(&mut self, message: Bytes) {
        if self.writer.is_none() {
            // Nothing would ever take it off the queue.
            return;
        }
        self.own_len += message.len();
        self.enter(self.seen(&message));
        self.push(message);
        self.push(Bytes::from_static(LINE_END));
    }

    /// Queues one frame, without its line end, as the pieces it consists of.
    pub(super) fn push_frame(&mut self, pieces: impl IntoIterator<Item = Bytes>) {
        for piece in pieces {
            self.push(piece);
        }
        self.push(Bytes::from_static(LINE_END));
    }

    /// Whether what leaves is held against what came in.
    pub(super) fn is_checked(&self) -> bool {
        self.check.is_some()
    }

    /// As [`push_frame`](Self::push_frame), of a frame into which `edits` were put; if nobody has seen it before, it is
    /// as it is now.
    pub(super) fn push_edited<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a Bytes> + Clone,
        seen: Option<Seen>,
        edits: Vec<Edit>,
    ) {
        if let Some(check) = self.check.as_mut().filter(|_| self.writer.is_some()) {
            let seen = seen.unwrap_or_else(|| {
                let mut whole = check.begin();
                pieces.clone().for_each(|piece| whole.feed(piece));
                whole.seen()
            });
            check.enter(seen);
            check.undo(edits);
        }
        self.push_frame(pieces.cloned());
    }

    /// Writes until everything is written, or there is no room.
    ///
    /// # Errors
    ///
    /// What the system says; the outbox is closed and empty then. A reader that is gone is an error of kind
    /// `BrokenPipe`.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.poll_write_all(cx));
        if flushed.is_err() {
            self.close();
        }
        Poll::Ready(flushed)
    }

    /// Ready when the reader is gone, also when nothing is being written.
    pub(super) fn poll_reader_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.writer {
            Some(writer) => writer.poll_reader_gone(cx),
            None => Poll::Pending,
        }
    }

    /// Closes the writer, which is the end of the stream for its reader; what is still queued is dropped.
    pub(super) fn close(&mut self) {
        self.writer = None;
        self.queue.clear();
        self.unflushed = false;
        self.own_len = 0;
        if let Some(check) = &mut self.check {
            check.forget();
        }
    }

    fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() && self.writer.is_some() {
            if let Some(check) = &mut self.check {
                check.queue(slice.len());
            }
            self.queue.push_back(slice);
        }
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(writer) = &mut self.writer else { return Poll::Ready(Ok(())) };
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slot, slice) in slices.iter_mut().zip(&self.queue) {
                *slot = IoSlice::new(slice);
                count += 1;
            }
            let written = ready!(writer.poll_write(cx, slices.get(..count).unwrap_or_default()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.taken += written as u64;
            if let Some(check) = &mut self.check {
                leave(check, &self.queue, written);
            }
            advance(&mut self.queue, written);
        }
        if let Some(check) = self.check.as_mut().filter(|_| self.unflushed) {
            check.settle();
        }
        if self.unflushed {
            ready!(writer.poll_flush(cx))?;
            self.unflushed = false;
        }
        self.own_len = 0;
        Poll::Ready(Ok(()))
    }
}

fn leave(check: &mut Check, queue: &VecDeque<Bytes>, mut written: usize) {
    for slice in queue {
        let taken = slice.get(..written).unwrap_or(slice);
        check.leave(taken);
        written -= taken.len();
        if written == 0 {
            return;
        }
    }
}

fn advance(queue: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = queue.front_mut() {
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        queue.pop_front();
    }
}

/// Most slices of one write. More would take longer to gather than a second call.
const MAX_SLICES: usize = 64;

/// Most bytes of our own messages that wait for a reader before nothing more is read from it.
const MAX_OWN_LEN: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        telemetry::metrics::{
            Metrics,
            labels::{Link, To},
        },
        transport::memory,
        verify::Verify,
    };

    /// What leaves, of a frame that came in as `seen`, and how many differences were found.
    fn checked(seen: &str, leaves: &'static str) -> u64 {
        let (verify, metrics, place) = (Verify::on().unwrap(), Metrics::default(), (Link::Pipe, To::Server));
        let (ours, _theirs) = memory::pair(1024);
        let mut outbox = Outbox::new(ours.writer).checked(verify.check(&metrics, place.0, place.1));
        for _ in 0..2 {
            outbox.enter(outbox.seen(seen.as_bytes()));
            outbox.push_frame([Bytes::from_static(leaves.as_bytes())]);
        }
        outbox.push_line(Bytes::from_static(b"of our own"));
        let flushed = outbox.poll_flush(&mut Context::from_waker(std::task::Waker::noop()));
        assert!(matches!(flushed, Poll::Ready(Ok(()))));
        assert_eq!(metrics.verify_frames.of(place), 3);
        metrics.verify_mismatches.of(place)
    }

    #[test]
    fn an_altered_byte_is_found_where_it_leaves() {
        assert_eq!(checked("{\"a\":1}", "{\"a\":1}"), 0);
        assert_eq!(checked("{\"a\":1}", "{\"a\":2}"), 1);
        assert_eq!(checked("{\"a\":1}", "{\"a\":\n1}"), 2, "one message became two, twice");
    }

    #[test]
    fn partial_writes_lose_nothing() {
        let mut queue: VecDeque<Bytes> = [&b"abc"[..], b"d", b"efgh"].map(Bytes::from_static).into();
        advance(&mut queue, 2);
        assert_eq!(queue, [&b"c"[..], b"d", b"efgh"]);
        advance(&mut queue, 3);
        assert_eq!(queue, [&b"fgh"[..]]);
        advance(&mut queue, 3);
        assert!(queue.is_empty());
    }
}
