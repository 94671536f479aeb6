//! `--verify`: whether what leaves is what came in, by keyed hashes of whole frames.
//!
//! A frame is hashed when it is found, before anything else looks at it, and again from the bytes that a writer
//! has taken, cut into frames anew. The two are added up apart, so that order is of no account, and compared
//! whenever everything that was queued has left: then the sums must be equal. What is not passed on is never
//! added; what is written in its place is, as if it had come in.
//!
//! What only bridges change is undone before hashing: raw CR and LF between tokens count as spaces
//! (`Verify::blanked`), and for what was spliced in, what was there before (`Edit`). A difference is counted and logged with lengths and offsets, never with a payload. This finds faults
//! of ours, not attacks: a hash of 64 bits is enough for the one, and no promise against the other.

use std::{collections::VecDeque, fmt, hash::Hasher as _};

use bytes::Bytes;
use twox_hash::{XxHash3_64, xxhash3_64};

use crate::telemetry::metrics::{
    Metrics,
    labels::{Link, To},
};

/// Whether to look, and the key to hash with. Off by default.
#[derive(Clone, Copy, Default)]
pub struct Verify {
    key: Option<u64>,
}

/// One direction of one session.
#[derive(Debug)]
pub(crate) struct Check {
    key: u64,
    entered: Sum,
    left: Sum,
    /// The line of which the last write left a part behind.
    cut: Option<Box<Cut>>,
    /// Bytes that have left, and had when the sums were last equal.
    offset: u64,
    equal_at: u64,
    /// Bytes that were queued.
    queued: u64,
    /// What is to be undone, by where it leaves. Invariant: ascending and disjoint.
    edits: VecDeque<Edit>,
    metrics: Metrics,
    place: (Link, To),
}

/// Bytes put into a frame, and those they stand for.
#[derive(Debug)]
pub(crate) struct Edit {
    /// Where they begin in what leaves.
    pub(crate) at: u64,
    pub(crate) with: Bytes,
    /// Invariant: holds no line end.
    pub(crate) gone: Bytes,
}

/// One body that passes as it is.
#[derive(Debug)]
pub(crate) struct Through {
    entered: Entered,
    left: Cut,
    is_settled: bool,
    metrics: Metrics,
    place: (Link, To),
}

/// What came in of a body.
#[derive(Debug)]
enum Entered {
    InPieces(Box<Cut>),
    Whole(Seen),
}

/// A frame as it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    hash: u64,
    len: u64,
}

/// Frames added up, in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    frames: u64,
    bytes: u64,
    hashes: u64,
}

/// A frame, as far as it was seen.
pub(crate) struct Cut {
    hasher: xxhash3_64::Hasher,
    len: u64,
}

impl Verify {
    /// Looks, with a key that no peer can know.
    ///
    /// # Errors
    ///
    /// If the operating system gives no random bytes.
    pub fn on() -> Result<Self, getrandom::Error> {
        Ok(Self { key: Some(getrandom::u64()?) })
    }

    /// What to check one direction of a session with; `None` if nothing is to be looked at.
    pub(crate) fn check(self, metrics: &Metrics, link: Link, to: To) -> Option<Box<Check>> {
        let key = self.key?;
        let metrics = metrics.clone();
        let (entered, left) = <(Sum, Sum)>::default();
        let (offset, equal_at, queued, edits) = (0, 0, 0, VecDeque::new());
        let place = (link, to);
        Some(Box::new(Check { key, entered, left, cut: None, offset, equal_at, queued, edits, metrics, place }))
    }

    /// What to check one body with that passes as it is, in whatever pieces; `None` if nothing is to be looked at.
    pub(crate) fn through(self, metrics: &Metrics, link: Link, to: To) -> Option<Box<Through>> {
        let key = self.key?;
        let (entered, left) = (Entered::InPieces(Box::new(Cut::new(key))), Cut::new(key));
        Some(Box::new(Through { entered, left, is_settled: false, metrics: metrics.clone(), place: (link, to) }))
    }

