//! Which way a frame goes, and what is kept from one to the next.

use super::{
    Envelope, EnvelopeError, EnvelopeScan,
    straight::{self, STRAIGHT_LEN},
    tape::TapeParser,
};
use crate::{Limits, PaddedFrame, Span};

/// Reads the envelopes of whole frames. One per worker: it keeps its buffers.
#[derive(Debug)]
pub struct EnvelopeParser {
    limits: Limits,
    strictness: Strictness,
    small_len: usize,
    tape: TapeParser,
    /// Longest frame the tape's buffers have seen since they were new.
    longest: usize,
    scan: EnvelopeScan,
    /// Whether the scan is not at the start of a frame, or still has the elements of the last.
    is_scan_used: bool,
    shrinks: u64,
}

/// How much of a frame is checked; the [module](super) says it precisely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing between them")]
pub enum Strictness {
    /// One value, UTF-8, strings and brackets that end, and the grammar of what is routed on.
    #[default]
    Envelope,
    /// All of JSON's grammar, for every size, at several times the cost for large frames; ordinary ones take
    /// no longer than simd-json would.
    Strict,
}

/// One element of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchElement {
    span: Span,
    envelope: Envelope,
}

impl BatchElement {
    pub(super) const fn new(span: Span, envelope: Envelope) -> Self {
        Self { span, envelope }
    }

    /// Where the element is in the frame.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.span
    }

    /// What the element is. Its spans are relative to the frame, not to the element.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

