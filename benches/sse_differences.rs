//! Prints docs/SSE-DIFFERENCES.md: the grammar table of our own tests, shown to two other crates.
//!
//! ```text
//! cargo bench --bench sse_differences > docs/SSE-DIFFERENCES.md
//! ```
//!
//! Each case is read whole, in two pieces cut at each place, and byte by byte. Not a benchmark: it is here
//! because what it compares with are dependencies of benchmarks only.

#[path = "support/arguments.rs"]
mod arguments;
#[path = "../codecs/tests/grammar/cases.rs"]
mod cases;

use std::{collections::BTreeMap, convert::Infallible, panic, pin::pin, task};

use arguments::Wanted;
use bytes::Bytes;
use cases::{CASES, Case, Rule};
use eventsource_stream::Eventsource;
use futures::{Stream, StreamExt, stream};

/// Type, data and last event id of each event, the reconnection time, and how it ended if not well.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    events: Vec<(String, String, String)>,
    retry: Option<u64>,
    end: Option<&'static str>,
}

type Reader = fn(Vec<Bytes>) -> Said;

const PEERS: [(&str, Reader, &str); 2] = [
    (
        "eventsource-stream 0.2.3",
        by_eventsource_stream,
        "It shows `retry` with an event only, so what came without one is not counted as missing.",
    ),
    (
        "sse-stream 0.3.0",
        by_sse_stream,
        "It promises blocks of fields rather than events, so blocks without `data` are left out here and the last \
         id is carried over, as a caller has to.",
    ),
];

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn main() {
    if arguments::wanted("sse_differences") != Wanted::Measure {
        return;
    }
    panic::set_hook(Box::new(|_| ()));
    println!("# What other crates make of the same event streams\n");
    println!("Printed by `cargo bench --bench sse_differences`; do not edit. The cases are those of");
    println!(
        "`codecs/tests/grammar/cases.rs`, {} of them, which our own decoder passes whole, at every two-cut",
        CASES.len()
    );
    println!("split and byte by byte, in each of its six forms. Here each was read whole, in two pieces cut at each");
    println!("place, and byte by byte. Bytes that are not UTF-8 are compared as replaced text, since the others");
    println!("yield strings. Rules: WHATWG HTML, \"Server-sent events\".");
    for (name, read, note) in PEERS {
        let differences: Vec<_> = CASES.iter().filter_map(|case| Some((case, difference(case, read)?))).collect();
        println!("\n## {name}\n\n{note}\n\n{} of {} cases differ.\n", differences.len(), CASES.len());
        let mut by_rule: BTreeMap<Rule, Vec<_>> = BTreeMap::new();
        for (case, (cut, said)) in differences {
            by_rule.entry(case.rule).or_default().push((case, cut, said));
        }
        for (rule, differences) in by_rule {
            println!("**{}**\n", sentence(rule));
            println!("| stream | read | expected | came |\n|---|---|---|---|");
            for (case, cut, said) in differences {
                let (stream, expected) = (shown(&case.stream.escape_ascii().to_string()), told(&expected(case)));
                println!("| `{stream}` | {cut} | {expected} | {} |", told(&said));
            }
            println!();
        }
    }
}

/// The first way to cut the case that is read differently, and what was read.
fn difference(case: &Case, read: Reader) -> Option<(String, Said)> {
    let expected = expected(case);
    let whole = Bytes::from_static(case.stream);
    let cut_at = |at: usize| (format!("cut at {at}"), vec![whole.slice(..at), whole.slice(at..)]);
    let bytes = (0..whole.len()).map(|at| whole.slice(at..=at)).collect();
    let ways = std::iter::once(("whole".to_owned(), vec![whole.clone()]))
        .chain((1..whole.len()).map(cut_at))
        .chain([("byte by byte".to_owned(), bytes)]);
    for (cut, pieces) in ways {
        let said = panic::catch_unwind(|| read(pieces)).unwrap_or(Said {
            events: Vec::new(),
            retry: None,
            end: Some("panic"),
        });
        let retry_is_unseen = said.retry.is_none() && expected.events.is_empty() && said.end.is_none();
        let retry_fits = said.retry == expected.retry || retry_is_unseen;
        if (&said.events, said.end) != (&expected.events, None) || !retry_fits {
            return Some((cut, said));
        }
    }
    None
}

