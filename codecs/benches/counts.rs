//! `cargo bench -p shadowcat-codecs --bench counts`: has anything become dearer? Instructions, not time.
//!
//! Each of our ways and its yardstick run under `valgrind --tool=callgrind` in the same run, over the same bytes;
//! what is guarded is their ratio, so that another compiler or library moves both. More than [`SLACK`] above the
//! recorded ratio is a failure; far below, and it should be recorded anew. Where the compiler is the recorded one, our own
//! count is guarded as well, by itself: a yardstick that becomes dearer cannot hide that we do.
//!
//! Without valgrind nothing is counted, and a line says so. How fast we are beside peers is for the other benches; what a
//! link costs for each message is counted in allocations, by `tests/pipe_allocations.rs`. To a filter, its name is `counts`.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark prints, and one that cannot go on should stop"
)]

use std::{
    env,
    hint::black_box,
    process::{Command, ExitCode, Stdio},
};

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use shadowcat_codecs::{
    FrameTable, Limits, OpenBatch,
    envelope::{EnvelopeParser, EnvelopeScan, Strictness},
    line::LineDecoder,
    sse::{EventTable, SseDecoder},
};
use tokio_util::codec::{Decoder as _, LinesCodec};

/// What is guarded: ours, by how many instructions of it for one of the yardstick's, as recorded.
struct Guard {
    name: &'static str,
    recorded: f64,
    /// Instructions of ours alone, by the compiler of [`RECORDED_WITH`].
    absolute: f64,
    load: fn() -> Vec<u8>,
    ours: fn(&[u8]) -> u64,
    yardstick: fn(&[u8]) -> u64,
}

/// What these were recorded with, beside the libraries in `Cargo.lock`; on x86-64, where valgrind knows AVX2 but not
/// AVX-512.
const RECORDED_WITH: &str = "rustc 1.95.0 ";

const GUARDS: [Guard; 7] = [
    Guard {
        name: "lines of 64 B / LinesCodec",
        recorded: 0.279,
        absolute: 151_778.0,
        load: lines,
        ours: our_lines,
        yardstick: lines_codec,
    },
    Guard {
        name: "lines of 1 KiB / LinesCodec",
        recorded: 0.720,
        absolute: 154_499.0,
        load: long_lines,
        ours: our_lines,
        yardstick: lines_codec,
    },
    Guard {
        name: "events, read buffer / LinesCodec",
        recorded: 0.340,
        absolute: 380_346.0,
        load: events,
        ours: our_events,
        yardstick: lines_codec,
    },
    Guard {
        name: "events, shared bodies / LinesCodec",
        recorded: 0.333,
        absolute: 372_385.0,
        load: events,
        ours: our_bodies,
        yardstick: lines_codec,
    },
    Guard {
        name: "envelope / RawValue",
        recorded: 0.531,
        absolute: 1_825_345.0,
        load: messages,
        ours: our_envelopes,
        yardstick: raw_values,
    },
    Guard {
        name: "strict envelope / RawValue",
        recorded: 0.579,
        absolute: 1_993_056.0,
        load: messages,
        ours: our_strict,
        yardstick: raw_values,
    },
    Guard {
        name: "envelope in chunks / RawValue",
        recorded: 1.055,
        absolute: 3_629_300.0,
        load: messages,
        ours: our_scans,
        yardstick: raw_values,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).filter(|arg| !"counts".contains(arg)).collect::<Vec<_>>()[..] {
        ["counted", name, way, passes] => run(name, way, passes.parse().unwrap_or(0)),
        ["--test"] => {
            for guard in &GUARDS {
                assert_ne!((guard.ours)(&(guard.load)()), 0, "{}", guard.name);
                assert_ne!((guard.yardstick)(&(guard.load)()), 0, "{}", guard.name);
            }
        }
        // Others are asked for, or a list.
        [_, ..] => {}
        [] if !has_valgrind() => println!("skipped: valgrind is not there, so no instructions are counted"),
        [] => return table(),
    }
    ExitCode::SUCCESS
}

