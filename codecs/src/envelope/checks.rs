//! The laws of the envelope as functions that panic: tests and fuzz targets call them on whatever they have.

#![expect(clippy::panic, reason = "a law that is broken is a panic")]

use super::{Envelope, EnvelopeError, EnvelopeParser, EnvelopeScan, Kind, Strictness, oracle};
use crate::{Limits, PADDING, PaddedFrame, Span};

/// What a way to the envelope said: the same from all of them.
pub(crate) type Said = Result<(Envelope, Vec<(Span, Envelope)>), EnvelopeError>;

/// All ways agree on `frame`, and none changes it. Returns what they said.
pub(crate) fn every_way_agrees(frame: &[u8], limits: Limits, cuts: &[usize]) -> Said {
    let said = scanned(frame, limits, &[]);
    assert_eq!(scanned(frame, limits, cuts), said, "cut at {cuts:?}");
    assert_eq!(read_whole(frame, limits), said, "in one piece");
    for small_len in [0, usize::MAX] {
        let mut parser = EnvelopeParser::new(limits).with_small_len(small_len);
        assert_eq!(parsed(&mut parser, frame), said, "small up to {small_len}");
        for padding in [b'7', b'"', b'\\', 0xFF, b' ', b']'] {
            assert_eq!(in_place(&mut parser, frame, padding), said, "padding {padding:#x}");
        }
    }
    said
}

/// What the strict ways say, simd-json's and the short one, shared and in place; they never change the frame either.
pub(crate) fn strict(frame: &[u8], limits: Limits) -> Said {
    let strict = |small_len| EnvelopeParser::new(limits).with_strictness(Strictness::Strict).with_small_len(small_len);
    let said = parsed(&mut strict(usize::MAX), frame);
    for mut parser in [strict(usize::MAX), strict(0)] {
        assert_eq!(parsed(&mut parser, frame), said, "{parser:?}");
        for padding in [b'7', b'"', b'\\', 0xFF] {
            assert_eq!(in_place(&mut parser, frame, padding), said, "padding {padding:#x}");
        }
    }
    said
}

/// Checks what was said about `frame` against serde_json.
pub(crate) fn agrees_with_serde(frame: &[u8], limits: Limits, said: &Said) {
    let strict = strict(frame, limits);
    let Some(reading) = oracle::read(frame) else {
        assert!(strict.as_ref().is_err(), "strict accepts what serde_json refuses: {strict:?}");
        return;
    };
    match said {
        Ok((envelope, elements)) => {
            assert!(!reading.has_duplicate, "a duplicate was not seen");
            assert_same(envelope, &reading);
            let spans: Vec<Span> = elements.iter().map(|&(span, _)| span).collect();
            assert_eq!(spans, reading.elements.iter().map(|&(span, _)| span).collect::<Vec<_>>());
            for ((_, envelope), (_, element)) in elements.iter().zip(&reading.elements) {
                assert_same(envelope, element);
            }
            let is_plain = serde_json::from_slice::<serde_json::Value>(frame).is_ok();
            assert!(strict.is_ok() || !is_plain, "strict refuses what serde_json reads as a value: {strict:?}");
            assert!(strict.is_err() || strict == *said, "strict reads another envelope");
        }
        Err(EnvelopeError::DuplicateKey { .. }) => assert!(reading.has_duplicate, "there is no duplicate"),
        Err(EnvelopeError::IdTooLong { .. }) => assert!(reading.longest_id > limits.max_id_len()),
        Err(EnvelopeError::BatchTooLong { .. }) => assert!(reading.elements.len() > limits.max_batch_len()),
        Err(EnvelopeError::TooDeep { .. } | EnvelopeError::TooLarge { .. }) => {}
        Err(error) => panic!("valid JSON is refused: {error}"),
    }
}

fn assert_same(envelope: &Envelope, reading: &oracle::Reading) {
    assert_eq!(envelope.kind(), reading.kind);
    if envelope.kind() != Kind::Batch {
        assert_eq!(envelope.id_class(), reading.id_class);
        assert_eq!(oracle::members(envelope), reading.members);
    }
}

fn read_whole(frame: &[u8], limits: Limits) -> Said {
    let mut scan = EnvelopeScan::new(limits);
    let envelope = scan.read_whole(frame)?;
    let elements = scan.elements().iter().map(|element| (element.span(), *element.envelope())).collect();
    scan.reset();
    assert_eq!(scan.read_whole(frame), Ok(envelope), "behind a reset");
    Ok((envelope, elements))
}

fn scanned(frame: &[u8], limits: Limits, cuts: &[usize]) -> Said {
    let mut scan = EnvelopeScan::new(limits);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (frame.len() + 1)).chain([0, frame.len()]).collect();
    cuts.sort_unstable();
    for (start, end) in cuts.iter().zip(cuts.iter().skip(1)) {
        scan.feed(frame.get(*start..*end).unwrap_or_default());
    }
    let envelope = scan.finish()?;
    if envelope.kind() != Kind::Batch
        && let Some(id) = envelope.id()
    {
        assert_eq!(scan.id_so_far(), Some((id.of(frame), envelope.id_class())));
        assert_eq!(scan.kind_so_far(), envelope.kind());
    }
    Ok((envelope, scan.elements().iter().map(|element| (element.span(), *element.envelope())).collect()))
}

fn parsed(parser: &mut EnvelopeParser, frame: &[u8]) -> Said {
    let envelope = parser.parse(frame)?;
    Ok((envelope, elements(parser)))
}

fn in_place(parser: &mut EnvelopeParser, frame: &[u8], padding: u8) -> Said {
    let mut bytes = frame.to_owned();
    bytes.resize(frame.len() + PADDING + 1, padding);
    let before = bytes.clone();
    let result = PaddedFrame::new(&mut bytes, frame.len()).map(|frame| parser.parse_in_place(frame));
    assert_eq!(bytes, before, "bytes were changed");
    let Some(result) = result else { panic!("there is enough padding") };
    Ok((result?, elements(parser)))
}

fn elements(parser: &EnvelopeParser) -> Vec<(Span, Envelope)> {
    parser.elements().iter().map(|element| (element.span(), *element.envelope())).collect()
}
