//! Line decoder: tables, and the chunking law over every cut.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{
    naive::{Said, naive},
    *,
};

/// Feeds `reads` one after the other, as a transport would.
fn decoded<'a>(reads: impl IntoIterator<Item = &'a [u8]>, max: usize) -> Vec<Said> {
    let mut decoder = LineDecoder::new(Limits::default().with_max_frame_len(max).unwrap());
    let (mut table, mut src, mut said) = (FrameTable::new(), BytesMut::new(), Vec::new());
    for read in reads {
        src.extend_from_slice(read);
        while step(decoder.decode(&mut src, &mut table), &mut said) {}
        assert!(src.len() <= max + 1 || src.len() < BYTE_ORDER_MARK.len(), "kept {} of {max}", src.len());
    }
    while step(decoder.finish(&mut src, &mut table), &mut said) {}
    assert!(src.is_empty());
    said
}

fn step(result: Result<Option<OpenBatch<'_>>, FrameError>, said: &mut Vec<Said>) -> bool {
    match result {
        Ok(None) => return false,
        Ok(Some(open)) => {
            assert!(!open.is_empty());
            let batch = open.freeze();
            for (span, line) in batch.spans().iter().zip(batch.iter()) {
                said.push(Said::Line(batch.at() + span.start() as u64, line.to_owned()));
            }
        }
        Err(FrameError::MessageTooLarge { at, .. }) => said.push(Said::TooLarge(at)),
    }
    true
}

pub(crate) fn corpus() -> Vec<(&'static [u8], usize)> {
    vec![
        (b"", 8),
        (b"\n", 8),
        (b"\r\n", 8),
        (b"a\n", 8),
        (b"a", 8),
        (b"a\r", 8),
        (b"a\r\r\n", 8),
        (b"\r\r\n", 8),
        (b"a\rb\n\rc\n", 8),
        (b"a\n\n\r\n\nb\n", 8),
        (b"a\0b\n\0\n", 8),
        (b"\xff\xfe\n\xc3(\n", 8),
        ("\u{2028}\u{2029}\n\u{85}\n".as_bytes(), 8),
        (b"\xEF\xBB\xBFa\nb\n", 8),
        (b"\xEF\xBB\xBF\n\xEF\xBB\xBFb\n", 8),
        (b"\xEF\xBB\xBF", 8),
        (b"\xEF\xBB", 8),
        (b"\xEF\xBBa\n", 8),
        (b"\xEF", 1),
        (b"\xEF\xBB", 1),
        (b"\xEF\xBB\xBFab\nc\n", 2),
        (b"\xEF\xBB\xBFabc\nc\n", 2),
        (b"abc\nabcd\nabcde\nabc\n", 4),
        (b"abc\r\nabcd\r\nabcde\r\nabc\r\n", 4),
        (b"abcd", 4),
        (b"abcd\r", 4),
        (b"abcde", 4),
        (b"abcde\r", 4),
        (b"abcd\rx\nab", 4),
        (b"a\nbbbbbbbbbbbb\nc\ndddddddd", 4),
        (b"aaaaaaaaa\nbbbbbbbbb\nccccccccc\n", 4),
        (b"aaaaaaaaa\r\n\r\nbbbb\r\r\nccccccccc\r", 4),
    ]
}

