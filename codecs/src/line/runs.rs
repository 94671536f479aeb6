//! Which frames of a batch can leave together as they lie.

use std::{iter::Peekable, ops::Range, slice::Iter};

use crate::{FrameBatch, Span};

/// The frames of a batch as runs: neighbours with exactly one LF between them are one slice.
///
/// ```text
///   block   a LF bb LF ccc CR LF d LF        runs   0..8 (its line end must be written)   10..12
/// ```
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use shadowcat_codecs::{FrameTable, Limits, line::{LineDecoder, LineRuns}};
///
/// let (mut table, mut src) = (FrameTable::new(), BytesMut::from(&b"a\nbb\nccc\r\nd\n"[..]));
/// let batch = LineDecoder::new(Limits::default()).decode(&mut src, &mut table)?.expect("lines").freeze();
/// let runs: Vec<_> = LineRuns::new(&batch, &[3]).map(|run| (run.range, run.has_line_end)).collect();
/// assert_eq!(runs, [(0..8, false)]);
/// # Ok::<(), shadowcat_codecs::FrameError>(())
/// ```
#[derive(Debug, Clone)]
pub struct LineRuns<'a> {
    block: &'a [u8],
    spans: Peekable<std::iter::Enumerate<Iter<'a, Span>>>,
    dropped: Peekable<Iter<'a, usize>>,
}

/// Neighbouring frames that can be written as one slice.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LineRun {
    /// Where they lie in the block, line ends included.
    pub range: Range<usize>,
    /// Whether the last one's LF is there too. If not, one must be written behind the slice.
    pub has_line_end: bool,
}

impl<'a> LineRuns<'a> {
    /// The runs of `batch` without the frames whose indices are in `dropped`, which must be ascending.
    #[must_use]
    pub fn new(batch: &'a FrameBatch, dropped: &'a [usize]) -> Self {
        let spans = batch.spans().iter().enumerate().peekable();
        Self { block: batch.block(), spans, dropped: dropped.iter().peekable() }
    }

    fn next_span(&mut self) -> Option<Span> {
        loop {
            let (index, span) = self.spans.next()?;
            if self.dropped.next_if_eq(&&index).is_none() {
                return Some(*span);
            }
        }
    }
}

impl Iterator for LineRuns<'_> {
    type Item = LineRun;

    fn next(&mut self) -> Option<LineRun> {
        let first = self.next_span()?;
        let (start, mut end) = (first.start(), first.end());
        loop {
            // Otherwise a CR stands before the LF, or the stream ended without one.
            if self.block.get(end) != Some(&b'\n') {
                return Some(LineRun { range: start..end, has_line_end: false });
            }
            end += 1;
            let dropped = self.dropped.peek().map(|index| **index);
            match self.spans.next_if(|(index, span)| span.start() == end && Some(*index) != dropped) {
                Some((_, span)) => end = span.end(),
                None => return Some(LineRun { range: start..end, has_line_end: true }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::{FrameTable, Limits, line::LineDecoder};

    fn runs(bytes: &[u8], dropped: &[usize]) -> Vec<(String, bool)> {
        let (mut table, mut src) = (FrameTable::new(), BytesMut::from(bytes));
        let mut decoder = LineDecoder::new(Limits::default());
        let mut found = Vec::new();
        while let Some(open) = decoder.finish(&mut src, &mut table).unwrap() {
            let batch = open.freeze();
            for run in LineRuns::new(&batch, dropped) {
                found.push((String::from_utf8_lossy(&batch.block()[run.range]).into_owned(), run.has_line_end));
            }
        }
        found
    }

    fn expect(expected: &[(&str, bool)]) -> Vec<(String, bool)> {
        expected.iter().map(|&(text, has_line_end)| (text.to_owned(), has_line_end)).collect()
    }

    #[test]
    fn neighbours_are_one_run() {
        assert_eq!(runs(b"a\nbb\nccc\n", &[]), expect(&[("a\nbb\nccc\n", true)]));
    }

    #[test]
    fn what_is_dropped_or_not_framed_by_one_lf_splits_the_run() {
        assert_eq!(runs(b"a\nbb\nccc\nd\n", &[1]), expect(&[("a\n", true), ("ccc\nd\n", true)]));
        assert_eq!(runs(b"a\nbb\nccc\nd\n", &[0, 3]), expect(&[("bb\nccc\n", true)]));
        assert_eq!(runs(b"a\nbb\nccc\nd\n", &[1, 2]), expect(&[("a\n", true), ("d\n", true)]));
        assert_eq!(runs(b"a\n\nb\nc\n", &[]), expect(&[("a\n", true), ("b\nc\n", true)]));
        assert_eq!(runs(b"a\nb\r\nc\n", &[]), expect(&[("a\nb", false), ("c\n", true)]));
        assert_eq!(runs(b"a\r\nb\r\n", &[]), expect(&[("a", false), ("b", false)]));
        assert_eq!(runs(b"a\nb", &[]), expect(&[("a\n", true), ("b", false)]));
        assert_eq!(runs(b"a\nb\n", &[0, 1]), expect(&[]));
    }
}
