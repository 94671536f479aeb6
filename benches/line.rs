//! Newline framing: our batch and our `Decoder` adapter beside tokio-util's codecs, and two floors that
//! nobody gets below (finding the newlines, copying the bytes).
//!
//! ```text
//! GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1073741824 cargo bench --bench line
//!     -- summary    only the table of docs/benchmarks/line.md
//!     -- line/masks only the vector code beside its safe twin
//! ```
//!
//! Every row of the table is run in turn, many short passes each, and the fastest pass counts: ratios
//! hold on a busy machine too. All decoders get the same reads of 16 KiB and pay for copying them into
//! their buffer; all frames are looked at and dropped.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on should stop")]

use std::{hint::black_box, time::Duration};

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput};
use shadowcat_codecs::{
    FrameBatch, FrameTable, Limits, bench,
    line::LineDecoder,
    tokio_codec::{LineBatchCodec, LineCodec},
};
use tokio_util::codec::{AnyDelimiterCodec, Decoder, LinesCodec};

/// A way to cut a stream; state and buffers live as long as it does. Returns something that depends on
/// every frame.
type Cutter = Box<dyn FnMut(&[u8]) -> usize>;

const READ_LEN: usize = 16 << 10;

/// Frame lengths without the line end, and what a person calls them.
const FRAMES: [(usize, &str); 6] =
    [(64, "64 B"), (256, "256 B"), (1 << 10, "1 KiB"), (16 << 10, "16 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB")];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let once = arguments.iter().any(|argument| argument == "--test");
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));

    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    cutters(&mut criterion);
    masks(&mut criterion);
    criterion.final_summary();

    if filter.is_none_or(|filter| filter == "summary") && !arguments.iter().any(|argument| argument == "--list") {
        summary(if once { 1 } else { 200 });
    }
}

fn cutters(criterion: &mut Criterion) {
    for (len, name) in FRAMES {
        let stream = stream_of(len, 4 << 20);
        let mut group = criterion.benchmark_group(format!("line/{name}"));
        group.throughput(Throughput::Bytes(stream.len() as u64));
        for (cutter, mut cut) in contestants() {
            group.bench_function(BenchmarkId::from_parameter(cutter), |bench| bench.iter(|| cut(&stream)));
        }
        group.finish();
    }
}

fn masks(criterion: &mut Criterion) {
    let stream = stream_of(64, READ_LEN);
    let mut group = criterion.benchmark_group("line/masks");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("vector", |bench| bench.iter(|| bench::fold_masks(black_box(&stream))));
    group.bench_function("portable twin", |bench| bench.iter(|| bench::fold_portable_masks(black_box(&stream))));
    group.bench_function("memchr_iter", |bench| {
        bench.iter(|| memchr::memchr_iter(b'\n', black_box(&stream)).count());
    });
    group.finish();
}

fn contestants() -> Vec<(&'static str, Cutter)> {
    vec![
        ("memcpy", copy()),
        ("memchr_iter", Box::new(|stream| memchr::memchr_iter(b'\n', stream).fold(0, usize::wrapping_add))),
        ("shadowcat batch", batches()),
        ("shadowcat LineBatchCodec", batch_codec()),
        ("shadowcat LineCodec", by_frame(LineCodec::new(Limits::default()))),
        ("tokio-util LinesCodec", by_frame(LinesCodec::new_with_max_length(64 << 20))),
        (
            "tokio-util AnyDelimiterCodec",
            by_frame(AnyDelimiterCodec::new_with_max_length(b"\n".into(), b"\n".into(), 64 << 20)),
        ),
    ]
}

/// The same bytes, read by read, to a buffer of a frame's length.
fn copy() -> Cutter {
    let mut buf = BytesMut::new();
    Box::new(move |stream| {
        let mut sum = 0;
        for read in stream.chunks(READ_LEN) {
            if buf.len() >= 1 << 20 {
                buf.clear();
            }
            buf.extend_from_slice(read);
            sum += look_at(black_box(&buf));
        }
        sum
    })
}

/// The path the proxy takes.
fn batches() -> Cutter {
    let mut decoder = LineDecoder::new(Limits::default());
    let (mut buf, mut table) = (BytesMut::new(), FrameTable::new());
    Box::new(move |stream| {
        let mut sum = 0_usize;
        for read in stream.chunks(READ_LEN) {
            buf.reserve(READ_LEN.max(decoder.expected(&buf)));
            buf.extend_from_slice(read);
            while let Some(batch) = next_batch(&mut decoder, &mut buf, &mut table) {
                sum = batch.iter().fold(sum, |sum, frame| sum.wrapping_add(look_at(frame)));
                table.recycle(batch);
            }
        }
        sum
    })
}

#[inline]
fn next_batch(decoder: &mut LineDecoder, buf: &mut BytesMut, table: &mut FrameTable) -> Option<FrameBatch> {
    let open = decoder.decode(buf, table).expect("no line is too long");
    open.map(|open| open.freeze())
}

fn batch_codec() -> Cutter {
    let mut codec = LineBatchCodec::new(Limits::default());
    let mut buf = BytesMut::new();
    Box::new(move |stream| {
        let mut sum = 0_usize;
        for read in stream.chunks(READ_LEN) {
            buf.reserve(READ_LEN);
            buf.extend_from_slice(read);
            while let Some(batch) = codec.decode(&mut buf).expect("no line is too long") {
                sum = batch.iter().fold(sum, |sum, frame| sum.wrapping_add(look_at(frame)));
                codec.recycle(batch);
            }
        }
        sum
    })
}

