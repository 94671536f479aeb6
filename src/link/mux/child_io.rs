//! A child's two streams: frames out of its stdout, lines into its stdin.
//!
//! Each frame is handed over with its envelope; what it means is for the caller.

use std::{
    io,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use shadowcat_codecs::{
    Limits,
    envelope::{BatchElement, Envelope, EnvelopeParser, IdClass, Kind},
};

use super::pieces::Pieces;
use crate::{
    budget::{Allowance, Toward},
    clock,
    link::{
        intake::{Intake, Unread},
        outbox::Outbox,
        refused::{Oversized, Refused},
    },
    session::{Reason, RequestId},
    telemetry::metrics::{
        Metrics,
        labels::{Link, To},
    },
    transport::{Reader, Writer},
    verify::{Seen, Verify},
};

/// A child's stdin and stdout.
#[derive(Debug)]
pub(super) struct ChildIo {
    intake: Intake,
    outbox: Outbox,
    parser: EnvelopeParser,
    limits: Limits,
    oversized: Oversized,
    verify: Verify,
    /// Bytes queued since the outbox was last empty.
    queued: usize,
    /// Whether the child reads no more.
    is_gone: bool,
    /// Whether something that was pushed will never be written.
    has_lost: bool,
    /// When the child was last read from.
    read_at: Instant,
}

/// What the child said.
#[derive(Debug)]
pub(super) enum Said {
    /// A message.
    Message { frame: Bytes, envelope: Envelope, elements: Vec<BatchElement>, seen: Option<Seen> },
    /// Something that cannot be passed on; the error is for whoever waits for the answer with this id.
    Refused { kind: Kind, id: RequestId, reason: Reason },
    /// Something that is no message.
    Noise,
}

impl Said {
    /// With `--verify`: a message as it came in.
    pub(super) fn came(&self) -> Option<(Bytes, Seen)> {
        match self {
            Self::Message { frame, seen: Some(seen), .. } => Some((frame.clone(), *seen)),
            _ => None,
        }
    }
}

impl ChildIo {
    pub(super) fn new(stdin: Writer, stdout: Reader, limits: Limits, allowance: &Allowance) -> Self {
        Self {
            intake: Intake::new(stdout, limits, allowance, Toward::Client),
            outbox: Outbox::new(stdin),
            parser: EnvelopeParser::new(limits),
            limits,
            oversized: Oversized::default(),
            verify: Verify::default(),
            queued: 0,
            is_gone: false,
            has_lost: false,
            read_at: clock::now().into_std(),
        }
    }

    /// What is written is held against what came in, if `verify` says so, and what is read is looked at for the same.
    pub(super) fn verified(self, verify: Verify, metrics: &Metrics) -> Self {
        Self { outbox: self.outbox.checked(verify.check(metrics, Link::Mux, To::Server)), verify, ..self }
    }

    /// Queues one message for the child, without its line end.
    pub(super) fn push(&mut self, pieces: &Pieces) {
        let edits = if self.outbox.is_checked() { pieces.edits() } else { Vec::new() };
        self.outbox.push_edited(pieces.iter(), pieces.seen(), edits);
        self.queued += pieces.len();
    }

    /// Queues one message of our own, which the child caused.
    pub(super) fn push_own(&mut self, message: Bytes) {
        self.outbox.push_line(message);
    }

    /// Whether so many messages of our own wait for the child that it must not be able to cause more.
    pub(super) fn is_full_of_replies(&self) -> bool {
        self.outbox.is_full_of_replies()
    }

    /// Whether the child has taken so little of what it was written that nobody may write more.
    pub(super) fn is_backed_up(&self) -> bool {
        self.queued >= MAX_QUEUED
    }

    /// Whether something waits for the child to read it.
    pub(super) fn is_blocked(&self) -> bool {
        !self.is_gone && !self.outbox.is_empty()
    }

    /// How many bytes the child has ever taken.
    pub(super) fn taken(&self) -> u64 {
        self.outbox.taken()
    }

    /// Whether everything that was pushed has been written.
    pub(super) fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && !self.has_lost
    }

    /// Ends the child's input. What it has not read by now it will not.
    pub(super) fn close(&mut self) {
        self.has_lost |= !self.outbox.is_empty();
        self.outbox.close();
        self.queued = 0;
    }

    /// When the child was last read from.
    pub(super) fn read_at(&self) -> Instant {
        self.read_at
    }

    /// Whether the child's stdout has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.intake.has_ended()
    }

    /// Reads no more of a stdout that somebody else holds open.
    pub(super) fn abandon(&mut self) {
        self.intake.abandon();
    }

    /// Writes what is queued. Ready when something changed: all was written, or the child reads no more,
    /// which is said once.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_gone {
            return Poll::Pending;
        }
        let had = !self.outbox.is_empty();
        match self.outbox.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.queued = 0;
                if had {
                    return Poll::Ready(Ok(()));
                }
            }
            Poll::Ready(Err(error)) => {
                (self.is_gone, self.has_lost) = (true, true);
                return Poll::Ready(Err(error));
            }
            Poll::Pending => {}
        }
        if self.outbox.poll_reader_gone(cx).is_ready() {
            self.is_gone = true;
            self.close();
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Pending
    }

    /// Reads once, and appends what the child said to `said`. Must not be called after the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, said: &mut Vec<Said>) -> Poll<()> {
        match self.intake.poll_read(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => tracing::warn!(%error, "reading from the server failed; taken as its end"),
        }
        self.read_at = clock::now().into_std();
        loop {
            self.observe_oversized(said);
            match self.take_batch(said) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(()),
                Err(error) => self.skip(error),
            }
        }
    }

    fn take_batch(&mut self, said: &mut Vec<Said>) -> Result<bool, Unread> {
        let Self { intake, parser, limits, verify, .. } = self;
        let Some(mut open) = intake.next_batch()? else { return Ok(false) };
        let mut envelopes = Vec::with_capacity(open.len());
        for index in 0..open.len() {
            // Before anything looks at it that could change it.
            let seen = open.get(index).and_then(|frame| verify.blanked(frame));
            let Some(padded) = open.padded(index) else { continue };
            match parser.parse_in_place(padded) {
                Ok(envelope) => envelopes.push((index, envelope, elements_copy(parser), seen)),
                Err(error) => {
                    let (frame, at) = (open.get(index).unwrap_or_default(), open.at());
                    // A banner or a log line: nobody's fault, and nobody's answer (rule E7).
                    tracing::warn!(from = "server", at, len = frame.len(), %error, "not a message that can be passed on; kept back");
                    said.push(Said::Noise);
                    if !error.is_syntax() {
                        said.extend(refused(&Refused::new(*limits, frame, error.to_string())));
                    }
                }
            }
        }
        let batch = open.freeze();
        // Frames go their own ways, and may still be on them when more is read.
        let block = intake.charged(&batch);
        said.extend(envelopes.into_iter().filter_map(|(index, envelope, elements, seen)| {
            let span = batch.spans().get(index)?;
            Some(Said::Message { frame: block.slice(span.start()..span.end()), envelope, elements, seen })
        }));
        intake.recycle(batch);
        Ok(true)
    }

    #[cold]
    fn skip(&mut self, error: Unread) {
        tracing::warn!(from = "server", %error, "message skipped");
        if let Some(reason) = error.reason() {
            self.oversized.start(self.limits, reason);
        }
    }

    fn observe_oversized(&mut self, said: &mut Vec<Said>) {
        let (skipped, ended) = self.intake.skipped();
        if let Some(known) = self.oversized.observe(skipped, ended) {
            said.extend(refused(&known));
        }
    }
}

/// Where the elements of a batch are, as they are handed to another task; nothing for any other message.
#[expect(clippy::disallowed_methods, reason = "this is the named copy")]
pub(super) fn elements_copy(parser: &EnvelopeParser) -> Vec<BatchElement> {
    parser.elements().to_vec()
}

fn refused(refused: &Refused) -> Option<Said> {
    match refused.who()? {
        (kind, id, IdClass::Number | IdClass::String) => {
            Some(Said::Refused { kind, id: RequestId::new(id), reason: refused.reason().clone() })
        }
        _ => None,
    }
}

/// Most bytes that wait for a child to read them before nobody may add to them; one message more may wait.
const MAX_QUEUED: usize = 256 << 10;
