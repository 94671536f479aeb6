//! `cargo bench --bench links`: what a call costs through each of the four links, beside direct and beside nginx.
//!
//! Whole processes on real pipes and loopback sockets, all routes in turns in one run. Closed loop: one call at a
//! time on one connection; half of the calls took no longer than p50, 99 of a hundred no longer than p99. A step of
//! 40 ms would be Nagle's algorithm waiting for a delayed acknowledgement. Every answer is compared, byte by byte.
//!
//! The server on stdio is the demo's, the one on HTTP a thread here with blocking sockets; both answer the same. nginx
//! is asked where there is one: one worker, no buffering, kept connections. Read the ratios; pin it to one core
//! (`taskset -c 0`) to take wake-ups across cores out.
//!
//! To a filter, its name is `links/calls`.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on should stop")]
#![expect(clippy::disallowed_methods, reason = "a stopwatch")]

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/http.rs"]
mod http;

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use arguments::Wanted;
use http::{Head, PROXY, Wire, proxy};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"0"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

fn main() -> io::Result<()> {
    let (turns, calls) = match arguments::wanted("links/calls") {
        Wanted::Measure => (10, 1_000),
        Wanted::Smoke => (1, 20),
        Wanted::Nothing => return Ok(()),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "closed loop, {} calls a row (a quarter of them for 64 KiB), in microseconds\n", turns * calls)?;
    writeln!(out, "| call | route | p50 | p99 | longest | p50 added to direct |")?;
    writeln!(out, "|---|---|---:|---:|---:|---:|")?;
    for size in [100, 1 << 10, 64 << 10] {
        let mut routes = routes()?;
        let mut direct = 0.0;
        for turn in 0..=turns {
            for route in &mut routes {
                // The first turn warms up.
                route.run(size, if size > 4096 { calls / 4 } else { calls }, turn > 0)?;
            }
        }
        for mut route in routes {
            route.times.sort_unstable();
            let of_hundred =
                |hundredth: usize| micros(route.times.get((route.times.len() * hundredth / 100).saturating_sub(1)));
            let (p50, p99, longest) = (of_hundred(50), of_hundred(99), of_hundred(100));
            if route.name.ends_with("direct") {
                direct = p50;
            }
            let (name, added) = (route.name, p50 - direct);
            writeln!(out, "| {size} B | {name} | {p50:.1} | {p99:.1} | {longest:.0} | {added:.1} |")?;
            route.end()?;
        }
    }
    Ok(())
}

/// Those that begin with `direct` are what the ones below them are held against.
fn routes() -> io::Result<Vec<Route>> {
    let server = http::serve(live)?;
    let url = format!("http://{server}/mcp");
    let mut routes = vec![
        Route::stdio("stdio, direct", &["__demo-server"])?,
        Route::stdio("pipe: stdio to stdio", &["proxy", "--", PROXY, "__demo-server"])?,
        Route::stdio("dial: stdio to HTTP", &["proxy", &url])?,
        Route::http("HTTP, direct", None, server)?,
    ];
    if let Some((nginx, address)) = nginx(server)? {
        routes.push(Route::http("nginx: HTTP to HTTP", Some(nginx), address)?);
    }
    for (name, upstream) in
        [("relay: HTTP to HTTP", &[url.as_str()][..]), ("mux: HTTP to stdio", &["--", PROXY, "__demo-server"])]
    {
        let (proxy, address) = proxy(upstream)?;
        routes.push(Route::http(name, Some(proxy), address)?);
    }
    Ok(routes)
}

/// A way to a server, and how long its calls took.
struct Route {
    name: &'static str,
    client: Client,
    child: Option<Child>,
    next_id: usize,
    times: Vec<Duration>,
}

enum Client {
    Stdio(ChildStdin, BufReader<ChildStdout>),
    Http(Wire, String),
}

impl Route {
    fn stdio(name: &'static str, words: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(PROXY)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = BufReader::with_capacity(256 << 10, child.stdout.take().expect("piped"));
        let client = Client::Stdio(child.stdin.take().expect("piped"), stdout);
        Self::open(name, client, Some(child))
    }

    fn http(name: &'static str, child: Option<Child>, address: SocketAddr) -> io::Result<Self> {
        Self::open(name, Client::Http(Wire::connect(address)?, String::new()), child)
    }

    fn open(name: &'static str, mut client: Client, child: Option<Child>) -> io::Result<Self> {
        let answer = client.ask(INITIALIZE)?;
        assert!(holds(&answer, br#""protocolVersion":"2025-11-25""#), "{name}: {}", answer.escape_ascii());
        client.tell(INITIALIZED)?;
        Ok(Self { name, client, child, next_id: 1_000_000, times: Vec::new() })
    }

    fn run(&mut self, size: usize, calls: usize, is_timed: bool) -> io::Result<()> {
        let head = r#"{"jsonrpc":"2.0","id":1000000,"method":"tools/call","params":{"name":"echo","arguments":{"t":""#;
        let arguments = format!(r#"{{"t":"{}"}}"#, "x".repeat(size.saturating_sub(head.len() + 4).max(1)));
        for _ in 0..calls {
            self.next_id += 1;
            let id = self.next_id;
            let call = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{arguments}}}}}"#
            );
            let start = Instant::now();
            let answer = self.client.ask(&call)?;
            let elapsed = start.elapsed();
            assert!(holds(&answer, answer_to(&call).as_bytes()), "{}: {}", self.name, answer.escape_ascii());
            if is_timed {
                self.times.push(elapsed);
            }
        }
        Ok(())
    }

    fn end(self) -> io::Result<()> {
        let Self { client, child, .. } = self;
        let listens = matches!(client, Client::Http(..));
        drop(client);
        let Some(mut child) = child else { return Ok(()) };
        if listens {
            // Its own children end with it: each watches for its end.
            child.kill()?;
        }
        child.wait().map(drop)
    }
}