fn expected(case: &Case) -> Said {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let events = case.events.iter().map(|&(event, data, id)| (event.to_owned(), text(data), id.to_owned()));
    Said { events: events.collect(), retry: case.retry, end: None }
}

fn by_eventsource_stream(pieces: Vec<Bytes>) -> Said {
    let mut said = Said { events: Vec::new(), retry: None, end: None };
    for event in all(bodies(pieces).eventsource()) {
        match event {
            Ok(event) => {
                said.retry = event.retry.and_then(|retry| retry.as_millis().try_into().ok()).or(said.retry);
                said.events.push((event.event, event.data, event.id));
            }
            Err(_) => said.end = Some("error"),
        }
    }
    said
}

fn by_sse_stream(pieces: Vec<Bytes>) -> Said {
    let mut said = Said { events: Vec::new(), retry: None, end: None };
    let mut last_id = String::new();
    for block in all(sse_stream::SseByteStream::new(bodies(pieces))) {
        match block {
            Ok(block) => {
                said.retry = block.retry.or(said.retry);
                last_id = block.id.unwrap_or(last_id);
                if let Some(data) = block.data {
                    let event = block.event.filter(|event| !event.is_empty()).unwrap_or_else(|| "message".to_owned());
                    said.events.push((event, data, last_id.clone()));
                }
            }
            Err(_) => said.end = Some("error, and the end"),
        }
    }
    said
}

fn bodies(pieces: Vec<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::iter(pieces).map(Ok)
}

fn all<S: Stream>(stream: S) -> Vec<S::Item> {
    let mut stream = pin!(stream);
    let mut context = task::Context::from_waker(task::Waker::noop());
    let mut items = Vec::new();
    while let task::Poll::Ready(Some(item)) = stream.as_mut().poll_next(&mut context) {
        items.push(item);
    }
    items
}

fn told(said: &Said) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (event, data, id) in &said.events {
        let id = if id.is_empty() { String::new() } else { format!(", id {}", quoted(id)) };
        let event = if event == "message" { String::new() } else { format!("{} ", quoted(event)) };
        parts.push(format!("{event}{}{id}", quoted(data)));
    }
    if said.events.is_empty() {
        parts.push("no event".to_owned());
    }
    parts.extend(said.retry.map(|retry| format!("retry {retry}")));
    parts.extend(said.end.map(|end| format!("**{end}**")));
    parts.join("; ")
}

fn quoted(text: &str) -> String {
    shown(&format!("`{text:?}`"))
}

/// Short, and safe in a cell.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", short.replace('|', "\\|"))
}

const fn sentence(rule: Rule) -> &'static str {
    match rule {
        Rule::ByteOrderMark => "One leading byte order mark is ignored, and only one",
        Rule::LineEnds => "Lines end with CRLF, LF or CR, and with nothing else",
        Rule::Comments => "A line that starts with a colon is ignored",
        Rule::Fields => "One space behind the colon is not part of the value; names are compared as they are",
        Rule::Data => "Each data field appends its value and an LF",
        Rule::Dispatch => "An event is dispatched if a data field was read, without its last LF",
        Rule::EventType => "The type is that of the last event field, and is reset with each event",
        Rule::Id => "An id holds until the next one; one with NUL is ignored",
        Rule::Retry => "A reconnection time consists of digits only, and needs no event",
        Rule::EndOfStream => "What is pending at the end of the stream is discarded",
        Rule::Utf8 => "What is not UTF-8 is replaced, and the stream goes on",
    }
}
