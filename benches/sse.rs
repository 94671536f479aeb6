//! Event streams: ours on a read buffer and on shared bodies beside four crates of the same trade.
//!
//! ```text
//! GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1073741824 cargo bench --bench sse
//!     -- summary          only the tables of docs/benchmarks/sse.md
//!     -- profile NAME     one load (`token`, `mcp`…) through `push` alone, a few passes, for callgrind
//! ```
//!
//! Every row of a table is run in turn, many short passes each, and the fastest pass counts: ratios hold
//! on a busy machine too. All get the same bytes in the same pieces; what takes `Bytes` gets them without
//! a copy, the row "read buffer" pays for copying each piece into its buffer. All events are looked at
//! and dropped.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on should stop")]

use std::{convert::Infallible, hint::black_box, pin::pin, task, time::Duration};

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput};
use eventsource_stream::Eventsource;
use futures::{Stream, stream};
use shadowcat_codecs::{
    Limits,
    sse::{EventTable, SseDecoder},
};

/// A way to read a stream that comes in these pieces. Returns something that depends on every event.
type Reader = Box<dyn FnMut(&[Bytes]) -> usize>;

/// Name, how to make it, and whether it survives events of 64 KiB and more in reasonable time.
type Contestant = (&'static str, fn() -> Reader, Large);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Large {
    Fine,
    /// Quadratic: minutes for what takes others a moment.
    Left,
}

const CONTESTANTS: [Contestant; 6] = [
    ("shadowcat, bodies", bodies, Large::Fine),
    ("shadowcat, read buffer", read_buffer, Large::Fine),
    ("sse-stream 0.3.0", || polled(sse_stream), Large::Fine),
    ("sse-core 0.2.3", || polled(sse_core), Large::Fine),
    ("sseer 0.3.1", || polled(sseer), Large::Fine),
    ("eventsource-stream 0.2.3", || polled(eventsource_stream), Large::Left),
];

struct Load {
    name: &'static str,
    title: &'static str,
    bytes: Vec<u8>,
    large: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let once = std::env::args().any(|argument| argument == "--test");
    if let [profile, name] = &arguments[..]
        && profile == "profile"
    {
        return run_alone(name);
    }
    let filter = arguments.first();
    if filter.is_none_or(|filter| filter != "summary") {
        let mut criterion = Criterion::default()
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1))
            .sample_size(20)
            .configure_from_args();
        loads(&mut criterion);
        criterion.final_summary();
    }
    if filter.is_none_or(|filter| filter == "summary") {
        summary(if once { 1 } else { 120 });
        if !once {
            growth();
        }
    }
}

fn loads(criterion: &mut Criterion) {
    for load in all_loads() {
        let pieces = cut(&load.bytes, PIECE_LEN);
        let mut group = criterion.benchmark_group(format!("sse/{}", load.name));
        group.throughput(Throughput::Bytes(load.bytes.len() as u64));
        for (name, contestant, _) in CONTESTANTS.into_iter().filter(|&(.., large)| !load.large || large == Large::Fine)
        {
            let mut read = contestant();
            group.bench_function(BenchmarkId::from_parameter(name), |bench| bench.iter(|| read(&pieces)));
        }
        group.finish();
    }
}

/// Shared bodies in, no copy of what lies in one of them.
fn bodies() -> Reader {
    let mut decoder = SseDecoder::new(Limits::default());
    let mut table = EventTable::new();
    Box::new(move |pieces| {
        let mut sum = 0_usize;
        for piece in pieces {
            let mut body = piece.clone();
            while let Some(batch) = decoder.push(&mut body, &mut table).expect("no event is too large") {
                sum = batch.iter().fold(sum, |sum, event| sum.wrapping_add(look_at(event.data())));
                table.recycle(batch);
            }
        }
        sum
    })
}

/// Each piece is copied into a read buffer, as a read would.
fn read_buffer() -> Reader {
    let mut decoder = SseDecoder::new(Limits::default());
    let (mut src, mut table) = (BytesMut::new(), EventTable::new());
    Box::new(move |pieces| {
        let mut sum = 0_usize;
        for piece in pieces {
            src.reserve(piece.len());
            src.extend_from_slice(piece);
            while let Some(batch) = decoder.decode(&mut src, &mut table).expect("no event is too large") {
                sum = batch.iter().fold(sum, |sum, event| sum.wrapping_add(look_at(event.data())));
                table.recycle(batch);
            }
        }
        sum
    })
}

type Pieces = stream::Iter<std::vec::IntoIter<Result<Bytes, Infallible>>>;

