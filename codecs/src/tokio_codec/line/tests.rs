//! The adapters say what the decoder says, through a real `FramedRead`.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::codec::{Framed, FramedRead};

use super::*;
use crate::{
    line::{
        naive::{Said, naive},
        tests::corpus,
    },
    tokio_codec::ErrorsAsItems,
};

/// A peer whose reads are given, one after the other; then end of stream.
struct Reads<'a>(VecDeque<&'a [u8]>);

impl AsyncRead for Reads<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(read) = self.0.pop_front() {
            let (now, later) = read.split_at(read.len().min(buf.remaining()));
            buf.put_slice(now);
            if !later.is_empty() {
                self.0.push_front(later);
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// An empty read would be the end of the stream.
fn reads<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Reads<'a> {
    Reads(reads.into_iter().filter(|read| !read.is_empty()).collect())
}

fn limits(max: usize) -> Limits {
    Limits::default().with_max_frame_len(max).unwrap()
}

/// What the oracle says, without the offsets: a frame does not know where it was.
fn expected(bytes: &[u8], max: usize) -> Vec<Result<Vec<u8>, u64>> {
    let said = naive(bytes, max).into_iter();
    said.map(|said| match said {
        Said::Line(_, line) => Ok(line),
        Said::TooLarge(at) => Err(at),
    })
    .collect()
}

fn offset(refused: FrameError) -> u64 {
    let FrameError::MessageTooLarge { at, .. } = refused;
    at
}

fn frame_by_frame(input: Reads<'_>, max: usize) -> Vec<Result<Vec<u8>, u64>> {
    let framed = FramedRead::new(input, ErrorsAsItems::new(LineCodec::new(limits(max))));
    let items = block_on(framed.collect::<Vec<_>>());
    items.into_iter().map(|item| item.unwrap().map(|frame| frame.to_vec()).map_err(offset)).collect()
}

fn batch_by_batch(input: Reads<'_>, max: usize) -> Vec<Result<Vec<u8>, u64>> {
    let framed = FramedRead::new(input, ErrorsAsItems::new(LineBatchCodec::new(limits(max))));
    let mut said = Vec::new();
    for item in block_on(framed.collect::<Vec<_>>()) {
        match item.unwrap() {
            Ok(batch) => said.extend(batch.iter().map(|line| Ok(line.to_vec()))),
            Err(refused) => said.push(Err(offset(refused))),
        }
    }
    said
}

#[test]
fn every_split_of_the_corpus_says_the_same() {
    for (bytes, max) in corpus() {
        let expect = expected(bytes, max);
        assert_eq!(frame_by_frame(reads(bytes.chunks(1)), max), expect, "{bytes:?} byte by byte");
        assert_eq!(batch_by_batch(reads(bytes.chunks(1)), max), expect, "{bytes:?} byte by byte");
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let cut = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(frame_by_frame(reads(cut), max), expect, "{bytes:?} cut at {first} and {second}");
                assert_eq!(batch_by_batch(reads(cut), max), expect, "{bytes:?} cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn lines_longer_than_the_read_buffer_arrive() {
    let lines: Vec<Vec<u8>> = (0..20).map(|size| vec![b'x'; 1 << size]).collect();
    let bytes = lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect::<Vec<u8>>();
    let expect: Vec<_> = lines.into_iter().map(Ok).collect();
    assert_eq!(frame_by_frame(reads([&bytes[..]]), 1 << 20), expect);
    assert_eq!(batch_by_batch(reads(bytes.chunks(1000)), 1 << 20), expect);
}

#[test]
fn an_error_ends_the_stream_once_unless_errors_are_items() {
    let mut framed = FramedRead::new(&b"too long\nok\n"[..], LineCodec::new(limits(4)));
    let mut next = || block_on(framed.next());
    assert!(matches!(next(), Some(Err(CodecError::Codec(FrameError::MessageTooLarge { limit: 4, at: 0 })))));
    assert!(next().is_none());
    assert_eq!(next().unwrap().unwrap(), Frame::new(Bytes::from_static(b"ok")));
    assert!(next().is_none());
}

#[test]
fn an_error_of_the_stream_stays_an_error() {
    struct Broken;
    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }
    let mut framed = FramedRead::new(Broken, ErrorsAsItems::new(LineCodec::new(limits(4))));
    let error = block_on(framed.next()).unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn the_last_frame_of_a_block_is_the_last_reference_to_it() {
    let mut codec = LineCodec::new(limits(8));
    let mut src = BytesMut::from(&b"a\nb\n"[..]);
    let mut next = || codec.decode(&mut src).unwrap().unwrap().into_bytes();
    let (first, last) = (next(), next());
    assert!(!last.is_unique());
    drop(first);
    drop(src);
    assert!(last.is_unique());
}

#[test]
fn what_is_sent_arrives_and_a_refused_batch_leaves_no_trace() {
    let mut codec = LineBatchCodec::new(limits(8));
    let mut dst = BytesMut::from(&b"before\n"[..]);
    let batch = codec.decode(&mut BytesMut::from(&b"a\rb\n\nc\r\n"[..])).unwrap().unwrap();
    codec.encode(batch, &mut dst).unwrap();
    assert_eq!(dst, b"before\na\rb\nc\n"[..]);

    let spans = vec![crate::Span::new(0, 1), crate::Span::new(0, 3)];
    let unfit = FrameBatch::new(Bytes::from_static(b"a\nb"), spans, 0);
    let refused = codec.encode(unfit.clone(), &mut dst);
    assert!(matches!(refused, Err(CodecError::Codec(LineEncodeError::LineEnd { at: 1 }))));
    assert_eq!(dst, b"before\na\rb\nc\n"[..]);

    let mut blanking = codec.with_line_ends(LineEnds::Blank);
    blanking.encode(unfit, &mut dst).unwrap();
    assert_eq!(dst, b"before\na\rb\nc\na\na b\n"[..]);
}

#[test]
fn frames_go_both_ways() {
    use futures::SinkExt;

    let (here, there) = tokio::io::duplex(1 << 10);
    let mut here = Framed::new(here, LineCodec::new(limits(8)));
    let mut there = Framed::new(there, ErrorsAsItems::new(LineCodec::new(limits(8))));
    let received = block_on(async {
        here.send(Bytes::from_static(b"ping")).await.unwrap();
        let ping = there.next().await.unwrap().unwrap().unwrap();
        there.send(ping).await.unwrap();
        here.next().await.unwrap().unwrap()
    });
    assert_eq!(&received[..], b"ping");
}