    /// As [`through`](Self::through), for what was seen when it came in.
    pub(crate) fn outward(self, metrics: &Metrics, link: Link, to: To, seen: Seen) -> Option<Box<Through>> {
        let (entered, left) = (Entered::Whole(seen), Cut::new(self.key?));
        Some(Box::new(Through { entered, left, is_settled: false, metrics: metrics.clone(), place: (link, to) }))
    }

    /// A frame as it comes in; `None` if nothing is to be looked at.
    pub(crate) fn seen(self, frame: &[u8]) -> Option<Seen> {
        Some(Seen::new(self.key?, frame))
    }

    /// A frame that comes in and has to leave as one line: raw line ends in it, which JSON has only between tokens,
    /// leave as spaces.
    pub(crate) fn blanked(self, frame: &[u8]) -> Option<Seen> {
        let key = self.key?;
        let Some(first) = memchr::memchr2(b'\r', b'\n', frame) else { return Some(Seen::new(key, frame)) };
        let (mut hasher, mut rest, mut at) = (xxhash3_64::Hasher::with_seed(key), frame, first);
        while let Some((before, behind)) = rest.split_at_checked(at) {
            hasher.write(before);
            hasher.write(b" ");
            rest = behind.get(1..).unwrap_or_default();
            let Some(next) = memchr::memchr2(b'\r', b'\n', rest) else { break };
            at = next;
        }
        hasher.write(rest);
        Some(Seen { hash: hasher.finish(), len: frame.len() as u64 })
    }
}

impl Seen {
    fn new(key: u64, frame: &[u8]) -> Self {
        Self { hash: XxHash3_64::oneshot_with_seed(key, frame), len: frame.len() as u64 }
    }
}

impl Check {
    /// Looks at a frame as it came in.
    pub(crate) fn seen(&self, frame: &[u8]) -> Seen {
        Seen::new(self.key, frame)
    }

    /// A frame that is seen in pieces.
    pub(crate) fn begin(&self) -> Cut {
        Cut::new(self.key)
    }

    /// The frame is to leave.
    pub(crate) fn enter(&mut self, seen: Seen) {
        self.entered.add(seen);
    }

    /// So many bytes wait for the writer behind all others.
    pub(crate) fn queue(&mut self, len: usize) {
        self.queued += len as u64;
    }

    /// In what is queued next, from its first byte on, this is to be undone.
    pub(crate) fn undo(&mut self, edits: impl IntoIterator<Item = Edit>) {
        let from = self.queued;
        self.edits.extend(edits.into_iter().map(|edit| Edit { at: from + edit.at, ..edit }));
    }

