//! `cargo bench --bench pipe`: what the proxy adds between a client and a server, beside two `cat`s.
//!
//! Whole processes on real pipes, in turns in one run: directly, through `cat` on either side (the floor: what any
//! two processes in between cost), and through `shadowcat proxy`. Closed loop: one call at a time, the median of
//! their times; once more through `shadowcat pipe` on either side, with the envelope and without. Pipelined: many
//! messages one way and back, as fast as they go. Read the ratios; pin it to one core (`taskset -c 0`) to take
//! wake-ups across cores out.
//!
//! To a filter, its name is `links/pipe`. With a program of another commit in `SHADOWCAT_BASELINE`, that one beside ours
//! with `--pool off` and `--pool on`, one call at a time: for docs/benchmarks/pool.md.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on should stop")]
#![expect(clippy::disallowed_methods, reason = "a stopwatch")]
#![expect(clippy::indexing_slicing, reason = "three routes, always")]

#[path = "support/arguments.rs"]
mod arguments;

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use arguments::Wanted;

const PROXY: &str = env!("CARGO_BIN_EXE_shadowcat");

/// A name, and what stands in front of a server command and behind it.
type Route = (&'static str, &'static str, &'static str);

const ROUTES: [Route; 3] =
    [("direct", "exec", ""), ("two cats", "cat |", "| cat"), ("shadowcat", "exec \"$0\" proxy --", "")];

/// What the envelope adds: the same processes and the same system calls, with it and without.
const FILTERS: [Route; 3] = [
    ("direct", "exec", ""),
    ("two filters", "\"$0\" pipe --json off |", "| \"$0\" pipe --json off"),
    ("and envelope", "\"$0\" pipe --json envelope |", "| \"$0\" pipe --json envelope"),
];

/// What was before there was a pool, and what is with it and without.
const POOLS: [Route; 3] = [
    ("baseline", "exec \"$SHADOWCAT_BASELINE\" proxy --", ""),
    ("--pool off", "exec \"$0\" proxy --pool off --", ""),
    ("--pool on", "exec \"$0\" proxy --pool on --", ""),
];

/// A server behind a route.
struct Peer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

fn main() -> io::Result<()> {
    let (turns, calls, bytes) = match arguments::wanted("links/pipe") {
        Wanted::Measure => (10, 1000, 64 << 20),
        Wanted::Smoke => (1, 20, 1 << 16),
        Wanted::Nothing => return Ok(()),
    };
    let mut out = io::stdout().lock();
    if env::var_os("SHADOWCAT_BASELINE").is_some() {
        return pools(turns, calls, &mut out);
    }
    writeln!(out, "closed loop: median of {} calls, in microseconds\n", turns * calls)?;
    for size in [100, 1 << 10, 64 << 10] {
        let medians = closed_loop(&ROUTES, size, turns, if size > 4096 { calls / 4 } else { calls })?;
        for ((name, ..), median) in ROUTES.iter().zip(medians) {
            writeln!(out, "{size:>8} B  {name:<10}{:>10.1}", median.as_secs_f64() * 1e6)?;
        }
        let [direct, cats, proxy] = medians.map(|median| median.as_secs_f64());
        writeln!(out, "            shadowcat adds {:.2} of what two cats add\n", (proxy - direct) / (cats - direct))?;
    }
    writeln!(out, "closed loop through a filter on either side, that reads the envelope or not\n")?;
    for size in [100, 300, 4 << 10] {
        let medians = closed_loop(&FILTERS, size, turns, calls)?;
        for ((name, ..), median) in FILTERS.iter().zip(medians) {
            writeln!(out, "{size:>8} B  {name:<12}{:>8.1}", median.as_secs_f64() * 1e6)?;
        }
        let [_, off, envelope] = medians.map(|median| median.as_secs_f64());
        writeln!(out, "            the envelope makes it {:.3} times as long\n", envelope / off)?;
    }
    writeln!(out, "pipelined: messages a second through a server that sends each back\n")?;
    for size in [100, 1 << 10, 64 << 10, 1 << 20] {
        let rates = pipelined(size, turns, (bytes / if size < 1000 { 4 } else { 1 } / size).max(2))?;
        for ((name, ..), rate) in ROUTES.iter().zip(rates) {
            writeln!(out, "{size:>8} B  {name:<10}{rate:>10.0}/s")?;
        }
        writeln!(out, "            shadowcat reaches {:.2} of two cats\n", rates[2] / rates[1])?;
    }
    Ok(())
}

/// Prints a table of docs/benchmarks/pool.md.
fn pools(turns: usize, calls: usize, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "median of {} calls, one at a time, in µs\n", turns * calls)?;
    writeln!(out, "| message | before pooling | `--pool off` | `--pool on` | off / before | on / off |")?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|")?;
    for (size, name) in [(100, "100 B"), (8 << 10, "8 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB")] {
        let calls = if size > 16_384 { calls / 10 } else { calls };
        let [before, off, on] = closed_loop(&POOLS, size, turns, calls)?.map(|median| median.as_secs_f64() * 1e6);
        let ratios = format!("{:.2} | {:.2}", off / before, on / off);
        writeln!(out, "| {name} | {before:.1} | {off:.1} | {on:.1} | {ratios} |")?;
    }
    Ok(())
}