fn by_frame<D>(mut decoder: D) -> Cutter
where
    D: Decoder<Item: AsRef<[u8]>, Error: std::fmt::Debug> + 'static,
{
    let mut buf = BytesMut::new();
    Box::new(move |stream| {
        let mut sum = 0_usize;
        for read in stream.chunks(READ_LEN) {
            buf.reserve(READ_LEN);
            buf.extend_from_slice(read);
            while let Some(frame) = decoder.decode(&mut buf).expect("no line is too long") {
                sum = sum.wrapping_add(look_at(frame.as_ref()));
            }
        }
        sum
    })
}

#[inline]
fn look_at(frame: &[u8]) -> usize {
    frame.len() + frame.last().map_or(0, |&byte| usize::from(byte))
}

/// About `total` bytes of lines of `len` bytes each, and at least two of them.
fn stream_of(len: usize, total: usize) -> Vec<u8> {
    let text = br#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"echo"}} "#;
    let line: Vec<u8> = text.iter().copied().cycle().take(len).chain([b'\n']).collect();
    line.repeat((total / line.len()).max(2))
}

/// Prints the table of docs/benchmarks/line.md.
#[expect(clippy::print_stdout, reason = "a benchmark talks to a person")]
fn summary(passes: usize) {
    let names: Vec<&str> = contestants().iter().map(|&(name, _)| name).collect();
    let columns = FRAMES.map(|(len, _)| fastest(len, passes));
    println!("\nGB/s, reads of {} KiB, fastest of {passes} passes, all in turn\n", READ_LEN >> 10);
    println!("| {:28} |{}", "", FRAMES.map(|(_, name)| format!(" {name:>7} |")).concat());
    println!("|{}|{}", "-".repeat(30), FRAMES.map(|_| "--------:|").concat());
    for (row, name) in names.iter().enumerate() {
        println!("| {name:28} |{}", columns.each_ref().map(|column| format!(" {:>7.2} |", column[row])).concat());
    }
    for (over, under) in [
        ("shadowcat batch", "tokio-util LinesCodec"),
        ("shadowcat LineCodec", "tokio-util LinesCodec"),
        ("shadowcat batch", "memcpy"),
    ] {
        let row = |name| names.iter().position(|&other| other == name).expect("it is in the table");
        let ratios = columns.each_ref().map(|column| format!(" {:>6.2}x |", column[row(over)] / column[row(under)]));
        println!("| {:28} |{}", format!("{} / {}", last_word(over), last_word(under)), ratios.concat());
    }
    println!("\nGrowth for four times the bytes: 4 is linear, and what a cache no longer holds comes on top\n");
    println!("| one line, in reads of | milliseconds | a quarter | growth | growth of a plain copy |");
    println!("|-----------------------|-------------:|----------:|-------:|-----------------------:|");
    for (work, len, read) in
        [("16 MiB, 1 KiB", 16 << 20, 1 << 10), ("4 MiB, 1 KiB", 4 << 20, 1 << 10), ("64 KiB, 1 byte", 64 << 10, 1)]
    {
        let passes = passes.min(20);
        let [(whole, copied), (quarter, copied_quarter)] = [len, len / 4].map(|len| one_line(len, read, passes));
        let (growth, copy_growth) = (whole / quarter, copied / copied_quarter);
        let (whole, quarter) = (whole * 1e3, quarter * 1e3);
        println!("| {work:21} | {whole:12.3} | {quarter:9.3} | {growth:6.2} | {copy_growth:22.2} |");
    }
}

fn last_word(name: &str) -> &str {
    name.rsplit(' ').next().unwrap_or(name)
}

/// GB/s of each contestant's fastest pass.
fn fastest(len: usize, passes: usize) -> Vec<f64> {
    let stream = stream_of(len, 2 << 20);
    let mut contestants = contestants();
    let mut seconds = vec![f64::INFINITY; contestants.len()];
    for _ in 0..passes {
        for ((_, cut), fastest) in contestants.iter_mut().zip(&mut seconds) {
            *fastest = fastest.min(timed(|| cut(black_box(&stream))));
        }
    }
    seconds.into_iter().map(|seconds| stream.len() as f64 / seconds / 1e9).collect()
}

/// Seconds for one line of `len` bytes, its LF included: through a decoder, and only copied.
fn one_line(len: usize, read_len: usize, passes: usize) -> (f64, f64) {
    let stream = stream_of(len - 1, 0);
    let line = stream.get(..len).expect("the stream has two lines");
    let (mut src, mut table, mut copy) = (BytesMut::new(), FrameTable::new(), BytesMut::new());
    let (mut decoded, mut copied) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..passes {
        let mut decoder = LineDecoder::new(Limits::default());
        decoded = decoded.min(timed(|| {
            for read in line.chunks(read_len) {
                src.extend_from_slice(read);
                black_box(next_batch(&mut decoder, &mut src, &mut table));
            }
        }));
        copied = copied.min(timed(|| {
            copy.clear();
            line.chunks(read_len).for_each(|read| black_box(&mut copy).extend_from_slice(read));
        }));
    }
    (decoded, copied)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let start = std::time::Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64()
}