fn table() -> ExitCode {
    let is_absolute = is_recorded_compiler();
    println!("| what | instructions | recorded | of the yardstick | ratio | recorded | |");
    println!("|---|---:|---:|---:|---:|---:|---|");
    let mut is_good = true;
    for Guard { name, recorded, absolute, .. } in GUARDS {
        let (ours, yardstick) = (counted(name, "ours"), counted(name, "yardstick"));
        let ratio = ours / yardstick;
        let alone = if is_absolute { ours / absolute } else { 1.0 };
        let verdict = match (ratio / recorded, alone) {
            (change, _) if change > SLACK => "DEARER",
            (_, alone) if alone > SLACK => "DEARER by itself",
            (change, alone) if change.min(alone) < 1.0 / SLACK => "cheaper: record it",
            _ => "",
        };
        is_good &= !verdict.starts_with("DEARER");
        println!("| {name} | {ours:.0} | {absolute:.0} | {yardstick:.0} | {ratio:.3} | {recorded:.3} | {verdict} |");
    }
    if !is_absolute {
        println!("\nNot by {RECORDED_WITH}on x86-64 with AVX2, so only the ratios are guarded.");
    }
    if is_good {
        return ExitCode::SUCCESS;
    }
    println!(
        "\nSomething takes over {SLACK} times what was recorded. If it has to, record the new figures and say why."
    );
    ExitCode::FAILURE
}

/// Whether counts can be held against the recorded ones, and not only their ratios.
fn is_recorded_compiler() -> bool {
    #[cfg(target_arch = "x86_64")]
    let is_recorded_machine = std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let is_recorded_machine = false;
    // The one that cargo has built this with: its proxy and ours ask for the same tool chain.
    let said = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("--version").output();
    let is_recorded = |said: &[u8]| said.starts_with(RECORDED_WITH.as_bytes());
    is_recorded_machine && said.is_ok_and(|out| is_recorded(&out.stdout))
}

/// Instructions of one pass: the difference of two runs, so that starting does not count.
fn counted(name: &str, way: &str) -> f64 {
    let total = |passes: u32| {
        let me = env::current_exe().expect("we have a path");
        let out = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(me)
            .args(["counted", name, way, &passes.to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("valgrind starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let count =
            said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim().to_owned());
        count.and_then(|count| count.parse::<f64>().ok()).unwrap_or_else(|| panic!("valgrind counted nothing: {said}"))
    };
    (total(WARM + PASSES) - total(WARM)) / f64::from(PASSES)
}

fn run(name: &str, way: &str, passes: u32) {
    let guard = GUARDS.iter().find(|guard| guard.name == name).expect("a guard of this name");
    let (load, way) = ((guard.load)(), if way == "ours" { guard.ours } else { guard.yardstick });
    for _ in 0..passes {
        black_box(way(black_box(&load)));
    }
}

fn has_valgrind() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|out| out.status.success())
}

fn our_lines(stream: &[u8]) -> u64 {
    let (mut decoder, mut table, mut buf) = (LineDecoder::new(Limits::default()), FrameTable::new(), BytesMut::new());
    let mut sum = 0;
    for read in stream.chunks(READ_LEN) {
        buf.extend_from_slice(read);
        while let Ok(Some(batch)) = decoder.decode(&mut buf, &mut table).map(|open| open.map(OpenBatch::freeze)) {
            sum += batch.iter().map(|line| line.len() as u64).sum::<u64>();
            table.recycle(batch);
        }
    }
    sum
}

fn lines_codec(stream: &[u8]) -> u64 {
    let (mut codec, mut buf) = (LinesCodec::new(), BytesMut::new());
    let mut sum = 0;
    for read in stream.chunks(READ_LEN) {
        buf.extend_from_slice(read);
        while let Ok(Some(line)) = codec.decode(&mut buf) {
            sum += line.len() as u64;
        }
    }
    sum
}

