//! `cargo bench --bench relay`: what the proxy adds between an HTTP client and an HTTP server.
//!
//! Raw sockets on both ends, the proxy a process of its own, in turns in one run. Closed loop: one call at a time
//! over one connection, the median and the 99th of a hundred of their times (a step of 40 ms would be Nagle's).
//! Events: one answer of many small chunks, as fast as it goes. Read the differences and ratios; pin it to one core
//! (`taskset -c 0`) to take wake-ups across cores out.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on should stop")]
#![expect(clippy::disallowed_methods, reason = "a stopwatch")]
#![expect(clippy::indexing_slicing, reason = "two routes, always")]

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const EVENT: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progress\":1}}\n\n";

fn main() -> io::Result<()> {
    // `cargo bench -- --test` only wants to know that this runs.
    let is_smoke = env::args().any(|arg| arg == "--test");
    let (turns, calls, events) = if is_smoke { (1, 20, 1_000) } else { (10, 1_000, 200_000) };
    let server = serve(events)?;
    let (mut proxy, address) = proxy(server)?;
    let mut out = io::stdout().lock();
    writeln!(out, "closed loop: {} calls each way, in microseconds\n", turns * calls)?;
    for size in [100, 1 << 10, 64 << 10] {
        let mut routes = [(Wire::connect(server)?, Vec::new()), (Wire::connect(address)?, Vec::new())];
        let body = vec![b' '; size - 2];
        let body = [b"{", &body[..], b"}"].concat();
        for _ in 0..turns {
            for (wire, times) in &mut routes {
                for _ in 0..if size > 4096 { calls / 4 } else { calls } {
                    let start = Instant::now();
                    wire.call(&body)?;
                    times.push(start.elapsed());
                }
            }
        }
        let [direct, through] = routes.map(|(_, mut times)| {
            times.sort_unstable();
            (times[times.len() / 2], times[times.len() * 99 / 100])
        });
        for (name, (median, slow)) in [("direct", direct), ("shadowcat", through)] {
            writeln!(out, "{size:>8} B  {name:<10}{:>10.1}{:>10.1}", micros(median), micros(slow))?;
        }
        writeln!(out, "            shadowcat adds {:.1}\n", micros(through.0) - micros(direct.0))?;
    }
    writeln!(out, "{events} events of {} bytes in one answer, in thousands a second\n", EVENT.len())?;
    let mut rates = [0.0; 2];
    for _ in 0..turns.min(3) {
        for (rate, at) in rates.iter_mut().zip([server, address]) {
            let start = Instant::now();
            let len = Wire::connect(at)?.events()?;
            assert!(len >= events * EVENT.len(), "events are missing");
            *rate = f64::max(*rate, thousands(events) / start.elapsed().as_secs_f64());
        }
    }
    writeln!(out, "direct {:.0}, shadowcat {:.0}, ratio {:.2}", rates[0], rates[1], rates[1] / rates[0])?;
    proxy.kill()?;
    proxy.wait().map(drop)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn thousands(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / 1e3
}

/// One connection of a client, or of the server.
struct Wire {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Wire {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(address)?)
    }

    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { writer: stream.try_clone()?, reader: BufReader::with_capacity(128 << 10, stream) })
    }

    fn call(&mut self, body: &[u8]) -> io::Result<()> {
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.writer.write_all(&[head.as_bytes(), body].concat())?;
        let (start, len) = self.head()?.expect("an answer");
        assert!(start.contains(" 200 ") && len == body.len(), "{start}");
        self.body(len).map(drop)
    }

    /// All bytes of a stream of events, its chunks' sizes included.
    fn events(&mut self) -> io::Result<usize> {
        self.writer.write_all(b"GET /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n")?;
        self.head()?;
        let mut len = 0;
        let mut tail = Vec::new();
        while !tail.ends_with(b"\r\n0\r\n\r\n") {
            let chunk = self.reader.fill_buf()?;
            assert!(!chunk.is_empty(), "the stream broke off");
            let taken = chunk.len();
            tail.extend_from_slice(&chunk[taken.saturating_sub(7)..]);
            tail.drain(..tail.len().saturating_sub(7));
            self.reader.consume(taken);
            len += taken;
        }
        Ok(len)
    }

    /// The first line, and the length of what follows. `None` at the end.
    fn head(&mut self) -> io::Result<Option<(String, usize)>> {
        let (mut start, mut len) = (String::new(), 0);
        if self.reader.read_line(&mut start)? == 0 {
            return Ok(None);
        }
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    len = value.trim().parse().expect("a length");
                }
                Some(_) => {}
                None => return Ok(Some((start, len))),
            }
        }
    }

    fn body(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut body = vec![0; len];
        self.reader.read_exact(&mut body)?;
        Ok(body)
    }

    /// A server's life on this connection: answers a POST with its body, and a GET with events.
    fn serve(mut self, events: usize) -> io::Result<()> {
        let burst = format!("{:x}\r\n{EVENT}\r\n", EVENT.len()).repeat(100);
        while let Some((start, len)) = self.head()? {
            if start.starts_with("GET") {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                self.writer.write_all(head.as_bytes())?;
                for _ in 0..events / 100 {
                    self.writer.write_all(burst.as_bytes())?;
                }
                self.writer.write_all(b"0\r\n\r\n")?;
                continue;
            }
            let body = self.body(len)?;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n");
            self.writer.write_all(&[head.as_bytes(), &body].concat())?;
        }
        Ok(())
    }
}

fn serve(events: usize) -> io::Result<SocketAddr> {
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            thread::spawn(move || Wire::new(stream)?.serve(events));
        }
    });
    Ok(address)
}

fn proxy(server: SocketAddr) -> io::Result<(Child, SocketAddr)> {
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_shadowcat"))
        .args(["proxy", "--listen", "127.0.0.1:0", &format!("http://{server}/mcp")])
        .stderr(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let mut stderr = BufReader::new(proxy.stderr.take().expect("a pipe"));
    while !line.contains("listening on ") {
        line.clear();
        assert!(stderr.read_line(&mut line)? > 0, "the proxy does not listen");
    }
    thread::spawn(move || io::copy(&mut stderr, &mut io::sink()));
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    Ok((proxy, address.parse().expect("an address")))
}
