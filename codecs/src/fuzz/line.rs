//! Lines: every cut of the bytes says what the whole-buffer decoder says, through the batch and through
//! the adapter; nothing is kept beyond the limit; and every line can be written again as it was.

use bytes::BytesMut;

use super::CutStream;
use crate::{
    FrameError, FrameTable, Limits,
    line::{
        LineDecoder, LineEncoder, LineEnds,
        naive::{Said, naive},
    },
};

/// The body of the target `line`; the input is a limit, read lengths and a stream.
pub fn line(input: &[u8]) {
    let Some(cut) = CutStream::new(input) else { return };
    let expected = naive(cut.stream, cut.limit);
    let limits = Limits::default().with_max_frame_len(cut.limit).unwrap_or_default();
    for reads in cut.ways() {
        assert_eq!(by_batch(&reads, limits), expected, "limit {}, cut as {reads:?}", cut.limit);
        #[cfg(feature = "tokio-util")]
        assert_eq!(by_adapter(&reads, limits), said_by_items(&expected), "limit {}, cut as {reads:?}", cut.limit);
    }
    for said in &expected {
        if let Said::Line(_, line) = said {
            let mut written = BytesMut::new();
            let fits = LineEncoder::new(LineEnds::Refuse).encode_into(line, &mut written);
            let ends_in_cr = line.ends_with(b"\r");
            assert_eq!(fits.is_err(), ends_in_cr, "a line is only refused if its end would be taken for a line end");
            assert!(ends_in_cr || written.strip_suffix(b"\n") == Some(line), "a line is written as it was");
        }
    }
}

fn by_batch(reads: &[&[u8]], limits: Limits) -> Vec<Said> {
    let mut decoder = LineDecoder::new(limits);
    let (mut table, mut src, mut said) = (FrameTable::new(), BytesMut::new(), Vec::new());
    for read in reads {
        src.extend_from_slice(read);
        while step(&mut decoder, false, &mut src, &mut table, &mut said) {}
        // Up to two bytes of a byte order mark may wait to be told from a line.
        assert!(src.len() <= (limits.max_frame_len() + 1).max(2), "{} bytes kept", src.len());
    }
    while step(&mut decoder, true, &mut src, &mut table, &mut said) {}
    assert!(src.is_empty(), "the end of the stream leaves nothing behind");
    said
}

fn step(
    decoder: &mut LineDecoder,
    ended: bool,
    src: &mut BytesMut,
    table: &mut FrameTable,
    said: &mut Vec<Said>,
) -> bool {
    let found = if ended { decoder.finish(src, table) } else { decoder.decode(src, table) };
    match found.map(|open| open.map(|open| open.freeze())) {
        Ok(None) => return false,
        Ok(Some(batch)) => {
            assert!(!batch.is_empty(), "a batch has lines");
            let lines = batch.spans().iter().zip(batch.iter());
            said.extend(lines.map(|(span, line)| Said::Line(batch.at() + span.start() as u64, line.to_owned())));
            table.recycle(batch);
        }
        Err(FrameError::MessageTooLarge { at, .. }) => said.push(Said::TooLarge(at)),
    }
    true
}

/// An item of the adapter does not know where in the stream it was; an error does.
#[cfg(feature = "tokio-util")]
fn said_by_items(said: &[Said]) -> Vec<Result<Vec<u8>, u64>> {
    let items = said.iter().cloned();
    items
        .map(|said| match said {
            Said::Line(_, line) => Ok(line),
            Said::TooLarge(at) => Err(at),
        })
        .collect()
}

/// As `FramedRead` drives a codec.
#[cfg(feature = "tokio-util")]
fn by_adapter(reads: &[&[u8]], limits: Limits) -> Vec<Result<Vec<u8>, u64>> {
    use crate::tokio_codec::{ErrorsAsItems, LineCodec};
    use tokio_util::codec::Decoder;

    let mut codec = ErrorsAsItems::new(LineCodec::new(limits));
    let (mut src, mut said) = (BytesMut::new(), Vec::new());
    let mut hear = |item: Result<crate::Frame, FrameError>| {
        said.push(item.map(|frame| (*frame).to_owned()).map_err(|FrameError::MessageTooLarge { at, .. }| at));
    };
    for read in reads {
        src.extend_from_slice(read);
        while let Ok(Some(item)) = codec.decode(&mut src) {
            hear(item);
        }
    }
    while let Ok(Some(item)) = codec.decode_eof(&mut src) {
        hear(item);
    }
    said
}
