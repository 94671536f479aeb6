//! The bodies of the fuzz targets. They live here so that `cargo test` replays every seed and every
//! past finding on stable; `fuzz/fuzz_targets` only calls them. A body panics when a law is broken.

mod envelope;
mod line;
mod sse;

pub use envelope::envelope;
pub use envelope::scan_vs_serde;
pub use envelope::splice;
pub use line::line;
pub use sse::reframe;
pub use sse::sse;

/// An input for a body that cuts a stream into reads: a header, then the stream.
///
/// ```text
/// limit  n  len × n  stream…
/// ```
///
/// One byte each for the frame limit (0 counts as 1) and the number of read lengths (modulo 8), then the
/// lengths of the reads, used in turn until the stream is used up.
struct CutStream<'a> {
    limit: usize,
    lens: &'a [u8],
    stream: &'a [u8],
}

impl<'a> CutStream<'a> {
    fn new(input: &'a [u8]) -> Option<Self> {
        let (&[limit, count], rest) = input.split_first_chunk()?;
        let (lens, stream) = rest.split_at_checked(usize::from(count % 8))?;
        Some(Self { limit: usize::from(limit.max(1)), lens, stream })
    }

    /// Every way to cut the stream that is tried: whole, as the header says, byte by byte, and a short
    /// stream in two at each place.
    fn ways(&self) -> impl Iterator<Item = Vec<&'a [u8]>> {
        let short = if self.stream.len() <= MAX_SHORT { self.stream.len() } else { 0 };
        let (stream, as_told) = (self.stream, self.as_told());
        let single_cuts = (1..short).map(move |at| <[_; 2]>::from(stream.split_at(at)).into());
        [vec![stream], as_told, stream.chunks(1).collect()].into_iter().chain(single_cuts)
    }

    fn as_told(&self) -> Vec<&'a [u8]> {
        let (mut reads, mut rest) = (Vec::new(), self.stream);
        // A read of length 0 is one of length 1: the loop ends.
        for len in self.lens.iter().cycle().map(|&len| usize::from(len.max(1))) {
            let (read, later) = rest.split_at(len.min(rest.len()));
            if read.is_empty() {
                break;
            }
            reads.push(read);
            rest = later;
        }
        reads.push(rest);
        reads
    }
}

/// Streams up to this length are cut in two at each place.
const MAX_SHORT: usize = 64;