    /// One frame, as it came in and as it leaves, in pieces whose line ends count as spaces.
    pub(crate) fn pass<'a>(&mut self, seen: Seen, edits: Vec<Edit>, left: impl IntoIterator<Item = &'a [u8]>) {
        self.queued = self.offset;
        self.undo(edits);
        self.enter(seen);
        for mut rest in left {
            while let Some((before, behind)) =
                memchr::memchr2(b'\r', b'\n', rest).and_then(|at| rest.split_at_checked(at))
            {
                self.leave(before);
                self.leave(b" ");
                rest = behind.get(1..).unwrap_or_default();
            }
            self.leave(rest);
        }
        self.leave(b"\n");
        self.settle();
    }

    /// These bytes were taken by the writer: lines, cut anywhere.
    pub(crate) fn leave(&mut self, mut written: &[u8]) {
        while let Some(edit) = self.edits.front() {
            let before = usize::try_from(edit.at.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            let (plain, rest) = written.split_at(before.min(written.len()));
            self.take(plain);
            let Some(edit) = self.edits.front().filter(|_| !rest.is_empty()) else { return };
            let done = usize::try_from(self.offset - edit.at).unwrap_or(usize::MAX);
            let due = edit.with.get(done..).unwrap_or_default();
            let (found, behind) = rest.split_at(due.len().min(rest.len()));
            let (is_right, is_over) = (due.starts_with(found), found.len() == due.len());
            self.offset += found.len() as u64;
            written = behind;
            if (is_over || !is_right)
                && let Some(Edit { gone, .. }) = self.edits.pop_front()
            {
                // No message holds a NUL: what is not what was put in cannot pass for what was there before.
                let shown = if is_right { &*gone } else { b"\0" };
                let key = self.key;
                self.cut.get_or_insert_with(|| Box::new(Cut::new(key))).feed(shown);
            }
        }
        self.take(written);
    }

    fn take(&mut self, mut written: &[u8]) {
        self.offset += written.len() as u64;
        while let Some(end) = memchr::memchr(b'\n', written) {
            let (line, rest) = written.split_at(end);
            let seen = match self.cut.take() {
                Some(mut cut) => {
                    cut.feed(line);
                    cut.seen()
                }
                None => Seen::new(self.key, line),
            };
            self.left.add(seen);
            written = rest.get(1..).unwrap_or_default();
        }
        if !written.is_empty() {
            let key = self.key;
            self.cut.get_or_insert_with(|| Box::new(Cut::new(key))).feed(written);
        }
    }

    /// Everything that was to leave has left.
    pub(crate) fn settle(&mut self) {
        let (link, to) = self.place;
        let (entered, left) = (std::mem::take(&mut self.entered), std::mem::take(&mut self.left));
        if entered != left || self.cut.is_some() {
            self.cut = None;
            tracing::error!(
                ?link,
                ?to,
                frames_in = entered.frames,
                frames_out = left.frames,
                bytes_in = entered.bytes,
                bytes_out = left.bytes,
                from = self.equal_at,
                until = self.offset,
                "what left is not what came in: this is a fault of the proxy"
            );
            self.metrics.verify_mismatches.add(self.place, entered.frames.abs_diff(left.frames).max(1));
        }
        self.equal_at = self.offset;
        self.metrics.verify_frames.add(self.place, entered.frames);
    }

    /// What has not left by now never will.
    pub(crate) fn forget(&mut self) {
        (self.entered, self.left, self.cut) = (Sum::default(), Sum::default(), None);
        self.edits.clear();
    }
}

impl Through {
    /// These bytes came in.
    pub(crate) fn enter(&mut self, piece: &[u8]) {
        if let Entered::InPieces(cut) = &mut self.entered {
            cut.feed(piece);
        }
    }

    /// These bytes leave.
    pub(crate) fn leave(&mut self, piece: &[u8]) {
        self.left.feed(piece);
    }

    /// The body has ended as it should. Only the first call counts.
    pub(crate) fn settle(&mut self) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let entered = match &self.entered {
            Entered::InPieces(cut) => cut.seen(),
            Entered::Whole(seen) => *seen,
        };
        let ((link, to), left) = (self.place, self.left.seen());
        if entered != left {
            tracing::error!(
                ?link,
                ?to,
                bytes_in = entered.len,
                bytes_out = left.len,
                "what left is not what came in: this is a fault of the proxy"
            );
            self.metrics.verify_mismatches.add(self.place, 1);
        }
        self.metrics.verify_frames.add(self.place, 1);
    }
}

impl Sum {
    fn add(&mut self, seen: Seen) {
        self.frames += 1;
        self.bytes += seen.len;
        self.hashes = self.hashes.wrapping_add(seen.hash);
    }
}

impl Cut {
    fn new(key: u64) -> Self {
        Self { hasher: xxhash3_64::Hasher::with_seed(key), len: 0 }
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen { hash: self.hasher.finish(), len: self.len }
    }

    pub(crate) fn feed(&mut self, part: &[u8]) {
        self.hasher.write(part);
        self.len += part.len() as u64;
    }
}

impl fmt::Debug for Verify {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify").field("is_on", &self.key.is_some()).finish()
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cut").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