impl Client {
    fn ask(&mut self, message: &str) -> io::Result<Vec<u8>> {
        match self {
            Self::Stdio(stdin, stdout) => {
                stdin.write_all(&[message.as_bytes(), b"\n"].concat())?;
                let mut line = Vec::new();
                stdout.read_until(b'\n', &mut line)?;
                Ok(line)
            }
            Self::Http(wire, session) => {
                let (head, body) = post(wire, message, session)?;
                assert!(head.start.contains(" 200 "), "{}", head.start);
                if let Some(id) = head.session {
                    *session = format!("mcp-protocol-version: 2025-11-25\r\nmcp-session-id: {id}\r\n");
                }
                Ok(body)
            }
        }
    }

    fn tell(&mut self, message: &str) -> io::Result<()> {
        match self {
            Self::Stdio(stdin, _) => stdin.write_all(&[message.as_bytes(), b"\n"].concat()),
            Self::Http(wire, session) => {
                let (head, _) = post(wire, message, session)?;
                assert!(head.start.contains(" 202 "), "{}", head.start);
                Ok(())
            }
        }
    }
}

fn post(wire: &mut Wire, message: &str, headers: &str) -> io::Result<(Head, Vec<u8>)> {
    let request = format!(
        "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\n{headers}content-length: {}\r\n\r\n{message}",
        message.len()
    );
    wire.write(&request)?;
    let head = wire.head()?.expect("an answer");
    let body = body(wire, &head)?;
    Ok((head, body))
}

fn body(wire: &mut Wire, head: &Head) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if !head.is_chunked {
        body.resize(head.len, 0);
        wire.reader.read_exact(&mut body)?;
        return Ok(body);
    }
    loop {
        let mut size = String::new();
        wire.reader.read_line(&mut size)?;
        let len = usize::from_str_radix(size.trim(), 16).expect("a size");
        let mut chunk = vec![0; len + 2];
        wire.reader.read_exact(&mut chunk)?;
        chunk.truncate(len);
        body.append(&mut chunk);
        if len == 0 {
            return Ok(body);
        }
    }
}

/// A server's life on a connection.
fn live(mut wire: Wire) -> io::Result<()> {
    while let Some(head) = wire.head()? {
        let message = String::from_utf8(body(&mut wire, &head)?).expect("JSON is UTF-8");
        let (status, body) = match () {
            () if !head.start.starts_with("POST") => ("405 Method Not Allowed", String::new()),
            () if !message.contains("\"id\":") => ("202 Accepted", String::new()),
            () => ("200 OK", answer_to(&message)),
        };
        wire.write(&format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))?;
    }
    Ok(())
}

/// What both servers answer to a request.
fn answer_to(request: &str) -> String {
    let Some((_, arguments)) = request.split_once(r#""arguments":"#) else {
        return r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"0"}}}"#.to_owned();
    };
    let arguments = arguments.strip_suffix("}}").expect("the end of a call");
    let id = request.split_once(r#""id":"#).and_then(|(_, rest)| rest.split(',').next()).expect("an id");
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"structuredContent":{arguments}}}}}"#)
}

/// `None` where there is no nginx.
fn nginx(server: SocketAddr) -> io::Result<Option<(Child, SocketAddr)>> {
    // It cannot choose a port; whoever takes this one in between makes the benchmark stop.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let folder = env::temp_dir().join(format!("shadowcat-bench-{}-{}", std::process::id(), address.port()));
    fs::create_dir_all(&folder)?;
    let place = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {place}/{kind};"))
        .concat();
    let text = format!(
        "master_process off; daemon off; worker_processes 1; pid {place}/pid; error_log stderr crit;
         events {{ }}
         http {{ access_log off; {temporary} client_max_body_size 0; keepalive_requests 10000000;
             upstream server {{ server {server}; keepalive 8; keepalive_requests 10000000; }}
             server {{ listen {address}; location / {{ proxy_pass http://server; proxy_http_version 1.1;
                 proxy_set_header Connection ''; proxy_buffering off; proxy_request_buffering off; }} }} }}"
    );
    let config = folder.join("nginx.conf");
    fs::write(&config, text)?;
    let started = Command::new("nginx").arg("-c").arg(&config).arg("-p").arg(&folder).stderr(Stdio::null()).spawn();
    let mut nginx = match started {
        Ok(nginx) => nginx,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    while TcpStream::connect(address).is_err() {
        assert!(nginx.try_wait()?.is_none(), "nginx ended");
        thread::yield_now();
    }
    fs::remove_dir_all(&folder)?;
    Ok(Some((nginx, address)))
}

fn holds(answer: &[u8], expected: &[u8]) -> bool {
    answer.windows(expected.len()).any(|part| part == expected)
}

fn micros(time: Option<&Duration>) -> f64 {
    time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