fn polled<S: Stream<Item = usize> + 'static>(events: fn(Pieces) -> S) -> Reader {
    Box::new(move |pieces| {
        let pieces: Vec<_> = pieces.iter().cloned().map(Ok).collect();
        let mut events = pin!(events(stream::iter(pieces)));
        let mut context = task::Context::from_waker(task::Waker::noop());
        let mut sum = 0_usize;
        while let task::Poll::Ready(Some(seen)) = events.as_mut().poll_next(&mut context) {
            sum = sum.wrapping_add(seen);
        }
        sum
    })
}

fn sse_stream(pieces: Pieces) -> impl Stream<Item = usize> {
    use futures::StreamExt;
    sse_stream::SseByteStream::new(pieces)
        .map(|event| event.expect("the stream is sound").data.map_or(0, |data| look_at(data.as_bytes())))
}

fn sse_core(pieces: Pieces) -> impl Stream<Item = usize> {
    use futures::StreamExt;
    let limit = std::num::NonZeroUsize::new(64 << 20).expect("64 MiB are some");
    let mut events = sse_core::SseStream::with_decoder(sse_core::SseDecoder::with_limit(limit));
    events.attach(pieces);
    events.map(|event| match event.expect("the stream is sound") {
        sse_core::SseEvent::Message(message) => look_at(message.data.as_bytes()),
        sse_core::SseEvent::Retry(_) => 0,
    })
}

fn sseer(pieces: Pieces) -> impl Stream<Item = usize> {
    use futures::StreamExt;
    sseer::EventStream::new(pieces).map(|event| look_at(event.expect("the stream is sound").data.as_bytes()))
}

fn eventsource_stream(pieces: Pieces) -> impl Stream<Item = usize> {
    use futures::StreamExt;
    pieces.eventsource().map(|event| look_at(event.expect("the stream is sound").data.as_bytes()))
}

#[inline]
fn look_at(data: &[u8]) -> usize {
    data.len() + data.last().map_or(0, |&byte| usize::from(byte))
}

fn all_loads() -> Vec<Load> {
    let token = event("", &json(142), "\n");
    let mcp = event("event: message\nid: 0b5c9a2e-1f_1732300000000_k3j2h1\n", &json(440), "\n");
    let crlf = |event: &str| event.replace('\n', "\r\n");
    let lines: String = (0..40).map(|_| format!("data: {}\n", json(60))).chain(["\n".to_owned()]).collect();
    let heartbeats = format!("{}{token}", ": keep-alive\n\n".repeat(20));
    let load = |name, title, event: &str, large| Load { name, title, bytes: repeated(event), large };
    vec![
        load("token", "150 B tokens", &token, false),
        load("token-crlf", "150 B, CRLF", &crlf(&token), false),
        load("mcp", "500 B MCP", &mcp, false),
        load("mcp-crlf", "500 B, CRLF", &crlf(&mcp), false),
        load("lines", "40 data lines", &lines, false),
        load("heartbeats", "heartbeats 20:1", &heartbeats, false),
        load("64k", "64 KiB", &event("", &json(64 << 10), "\n"), true),
        load("1m", "1 MiB", &event("", &json(1 << 20), "\n"), true),
    ]
}

fn event(head: &str, data: &str, end: &str) -> String {
    format!("{head}data: {data}{end}{end}")
}

fn json(len: usize) -> String {
    let text = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":17,"token":"abc"}} "#;
    text.chars().cycle().take(len).collect()
}

/// About 2 MiB of `event`, and at least two of them.
fn repeated(event: &str) -> Vec<u8> {
    event.repeat(((2 << 20) / event.len()).max(2)).into_bytes()
}

fn cut(bytes: &[u8], piece_len: usize) -> Vec<Bytes> {
    let mut rest = Bytes::from(bytes.to_owned());
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        pieces.push(rest.split_to(piece_len.min(rest.len())));
    }
    pieces
}

/// Prints the tables of docs/benchmarks/sse.md.
#[expect(clippy::print_stdout, reason = "a benchmark talks to a person")]
fn summary(passes: usize) {
    let loads = all_loads();
    for piece_len in [1 << 10, PIECE_LEN, 64 << 10] {
        let columns: Vec<Vec<f64>> = loads.iter().map(|load| fastest(load, piece_len, passes)).collect();
        println!("\nGB/s, pieces of {} KiB, fastest of {passes} passes, all in turn\n", piece_len >> 10);
        println!("| {:30} |{}", "", loads.iter().map(|load| format!(" {:>15} |", load.title)).collect::<String>());
        println!("|{}|{}", "-".repeat(32), loads.iter().map(|_| "----------------:|").collect::<String>());
        for (row, (name, ..)) in CONTESTANTS.iter().enumerate() {
            println!("| {name:30} |{}", columns.iter().map(|column| cell(column[row], "")).collect::<String>());
        }
        for row in [0, 1] {
            let over = format!("{} / sse-stream", CONTESTANTS[row].0);
            println!(
                "| {over:30} |{}",
                columns.iter().map(|column| cell(column[row] / column[2], "x")).collect::<String>()
            );
        }
        let (lf, crlf) = (&columns[0], &columns[1]);
        println!("\nLF over CRLF, 150 B: bodies {:.2}, read buffer {:.2}", lf[0] / crlf[0], lf[1] / crlf[1]);
    }
}

