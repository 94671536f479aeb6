//! `cargo bench --bench relay`: an answer that is a long stream of events, through the proxy and directly.
//!
//! Raw sockets on both ends, the proxy a process of its own, in turns in one run; the best of its turns counts. Read
//! the ratio; pin it to one core (`taskset -c 0`) to take wake-ups across cores out. Single calls are `links`'.
//!
//! To a filter, its name is `links/relay`.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on should stop")]
#![expect(clippy::disallowed_methods, reason = "a stopwatch")]

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/http.rs"]
mod http;

use std::{
    io::{self, BufRead as _, Write as _},
    time::Instant,
};

use arguments::Wanted;
use http::Wire;

const EVENT: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progress\":1}}\n\n";

fn main() -> io::Result<()> {
    let (turns, events) = match arguments::wanted("links/relay") {
        Wanted::Measure => (5, 200_000),
        Wanted::Smoke => (1, 1_000),
        Wanted::Nothing => return Ok(()),
    };
    let server = http::serve(move |wire| live(wire, events))?;
    let (mut proxy, address) = http::proxy(&[&format!("http://{server}/mcp")])?;
    let mut out = io::stdout().lock();
    writeln!(out, "{events} events of {} bytes in one answer, in thousands a second\n", EVENT.len())?;
    let [mut direct, mut through] = [0.0; 2];
    for _ in 0..turns {
        for (rate, at) in [(&mut direct, server), (&mut through, address)] {
            let start = Instant::now();
            let len = read_events(&mut Wire::connect(at)?)?;
            assert!(len >= events * EVENT.len(), "events are missing");
            *rate = f64::max(*rate, events as f64 / 1e3 / start.elapsed().as_secs_f64());
        }
    }
    writeln!(out, "| direct | shadowcat | shadowcat / direct |\n|---:|---:|---:|")?;
    writeln!(out, "| {direct:.0} | {through:.0} | {:.2} |", through / direct)?;
    proxy.kill()?;
    proxy.wait().map(drop)
}

/// All bytes of a stream of events, its chunks' sizes included.
fn read_events(wire: &mut Wire) -> io::Result<usize> {
    wire.write("GET /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n")?;
    wire.head()?;
    let mut len = 0;
    let mut tail = Vec::new();
    while !tail.ends_with(b"\r\n0\r\n\r\n") {
        let chunk = wire.reader.fill_buf()?;
        assert!(!chunk.is_empty(), "the stream broke off");
        let taken = chunk.len();
        tail.extend_from_slice(chunk.get(taken.saturating_sub(7)..).unwrap_or_default());
        tail.drain(..tail.len().saturating_sub(7));
        wire.reader.consume(taken);
        len += taken;
    }
    Ok(len)
}

/// A server's life on a connection: answers whatever is asked for with events.
fn live(mut wire: Wire, events: usize) -> io::Result<()> {
    let burst = format!("{:x}\r\n{EVENT}\r\n", EVENT.len()).repeat(100);
    while wire.head()?.is_some() {
        wire.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
        for _ in 0..events / 100 {
            wire.write(&burst)?;
        }
        wire.write("0\r\n\r\n")?;
    }
    Ok(())
}