fn our_events(stream: &[u8]) -> u64 {
    let (mut decoder, mut table, mut buf) =
        (SseDecoder::new(Limits::default()), EventTable::default(), BytesMut::new());
    let mut sum = 0;
    for read in stream.chunks(READ_LEN) {
        buf.extend_from_slice(read);
        while let Ok(Some(batch)) = decoder.decode(&mut buf, &mut table) {
            sum += batch.iter().map(|event| event.data().len() as u64).sum::<u64>();
            table.recycle(batch);
        }
    }
    sum
}

fn our_bodies(stream: &[u8]) -> u64 {
    let (mut decoder, mut table) = (SseDecoder::new(Limits::default()), EventTable::default());
    let stream = Bytes::from(stream.to_owned());
    let mut sum = 0;
    for start in (0..stream.len()).step_by(READ_LEN) {
        let mut body = stream.slice(start..stream.len().min(start + READ_LEN));
        while let Ok(Some(batch)) = decoder.push(&mut body, &mut table) {
            sum += batch.iter().map(|event| event.data().len() as u64).sum::<u64>();
            table.recycle(batch);
        }
    }
    sum
}

fn our_envelopes(messages: &[u8]) -> u64 {
    parsed(messages, EnvelopeParser::new(Limits::default()))
}

fn our_strict(messages: &[u8]) -> u64 {
    parsed(messages, EnvelopeParser::new(Limits::default()).with_strictness(Strictness::Strict))
}

fn parsed(messages: &[u8], mut parser: EnvelopeParser) -> u64 {
    let ids = messages.split(|&byte| byte == b'\n').filter_map(|message| parser.parse(message).ok()?.id());
    ids.map(|id| id.end() as u64).sum()
}

fn our_scans(messages: &[u8]) -> u64 {
    let mut scan = EnvelopeScan::new(Limits::default());
    let ids = messages.split(|&byte| byte == b'\n').filter_map(|message| {
        let (head, tail) = message.split_at(message.len() / 2);
        scan.reset();
        scan.feed(head);
        scan.feed(tail);
        scan.finish().ok()?.id()
    });
    ids.map(|id| id.end() as u64).sum()
}

/// What one would write with serde to learn the same of a message in one pass.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

fn raw_values(messages: &[u8]) -> u64 {
    let messages = messages.split(|&byte| byte == b'\n').filter_map(|message| serde_json::from_slice(message).ok());
    let lens = messages.map(|Message { id, method, params, result }| {
        [id, method, params, result].into_iter().flatten().map(|value| value.get().len() as u64).sum::<u64>()
    });
    lens.sum()
}

fn lines() -> Vec<u8> {
    [&[b'x'; 64][..], b"\n"].concat().repeat(1000)
}

fn long_lines() -> Vec<u8> {
    [&[b'x'; 1 << 10][..], b"\n"].concat().repeat(100)
}

/// A model's tokens, as most providers send them.
fn events() -> Vec<u8> {
    let one = |n: usize| {
        format!("id: {n}\ndata: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{n}\"}}}}]}}\n\n")
    };
    (0..1000).map(one).collect::<String>().into_bytes()
}

/// Calls and answers in turns.
fn messages() -> Vec<u8> {
    let one = |n: usize| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{n},\"method\":\"tools/call\",\"params\":{{\"name\":\"search\",\"arguments\":{{\"query\":\"{n}\"}}}}}}\n\
             {{\"jsonrpc\":\"2.0\",\"id\":{n},\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":\"found {n} of them\"}}]}}}}\n"
        )
    };
    (0..500).map(one).collect::<String>().into_bytes()
}

/// How much dearer than recorded is still the same: layouts and alignments move counts by some per cent.
const SLACK: f64 = 1.15;
const READ_LEN: usize = 16 << 10;
/// Passes that are not counted, for what happens once, and those that are.
const WARM: u32 = 2;
const PASSES: u32 = 5;
