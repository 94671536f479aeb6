//! What cutting lines costs in allocations, counted, not timed: none per frame and none per block once
//! warm, on the batch path and through the adapters, as long as frames are passed on. Frames that are
//! kept cost one buffer per block, because the block they lie in cannot be reused.
//!
//! One test: the counter counts the whole process.

#![expect(clippy::expect_used, reason = "a test may panic")]

use bytes::BytesMut;
use shadowcat_codecs::{
    FrameBatch, FrameTable, Limits,
    line::LineDecoder,
    tokio_codec::{LineBatchCodec, LineCodec},
};
use tokio_util::codec::Decoder;

#[path = "support/counting.rs"]
mod counting;

use counting::allocations;

const READ_LEN: usize = 16 << 10;
const READS: usize = 100;

/// The batch path as the pipe walks it.
struct Batches {
    decoder: LineDecoder,
    table: FrameTable,
    src: BytesMut,
}

impl Batches {
    fn read(&mut self, read: &[u8], mut each: impl FnMut(FrameBatch) -> Option<FrameBatch>) -> usize {
        self.src.reserve(READ_LEN);
        self.src.extend_from_slice(read);
        let mut frames = 0;
        while let Some(batch) =
            self.decoder.decode(&mut self.src, &mut self.table).expect("nothing is too long").map(|open| open.freeze())
        {
            frames += batch.len();
            if let Some(batch) = each(batch) {
                self.table.recycle(batch);
            }
        }
        frames
    }
}

/// Allocations of `READS` reads after as many to warm up, and the frames in them.
fn counted(line_len: usize, mut read: impl FnMut(&[u8]) -> usize) -> (usize, usize) {
    let line = [vec![b'x'; line_len].as_slice(), b"\n"].concat();
    let stream = line.repeat(READ_LEN * READS / line.len() + 1);
    stream.chunks(READ_LEN).for_each(|bytes| {
        read(bytes);
    });
    let before = allocations();
    let frames = stream.chunks(READ_LEN).map(&mut read).sum();
    (allocations() - before, frames)
}

fn by_item<D: Decoder>(mut decoder: D, mut each: impl FnMut(&mut D, D::Item)) -> impl FnMut(&[u8]) -> usize {
    let mut src = BytesMut::new();
    move |read| {
        src.reserve(READ_LEN);
        src.extend_from_slice(read);
        let mut items = 0;
        while let Some(item) = decoder.decode(&mut src).ok().expect("nothing is too long") {
            each(&mut decoder, item);
            items += 1;
        }
        items
    }
}

#[test]
fn nothing_is_allocated_per_frame_once_warm_and_at_most_one_buffer_per_block() {
    let batches =
        || Batches { decoder: LineDecoder::new(Limits::default()), table: FrameTable::new(), src: BytesMut::new() };
    // Frames as long as several reads are blocks of their own; the others come many to a block.
    for (line_len, at_least) in [(64, 25_000), (1 << 10, 1_500), (READ_LEN, 90), (5 * READ_LEN, 15)] {
        let mut warm = batches();
        let (allocations, frames) = counted(line_len, |read| warm.read(read, Some));
        assert!(frames >= at_least, "{frames} frames of {line_len} bytes");
        assert_eq!(allocations, 0, "batches, passed on: {frames} frames of {line_len} bytes");

        let (allocations, _) = counted(line_len, by_item(LineCodec::new(Limits::default()), |_, frame| drop(frame)));
        assert_eq!(allocations, 0, "LineCodec, passed on: {frames} frames of {line_len} bytes");

        let (allocations, _) =
            counted(line_len, by_item(LineBatchCodec::new(Limits::default()), LineBatchCodec::recycle));
        assert_eq!(allocations, 0, "LineBatchCodec, recycled: {frames} frames of {line_len} bytes");
    }

    // Whoever does not recycle pays for the table of each block.
    let (allocations, batches_seen) =
        counted(1 << 10, by_item(LineBatchCodec::new(Limits::default()), |_, batch| drop(batch)));
    assert!(allocations <= 3 * batches_seen, "{allocations} allocations for {batches_seen} batches not recycled");

    // Whoever keeps frames longer than the next read pays for a new buffer per block: the bytes, and the
    // count that is shared. The tables still come back.
    let (mut keeping, mut kept) = (batches(), FrameBatch::default());
    let (allocations, frames) =
        counted(64, |read| keeping.read(read, |batch| Some(std::mem::replace(&mut kept, batch))));
    assert!(allocations <= 2 * READS + 8, "{allocations} allocations for {frames} frames in {READS} blocks kept");
}
