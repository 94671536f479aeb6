//! `shadowcat demo`: a client, the proxy and a server, and what happened between them.
//!
//! Nothing is pretended: the client talks to this program started as `shadowcat proxy`, which starts this
//! program once more as a small MCP server. Both ends hash every message they send and receive, so equal bytes
//! are shown, not claimed. The same calls are then timed directly and through the proxy, in turns.

mod client;
mod report;
mod server;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::cli::{Failure, RUNTIME};
use client::Client;
use report::Latencies;
pub(crate) use server::serve;

/// Runs the demonstration with `calls` timed calls each way, and prints it on stdout.
pub(crate) fn run(calls: usize) -> Result<ExitCode, Failure> {
    demonstrate(calls).map_err(|error| Failure::new(RUNTIME, format!("the demo failed: {error}")))
}

fn demonstrate(calls: usize) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    writeln!(out, "A client, Shadowcat, and a server as its child. What crosses:\n")?;
    let session = client::session(&mut out)?;
    writeln!(out, "\nThe bytes, hashed where they left and where they arrived:\n")?;
    session.write_to(&mut out)?;
    writeln!(
        out,
        "\nThe cost of {calls} calls of {} bytes, directly and through Shadowcat in turns:\n",
        client::PING_LEN
    )?;
    out.flush()?;
    let (direct, through) = timed(calls)?;
    report::write_costs(&mut out, &direct, &through)?;
    Ok(if session.is_equal() { ExitCode::SUCCESS } else { ExitCode::from(RUNTIME) })
}

/// Times the same calls to two servers, one behind the proxy, in turns, so that both meet the same machine.
fn timed(calls: usize) -> io::Result<(Latencies, Latencies)> {
    let (mut direct, mut through) = (Client::start_direct()?, Client::start_through()?);
    let (mut direct_times, mut through_times) = (Vec::with_capacity(calls), Vec::with_capacity(calls));
    for client in [&mut direct, &mut through] {
        for _ in 0..WARM_UP {
            client.ping()?;
        }
    }
    for turn in (0..calls).step_by(TURN) {
        for _ in turn..calls.min(turn + TURN) {
            direct_times.push(time(|| direct.ping())?);
        }
        for _ in turn..calls.min(turn + TURN) {
            through_times.push(time(|| through.ping())?);
        }
    }
    direct.finish()?;
    through.finish()?;
    Ok((Latencies::new(direct_times), Latencies::new(through_times)))
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn time(what: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    let start = Instant::now();
    what()?;
    Ok(start.elapsed())
}

/// Calls that are not timed, while caches and buffers warm up.
const WARM_UP: usize = 50;
/// Calls to one server before the other has its turn.
const TURN: usize = 50;