/// Prints what four times the bytes take.
#[expect(clippy::print_stdout, reason = "a benchmark talks to a person")]
fn growth() {
    println!("\nGrowth for four times the bytes: 4 is linear, and what a cache no longer holds comes on top\n");
    println!("| one event, in pieces of | milliseconds | growth | read buffer | growth | growth of a plain copy |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (work, len, lines, piece_len) in [
        ("16 MiB, 1 KiB", 16 << 20, 1, 1 << 10),
        ("4 MiB, 1 KiB", 4 << 20, 1, 1 << 10),
        ("64 KiB, 1 byte", 64 << 10, 1, 1),
        ("1 MiB in lines of 16 bytes, 100 bytes", 1 << 20, 1 << 16, 100),
        ("a comment of 4 MiB, 1 byte", 0, 1, 1),
    ] {
        let [bodies, read_buffer, copy] = [bodies as fn() -> Reader, read_buffer, copy].map(|contestant| {
            let [quarter, whole] = [4, 1].map(|part| one_event(len / part, lines / part, part, piece_len, contestant));
            (whole * 1e3, whole / quarter)
        });
        println!(
            "| {work} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            bodies.0, bodies.1, read_buffer.0, read_buffer.1, copy.1
        );
    }
}

/// The same bytes, piece by piece, to a buffer.
fn copy() -> Reader {
    let mut buf = BytesMut::new();
    Box::new(move |pieces| {
        buf.clear();
        for piece in pieces {
            buf.extend_from_slice(piece);
        }
        look_at(&buf)
    })
}

fn cell(figure: f64, unit: &str) -> String {
    if figure.is_finite() { format!(" {:>15} |", format!("{figure:.2}{unit}")) } else { format!(" {:>15} |", "–") }
}

/// GB/s of each contestant's fastest pass.
fn fastest(load: &Load, piece_len: usize, passes: usize) -> Vec<f64> {
    let pieces = cut(&load.bytes, piece_len);
    let mut contestants: Vec<_> = CONTESTANTS
        .into_iter()
        .map(|(_, contestant, large)| (!load.large || large == Large::Fine).then(contestant))
        .collect();
    let mut seconds = vec![f64::INFINITY; contestants.len()];
    let passes = if load.large { passes.min(40) } else { passes };
    for _ in 0..passes {
        for (read, fastest) in contestants.iter_mut().zip(&mut seconds) {
            if let Some(read) = read {
                *fastest = fastest.min(timed(|| read(black_box(&pieces))));
            }
        }
    }
    let rate = |seconds: f64| if seconds.is_finite() { load.bytes.len() as f64 / seconds / 1e9 } else { f64::NAN };
    seconds.into_iter().map(rate).collect()
}

/// Seconds for one event (or, of no length, for a comment) in small pieces, by a decoder that has seen it before.
fn one_event(len: usize, lines: usize, part: usize, piece_len: usize, contestant: fn() -> Reader) -> f64 {
    let lines = lines.max(1);
    let bytes = match len {
        0 => format!(":{}\n\n", "x".repeat((4 << 20) / part)),
        len => format!("{}\n", format!("data: {}\n", json(len / lines)).repeat(lines)),
    };
    let pieces = cut(bytes.as_bytes(), piece_len);
    let mut read = contestant();
    (0..6).map(|_| timed(|| read(&pieces))).fold(f64::INFINITY, f64::min)
}

/// For `valgrind --tool=callgrind`: prints how many events and bytes there were, so that counts can be divided.
#[expect(clippy::print_stdout, reason = "a benchmark talks to a person")]
fn run_alone(name: &str) {
    let load = all_loads().into_iter().find(|load| load.name == name).expect("there is such a load");
    let pieces = cut(&load.bytes, PIECE_LEN);
    let mut decoder = SseDecoder::new(Limits::default());
    let mut table = EventTable::new();
    let mut events = 0;
    for piece in pieces.iter().cycle().take(pieces.len() * 4) {
        let mut body = piece.clone();
        while let Some(batch) = decoder.push(&mut body, &mut table).expect("no event is too large") {
            events += batch.iter().filter(|event| !event.data().is_empty()).count();
            table.recycle(batch);
        }
    }
    println!("{events} events, {} bytes", load.bytes.len() * 4);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let start = std::time::Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64()
}

const PIECE_LEN: usize = 16 << 10;