/// The median call of each route; the routes have their turns one after the other, so that all meet the same
/// machine.
fn closed_loop(routes: &[Route; 3], size: usize, turns: usize, calls: usize) -> io::Result<[Duration; 3]> {
    let head = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":""#;
    let text = "x".repeat(size.saturating_sub(head.len() + 5));
    let call = [head, &text, "\"}}}\n"].concat();
    let server = format!("\"{PROXY}\" __demo-server");
    let mut peers =
        [Peer::start(&routes[0], &server)?, Peer::start(&routes[1], &server)?, Peer::start(&routes[2], &server)?];
    let mut times: [Vec<Duration>; 3] = Default::default();
    for turn in 0..=turns {
        for (peer, times) in peers.iter_mut().zip(&mut times) {
            for _ in 0..calls {
                let start = Instant::now();
                peer.stdin.write_all(call.as_bytes())?;
                peer.read_line()?;
                // The first turn warms up.
                if turn > 0 {
                    times.push(start.elapsed());
                }
            }
        }
    }
    for peer in peers {
        peer.end()?;
    }
    Ok(times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    }))
}

/// Messages a second on each route, the best of its turns.
fn pipelined(size: usize, turns: usize, count: usize) -> io::Result<[f64; 3]> {
    let head = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":""#;
    let text = "x".repeat(size.saturating_sub(head.len() + 4));
    let message = [head, &text, "\"}}\n"].concat();
    let burst = message.repeat((64 << 10) / message.len() + 1).into_bytes();
    let mut rates = [0_f64; 3];
    for _ in 0..turns {
        for (route, rate) in ROUTES.iter().zip(&mut rates) {
            *rate = rate.max(one_burst(route, &burst, count * message.len())? / message.len() as f64);
        }
    }
    Ok(rates)
}

/// Sends `total` bytes or a little more to a server that is `cat`, and reads them back. Bytes a second.
fn one_burst(route: &Route, burst: &[u8], total: usize) -> io::Result<f64> {
    let mut peer = Peer::start(route, "cat")?;
    let rounds = total.div_ceil(burst.len());
    let start = Instant::now();
    let mut received = 0;
    thread::scope(|scope| {
        let stdin = &mut peer.stdin;
        let writer = scope.spawn(move || (0..rounds).try_for_each(|_| stdin.write_all(burst)));
        let mut buf = vec![0; 256 << 10];
        while received < rounds * burst.len() {
            received += match peer.stdout.get_mut().read(&mut buf)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => read,
            };
        }
        writer.join().expect("the writer does not panic")
    })?;
    let elapsed = start.elapsed();
    peer.end()?;
    Ok(received as f64 / elapsed.as_secs_f64())
}

impl Peer {
    fn start((_, before, behind): &Route, server: &str) -> io::Result<Self> {
        let script = format!("{before} {server} {behind}");
        let mut child =
            Command::new("sh").args(["-c", &script, PROXY]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::with_capacity(256 << 10, child.stdout.take().expect("piped"));
        Ok(Self { child, stdin, stdout })
    }

    fn read_line(&mut self) -> io::Result<()> {
        loop {
            let buf = self.stdout.fill_buf()?;
            let (len, is_whole) = match buf.iter().position(|&byte| byte == b'\n') {
                Some(at) => (at + 1, true),
                None if buf.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => (buf.len(), false),
            };
            self.stdout.consume(len);
            if is_whole {
                return Ok(());
            }
        }
    }

    fn end(self) -> io::Result<()> {
        let Self { mut child, stdin, stdout } = self;
        drop((stdin, stdout));
        child.wait().map(drop)
    }
}