#[test]
fn every_one_cut_and_two_cut_split_says_the_same() {
    for (bytes, max) in corpus() {
        let expect = naive(bytes, max);
        assert_eq!(decoded([bytes], max), expect, "{bytes:?} whole");
        assert_eq!(decoded(bytes.chunks(1), max), expect, "{bytes:?} byte by byte");
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let reads = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(decoded(reads, max), expect, "{bytes:?} cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn limit_counts_the_line_without_its_line_end() {
    for end in ["\n", "\r\n", "", "\r"] {
        for (len, fits) in [(63, true), (64, true), (65, false)] {
            let bytes = ["x".repeat(len).as_str(), end].concat();
            let expect = if fits { Said::Line(0, vec![b'x'; len]) } else { Said::TooLarge(0) };
            let expect = [expect];
            assert_eq!(decoded([bytes.as_bytes()], 64), expect);
            assert_eq!(decoded(bytes.as_bytes().chunks(1), 64), expect);
        }
    }
}

#[test]
fn long_line_is_reported_once_and_the_next_line_survives() {
    let bytes = [&[b'x'; 1000][..], b"\nnext\n"].concat();
    let expect = [Said::TooLarge(0), Said::Line(1001, b"next".to_vec())];
    for read in [1, 7, 64, 1000, 1001, 1006] {
        assert_eq!(decoded(bytes.chunks(read), 10), expect, "reads of {read}");
    }
}

#[test]
fn long_line_is_reported_before_its_end_arrives() {
    let mut decoder = LineDecoder::new(Limits::default().with_max_frame_len(4).unwrap());
    let (mut table, mut src) = (FrameTable::new(), BytesMut::from(&b"abcde"[..]));
    let error = decoder.decode(&mut src, &mut table).map(|_| ()).unwrap_err();
    assert_eq!(error, FrameError::MessageTooLarge { limit: 4, at: 0 });
    assert_eq!(decoder.skipped(&src), b"abcde");
    assert!(decoder.decode(&mut src, &mut table).unwrap().is_none());
    assert!(src.is_empty());
    src.extend_from_slice(b"fg\nh");
    assert_eq!(decoder.skipped(&src), b"fg");
    assert!(decoder.decode(&mut src, &mut table).unwrap().is_none());
    assert_eq!((decoder.skipped(&src), &src[..]), (&b""[..], &b"h"[..]));
}

#[test]
fn unfinished_line_is_looked_at_once() {
    let mut decoder = LineDecoder::new(Limits::default());
    let (mut table, mut src) = (FrameTable::new(), BytesMut::new());
    for _ in 0..100 {
        src.extend_from_slice(b"abc");
        assert!(decoder.decode(&mut src, &mut table).unwrap().is_none());
        assert_eq!(decoder.scanned, src.len());
    }
}

#[test]
fn a_line_is_expected_to_be_as_long_as_the_one_before() {
    let mut decoder = LineDecoder::new(Limits::default());
    let (mut table, mut src) = (FrameTable::new(), BytesMut::from(&b"a\nabcdef\n"[..]));
    drop(decoder.decode(&mut src, &mut table).unwrap());
    assert_eq!(decoder.expected(&src), 0);
    src.extend_from_slice(b"ab");
    assert!(decoder.decode(&mut src, &mut table).unwrap().is_none());
    assert_eq!(decoder.expected(&src), 4);
    src.extend_from_slice(b"cdefgh");
    assert_eq!(decoder.expected(&src), 0);
}

#[test]
fn encoder_blanks_or_refuses_line_ends() {
    let encode = |bytes: &'static [u8], line_ends| {
        let encoder = LineEncoder::new(line_ends);
        let line = encoder.encode(Bytes::from_static(bytes).into()).map(|line| line.slices().concat());
        let mut dst = BytesMut::from(&b"before\r\n"[..]);
        let copied = encoder.encode_into(bytes, &mut dst).map(|()| dst[8..].to_vec());
        assert_eq!(line, copied);
        assert_eq!(dst.len(), 8 + copied.map_or(0, |line| line.len()));
        line
    };
    assert_eq!(encode(b"a\rb", LineEnds::Refuse), Ok(b"a\rb\n".to_vec()));
    assert_eq!(encode(b"a\rb", LineEnds::Blank), Ok(b"a\rb\n".to_vec()));
    assert_eq!(encode(b"a\r\nb\r", LineEnds::Blank), Ok(b"a  b \n".to_vec()));
    assert_eq!(encode(b"a\rb", LineEnds::BlankAlways), Ok(b"a b\n".to_vec()));
    assert_eq!(encode(b"\ra\r\nb\r", LineEnds::BlankAlways), Ok(b" a  b \n".to_vec()));
    assert_eq!(encode(b"a b\t", LineEnds::BlankAlways), Ok(b"a b\t\n".to_vec()));
    assert_eq!(encode(b"", LineEnds::BlankAlways), Err(LineEncodeError::Empty));
    assert_eq!(encode(b"a\nb", LineEnds::Refuse), Err(LineEncodeError::LineEnd { at: 1 }));
    assert_eq!(encode(b"ab\r", LineEnds::Refuse), Err(LineEncodeError::LineEnd { at: 2 }));
    assert_eq!(encode(b"", LineEnds::Blank), Err(LineEncodeError::Empty));
}

proptest! {
    #[test]
    fn any_cut_of_any_bytes_says_what_the_oracle_says(
        bytes in vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), Just(0xEF), Just(0xBB), Just(0xBF), any::<u8>()], 0..400),
        cuts in vec(0_usize..400, 0..12),
        max in 1_usize..80,
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let reads = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        prop_assert_eq!(decoded(reads, max), naive(&bytes, max));
    }
}

#[test]
fn a_line_that_is_given_up_is_skipped_and_the_next_one_is_whole() {
    for rest in ["", "more", "more and more\nnext\n"] {
        let (mut decoder, mut table) = (LineDecoder::new(Limits::default()), FrameTable::new());
        let mut src = BytesMut::from("first\nbegun");
        let first = decoder.decode(&mut src, &mut table).unwrap().unwrap().freeze();
        assert_eq!(first.iter().collect::<Vec<_>>(), [b"first"]);
        assert!(decoder.decode(&mut src, &mut table).unwrap().is_none());
        assert_eq!(decoder.give_up(&src), 6, "where the line begins");
        assert_eq!(decoder.skipped(&src), b"begun");
        src.extend_from_slice(rest.as_bytes());
        let next = decoder.decode(&mut src, &mut table).unwrap().map(|open| open.freeze());
        let expected: &[&[u8]] = if rest.ends_with('\n') { &[b"next"] } else { &[] };
        assert_eq!(next.iter().flat_map(|batch| batch.iter()).collect::<Vec<_>>(), expected, "{rest:?}");
        assert!(src.is_empty(), "nothing of it is kept");
    }
}