impl EnvelopeParser {
    /// A parser that holds frames to `limits`. Nothing is allocated until the first frame.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            strictness: Strictness::Envelope,
            small_len: SMALL_LEN,
            tape: TapeParser::new(limits),
            longest: 0,
            scan: EnvelopeScan::without_id(limits),
            is_scan_used: false,
            shrinks: 0,
        }
    }

    /// Sets how much is checked. Default: [`Strictness::Envelope`].
    #[must_use]
    pub fn with_strictness(mut self, strictness: Strictness) -> Self {
        self.strictness = strictness;
        self
    }

    /// Sets the length up to which frames go whole through simd-json, strict or not, whatever other way there is.
    /// What is found does not depend on it, only the time it takes. Default: 0, which was fastest.
    #[must_use]
    pub fn with_small_len(mut self, bytes: usize) -> Self {
        self.small_len = bytes;
        self
    }

    /// The envelope of a frame that is shared or borrowed. It is only read, or copied if it goes through simd-json.
    ///
    /// # Errors
    ///
    /// The first thing wrong with the frame, in its own order.
    pub fn parse(&mut self, frame: &[u8]) -> Result<Envelope, EnvelopeError> {
        self.begin(frame.len())?;
        if let Some(envelope) = self.straight(frame) {
            return Ok(envelope);
        }
        if self.takes_tape(frame.len()) {
            match self.tape.read_copy(frame) {
                Ok(Some(envelope)) => {
                    self.tidy_up(frame.len());
                    return Ok(envelope);
                }
                Err(refused) if self.strictness == Strictness::Strict => return Err(self.refuse(frame, refused.at)),
                _ => {}
            }
        }
        self.scan(frame)
    }

    /// The envelope of a frame that is still ours alone. If it goes through simd-json and holds no backslash, it
    /// is parsed where it lies. Its bytes and the padding are the same afterwards, whatever is returned.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), the same for the same bytes.
    pub fn parse_in_place(&mut self, frame: PaddedFrame<'_>) -> Result<Envelope, EnvelopeError> {
        let len = frame.len();
        self.begin(len)?;
        if let Some(envelope) = self.straight(frame.frame()) {
            return Ok(envelope);
        }
        let (bytes, _) = frame.into_parts();
        if self.takes_tape(len)
            && let Some(frame) = PaddedFrame::new(bytes, len)
        {
            match self.tape.read_in_place(frame) {
                Ok(Some(envelope)) => {
                    self.tidy_up(len);
                    return Ok(envelope);
                }
                Err(refused) if self.strictness == Strictness::Strict => {
                    return Err(self.refuse(bytes.get(..len).unwrap_or_default(), refused.at));
                }
                _ => {}
            }
        }
        self.scan(bytes.get(..len).unwrap_or_default())
    }

    /// The elements of the frame parsed last, if that was a [`Kind::Batch`](super::Kind::Batch).
    #[must_use]
    pub fn elements(&self) -> &[BatchElement] {
        self.scan.elements()
    }

    /// How often the buffers were given back because a frame had made them larger than [`MAX_HELD`].
    #[must_use]
    pub fn shrinks(&self) -> u64 {
        self.shrinks
    }

    /// Bytes kept between frames, as far as they can be known.
    #[must_use]
    pub fn held(&self) -> usize {
        self.tape.held(self.longest) + self.scan.held()
    }

    #[inline]
    fn begin(&mut self, len: usize) -> Result<(), EnvelopeError> {
        if self.is_scan_used {
            self.reset_scan();
        }
        if len > self.limits.max_frame_len() {
            let limit = u32::try_from(self.limits.max_frame_len()).unwrap_or(u32::MAX);
            return Err(EnvelopeError::TooLarge { limit });
        }
        Ok(())
    }

    fn reset_scan(&mut self) {
        self.is_scan_used = false;
        self.scan.reset();
        if self.scan.held() > MAX_HELD {
            // The last frame was a batch beyond all reason, which only a raised limit lets pass.
            self.scan = EnvelopeScan::without_id(self.limits);
            self.shrinks += 1;
        }
    }

    fn takes_tape(&self, len: usize) -> bool {
        len <= self.small_len || self.strictness == Strictness::Strict
    }

    /// The short way, if the frame is one for it.
    #[inline]
    fn straight(&mut self, frame: &[u8]) -> Option<Envelope> {
        // A batch that is too long for it would be read by simd-json and then by the scan.
        let is_short =
            frame.len() <= STRAIGHT_LEN || self.strictness == Strictness::Strict && frame.first() == Some(&b'[');
        if frame.len() <= self.small_len || !is_short {
            return None;
        }
        let elements = self.scan.elements_mut();
        let envelope = match self.strictness {
            Strictness::Envelope => straight::read::<false>(frame, &self.limits, elements),
            Strictness::Strict => straight::read::<true>(frame, &self.limits, elements),
        };
        if !elements.is_empty() {
            self.note_elements(envelope.is_some());
        }
        envelope
    }

    #[inline(never)]
    fn note_elements(&mut self, are_all: bool) {
        self.is_scan_used = true;
        if !are_all {
            self.reset_scan();
        }
    }

    #[inline(never)]
    fn scan(&mut self, frame: &[u8]) -> Result<Envelope, EnvelopeError> {
        self.is_scan_used = true;
        self.scan.feed(frame);
        self.tidy_up(frame.len());
        self.scan.finish()
    }

    /// What the scan finds wrong too is told in its words; the rest in simd-json's.
    #[cold]
    fn refuse(&mut self, frame: &[u8], at: usize) -> EnvelopeError {
        match self.scan(frame) {
            Err(error) => error,
            Ok(_) => EnvelopeError::NotStrict { at: u32::try_from(at).unwrap_or(u32::MAX) },
        }
    }

    #[inline]
    fn tidy_up(&mut self, len: usize) {
        if len > GIVE_BACK_FROM && self.takes_tape(len) {
            self.give_back(len);
        }
    }

    /// One large frame must not cost memory for ever.
    fn give_back(&mut self, len: usize) {
        self.longest = self.longest.max(len);
        if self.tape.held(self.longest) > MAX_HELD {
            self.tape = TapeParser::new(self.limits);
            self.longest = 0;
            self.shrinks += 1;
        }
    }
}

/// Longest frame that goes whole through simd-json first: none, because the short way won at every size measured, 40
/// bytes included, strict or not (docs/benchmarks/envelope.md).
const SMALL_LEN: usize = 0;

/// A shorter frame cannot make a parser hold [`MAX_HELD`]: a tape takes at most 24 bytes for one of the frame's.
const GIVE_BACK_FROM: usize = MAX_HELD / 64;

/// Most bytes a parser keeps between frames.
pub const MAX_HELD: usize = 1 << 20;
