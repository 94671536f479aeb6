//! What the counters say of what goes wrong, over each link of the real program: errors given, answers that come too
//! late, frames that are no messages, waits that end, copies.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/exposition.rs"]
mod exposition;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/legacy.rs"]
mod legacy;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/mux.rs"]
mod mux;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/upstream.rs"]
mod upstream;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Duration,
};

use client::{Pending, Request};
use exposition::Scrape;
use legacy::Client;
use mux::{Mux, ask};
use rustix::process::Signal;
use support::{Launch, Session, eventually};
use temp::TempDir;
use upstream::Upstream;

/// Where a proxy shows its counters, by the line it says it in.
fn shown_at(session: &mut Session) -> SocketAddr {
    let line = session.stderr.line();
    let address = line.strip_prefix("metrics at http://").and_then(|rest| rest.strip_suffix("/metrics"));
    address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

fn request(id: usize) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t"}}}}"#)
}

fn result(id: usize) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
}

/// Asserts what families have counted, and that they have counted nothing else.
#[track_caller]
fn assert_counted(address: SocketAddr, families: &[(&str, &[(&str, f64)])]) {
    let scrape = Scrape::of(address, "/metrics");
    for (family, expected) in families {
        let name = format!("shadowcat_{family}_total");
        let expected: Vec<_> = expected.iter().map(|(labels, count)| (format!("{name}{{{labels}}}"), *count)).collect();
        assert_eq!(scrape.since(&Scrape::default(), &name), expected);
    }
}

#[test]
fn pipe_counts_errors_by_who_is_to_blame_and_answers_that_nobody_waits_for() {
    // Answers what nobody asked, then says what is too long to pass, then only reads.
    let script = format!(
        r#"read -r first; echo '{}'; printf '{{"jsonrpc":"2.0","id":1,"result":"%070000d"}}\n' 0
        while read -r line; do :; done"#,
        result(7)
    );
    let options = ["--metrics", "0", "--log-level", "off", "--max-frame-len", "64KiB", "--max-pending", "1"];
    let mut session = Session::of_script(&options, &script);
    let address = shown_at(&mut session);
    session.send(request(1) + "\n");
    assert_eq!(session.stdout.line(), result(7));
    assert!(session.stdout.line().contains("message_too_large"));
    session.send(request(2) + "\n" + &request(3) + "\n");
    assert!(session.stdout.line().contains("too_many_pending"));
    session.send(request(4).replace("\"t\"", &format!("\"{}\"", "t".repeat(70_000))) + "\n");
    assert!(session.stdout.line().contains("message_too_large"));
    let errors = [
        ("blame=\"downstream\",reason=\"message_too_large\"", 1.0),
        ("blame=\"upstream\",reason=\"message_too_large\"", 1.0),
        ("blame=\"us\",reason=\"too_many_pending\"", 1.0),
    ];
    assert_counted(address, &[("errors", &errors), ("late_answers", &[("link=\"pipe\"", 1.0)]), ("timeouts", &[])]);
    session.signal(Signal::TERM);
    session.wait();
}

#[test]
fn dial_counts_errors_late_answers_copies_and_waits() {
    let upstream = Upstream::start();
    let options = ["proxy", "--metrics", "0", "--log-level", "off", "--response-timeout", "1s", &upstream.url];
    let mut session = Launch::new(options).start();
    let address = shown_at(&mut session);
    session.send(request(1) + "\n");
    upstream.post().answer(500, "", "");
    assert!(session.stdout.line().contains("upstream_status"));
    session.send(request(2) + "\n");
    let mut events = upstream.post().events();
    events.message(&result(77));
    events.message("no json");
    events.message(&result(2));
    events.end();
    assert_eq!([session.stdout.line(), session.stdout.line()], [result(77), result(2)]);
    session.send(request(3) + "\n");
    let long = result(3).replace("{}", &format!("\"{}\"", "x".repeat(200_000)));
    upstream.post().chunked_json(&long);
    assert_eq!(session.stdout.line(), long);
    session.send(request(4) + "\n");
    let unanswered = upstream.post();
    assert!(session.stdout.line().contains("\"timeout\""));
    let errors =
        [("blame=\"upstream\",reason=\"timeout\"", 1.0), ("blame=\"upstream\",reason=\"upstream_status\"", 1.0)];
    assert_counted(
        address,
        &[
            ("errors", &errors),
            ("late_answers", &[("link=\"dial\"", 1.0)]),
            ("noise_frames", &[("link=\"dial\",to=\"client\"", 1.0)]),
            ("timeouts", &[("what=\"response\"", 1.0)]),
            ("copies", &[("reason=\"answer_join\"", 1.0)]),
        ],
    );
    drop(unanswered);
    session.end();
}

/// A connection of lines that asks once and is answered.
fn ask_by_lines(path: &Path, upstream: &Upstream, answer: impl FnOnce(upstream::Asked)) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(support::DEADLINE)).unwrap();
    stream.write_all((request(1) + "\n").as_bytes()).unwrap();
    answer(upstream.post());
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn pools_serve_lines_bodies_and_what_we_say_ourselves() {
    let (upstream, place) = (Upstream::start(), TempDir::new().unwrap());
    let (path, listen) = (place.join("s"), format!("unix:{}", place.join("s").display()));
    let options = ["proxy", "--listen", &listen, "--metrics", "0", "--pool", "on", &upstream.url];
    let mut proxy = Launch::new(options).start();
    let line = proxy.stderr.line_with("metrics at http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/metrics")).unwrap();
    proxy.stderr.line_with("listening on ");
    let address: SocketAddr = address.parse().unwrap();
    let long = result(1).replace("{}", &format!("\"{}\"", "x".repeat(24 << 10)));
    // As pieces come: a block is taken again where it is long enough.
    for _ in 0..12 {
        assert_eq!(ask_by_lines(&path, &upstream, |asked| asked.chunked_json(&long)), format!("{long}\n"));
        assert!(ask_by_lines(&path, &upstream, |asked| asked.status(500)).contains("upstream_status"));
    }
    let scrape = Scrape::of(address, "/metrics");
    for pool in ["stdio", "http", "own"] {
        let hits = scrape.get(&format!("shadowcat_pool_hits_total{{pool=\"{pool}\"}}"));
        assert!(hits > 0.0, "{pool}");
    }
    proxy.signal(Signal::TERM);
    proxy.wait();
}

/// What the server says is copied for each request of a batch: as often as the budget has room for it.
#[test]
fn an_error_that_names_no_request_is_written_for_each_within_the_budget() {
    let upstream = Upstream::start();
    let options = ["proxy", "--metrics", "0", "--pool", "on", "--log-level", "off", "--max-frame-len", "1MiB"];
    let mut session = Launch::new([&options[..], &["--memory-budget", "12MiB", &upstream.url]].concat()).start();
    let address = shown_at(&mut session);
    let batch: Vec<_> = (0..16).map(request).collect();
    session.send(format!("[{}]\n", batch.join(",")));
    let words = "x".repeat(100_000);
    let error = format!(r#"{{"jsonrpc":"2.0","error":{{"code":-32000,"message":"{words}"}}}}"#);
    upstream.post().answer(400, "Content-Type: application/json\r\n", &error);
    let lines: Vec<_> = batch.iter().map(|_| session.stdout.line()).collect();
    let (theirs, ours): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.contains(&words));
    assert!(theirs.len() > 4 && ours.len() > 4, "{} of theirs, {} of ours", theirs.len(), ours.len());
    assert!(
        theirs.iter().all(|line| line.contains("\"id\":")) && ours.iter().all(|line| line.contains("upstream_status"))
    );
    let scrape = Scrape::of(address, "/metrics");
    let written = ["hits", "misses"].map(|which| scrape.get(&format!("shadowcat_pool_{which}_total{{pool=\"own\"}}")));
    assert_eq!(written.iter().sum::<f64>(), 16.0);
    session.signal(Signal::TERM);
    session.wait();
}

#[test]
fn waits_for_a_client_of_lines_and_for_its_server_are_counted() {
    let place = TempDir::new().unwrap();
    let (path, listen) = (place.join("s"), format!("unix:{}", place.join("s").display()));
    // The system takes so many connections for a listener that accepts none, and lets others wait.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let target = listener.local_addr().unwrap();
    let _taken: Vec<_> =
        (0..8).map_while(|_| TcpStream::connect_timeout(&target, Duration::from_millis(200)).ok()).collect();
    let target = format!("tcp:{target}");
    let options = ["proxy", "--listen", &listen, "--metrics", "0", "--connect-timeout", "300ms", &target];
    let mut proxy = Launch::new(options).start();
    let line = proxy.stderr.line_with("metrics at http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/metrics")).unwrap();
    proxy.stderr.line_with("listening on ");
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(support::DEADLINE)).unwrap();
    stream.write_all((request(1) + "\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(line.contains(r#""reason":"timeout""#) && line.contains(r#""afterMs":300"#), "{line}");
    assert_counted(address.parse().unwrap(), &[("timeouts", &[("what=\"connect\"", 1.0)])]);
    proxy.signal(Signal::TERM);
    proxy.wait();
}

#[test]
fn a_client_of_dial_that_reads_nothing_is_counted() {
    let (upstream, place) = (Upstream::start(), TempDir::new().unwrap());
    let (path, listen) = (place.join("s"), format!("unix:{}", place.join("s").display()));
    let options =
        ["proxy", "--listen", &listen, "--metrics", "0", "--slow-consumer", "disconnect:300ms", &upstream.url];
    let mut proxy = Launch::new(options).start();
    let line = proxy.stderr.line_with("metrics at http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/metrics")).unwrap();
    proxy.stderr.line_with("listening on ");
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all((request(1) + "\n").as_bytes()).unwrap();
    upstream.post().json(result(1).replace("{}", &format!("\"{}\"", "x".repeat(4 << 20))));
    proxy.stderr.line_with("took longer than 300 ms");
    assert_counted(address.parse().unwrap(), &[("timeouts", &[("what=\"write\"", 1.0)])]);
    drop(stream);
    proxy.signal(Signal::TERM);
    proxy.wait();
}

#[test]
fn relay_counts_streams_that_fall_silent() {
    let upstream = Upstream::start();
    let options = ["proxy", "--listen", "0", "--metrics", "/metrics", "--sse-read-timeout", "200ms", &upstream.url];
    let mut session = Launch::new(options).start();
    let line = session.stderr.line();
    let address = line.strip_prefix("listening on http://").and_then(|rest| rest.strip_suffix("/mcp")).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let asked = Request::post(request(1)).begin(address);
    let silent = upstream.post().events();
    // The answer is broken off.
    let _ = asked.try_response().map(|mut response| response.read_all());
    assert_counted(address, &[("timeouts", &[("what=\"event_read\"", 1.0)])]);
    drop(silent);
    session.signal(Signal::TERM);
}

/// Each side apart: what one takes late, the other has taken long before.
#[test]
fn relay_counts_how_long_either_side_takes_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 16 << 10).unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    // Bodies that are not looked at: what waits is soon on its way.
    let options = ["proxy", "--listen", "0", "--metrics", "/metrics", "--header-check", "off", &url];
    let mut session = Launch::new(options).start();
    let line = session.stderr.line();
    let address = line.strip_prefix("listening on http://").and_then(|rest| rest.strip_suffix("/mcp")).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let blocked = |side| {
        Scrape::of(address, "/metrics")
            .get(&format!("shadowcat_blocked_seconds_total{{link=\"relay\",side=\"{side}\"}}"))
    };
    let long = "x".repeat(12 << 20);
    let body = request(1).replace("\"t\"", &format!("\"{long}\""));
    let answer = result(1).replace("{}", &format!("\"{long}\""));
    let body_len = body.len();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        thread::park_timeout(4 * LATE);
        let mut reader = BufReader::new(&mut socket);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        reader.read_exact(&mut vec![0; body_len]).unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
        socket.write_all(format!("{head}: {}\r\n\r\n{answer}", answer.len()).as_bytes()).unwrap();
    });
    let socket = TcpStream::connect(address).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 16 << 10).unwrap();
    let mut asked = Pending::of(socket);
    let request = Request::post(body);
    let (head, body) = request.parts(address);
    asked.write(&[head.as_bytes(), body].concat());
    let mut response = asked.response();
    let (for_server, for_client) = (blocked("server"), blocked("client"));
    assert!(for_server >= LATE.as_secs_f64(), "{for_server}");
    assert!(for_client < LATE.as_secs_f64(), "{for_client}");
    thread::park_timeout(4 * LATE);
    assert_eq!(response.read_all().unwrap().len(), result(1).len() + long.len());
    server.join().unwrap();
    eventually("the wait for the client is counted", || blocked("client") >= LATE.as_secs_f64());
    session.signal(Signal::TERM);
}

/// A part of how long a side takes nothing: before that, what the system has room for is on its way.
const LATE: Duration = Duration::from_millis(300);

#[test]
fn relay_counts_what_is_no_message() {
    let upstream = Upstream::start();
    let mut session = Launch::new(["proxy", "--listen", "0", "--metrics", "/metrics", &upstream.url]).start();
    let line = session.stderr.line();
    let address = line.strip_prefix("listening on http://").and_then(|rest| rest.strip_suffix("/mcp")).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let asked = Request::post("no json").begin(address);
    upstream.post().json("{\"neither\"");
    assert_eq!(asked.response().text(), "{\"neither\"");
    let scrape = Scrape::of(address, "/metrics");
    assert_eq!(
        scrape.since(&Scrape::default(), "shadowcat_noise_frames_total"),
        [
            ("shadowcat_noise_frames_total{link=\"relay\",to=\"client\"}".to_owned(), 1.0),
            ("shadowcat_noise_frames_total{link=\"relay\",to=\"server\"}".to_owned(), 1.0)
        ]
    );
    session.signal(Signal::TERM);
}

#[test]
fn mux_counts_noise_and_a_child_that_does_not_begin() {
    let mux = Mux::with_env(&["--metrics", "/metrics", "--start-timeout", "200ms"], &["FIXTURE_MUTE=1"]);
    assert_eq!(mux.send(&Request::post("{")).status, 400);
    let initialize = ask("1", "initialize", r#""protocolVersion":"2025-11-25","capabilities":{}"#).legacy_body();
    let refused = mux.send(&Request::post(initialize));
    assert!(refused.text().contains("\"timeout\""));
    assert_counted(
        mux.address,
        &[
            (
                "errors",
                &[
                    ("blame=\"downstream\",reason=\"invalid_json\"", 1.0),
                    ("blame=\"upstream\",reason=\"timeout\"", 1.0),
                ],
            ),
            ("noise_frames", &[("link=\"mux\",to=\"server\"", 1.0)]),
            ("timeouts", &[("what=\"child_start\"", 1.0)]),
        ],
    );
}

/// What a child leaves behind falls to the keeper, and no session has it: the one number that must be 0 is not, until
/// the child ends and its leavings are ended with it.
#[test]
fn process_that_no_session_has_is_counted_until_it_is_ended() {
    let fixture = mux::fixture().display().to_string();
    // It runs on without a parent, in the child's process group.
    let script = format!("(sleep 1000 </dev/null >/dev/null 2>&1 &); exec {fixture}");
    let options = ["--metrics", "/metrics", "--shutdown-grace", "100ms", "--kill-after", "100ms"];
    let mux = Mux::of_server(&options, &["sh", "-c", &script]);
    let unaccounted = || Scrape::of(mux.address, "/metrics").get("shadowcat_children_unaccounted");
    let client = Client::start(&mux, "2025-11-25");
    // Looked for every 10 s.
    eventually("the process is found", || unaccounted() == 1.0);
    assert_eq!(mux.send(&client.request("DELETE")).status / 100, 2);
    eventually("nothing is left that no session has", || unaccounted() == 0.0);
}

#[test]
fn listener_counts_clients_that_do_not_finish_a_head() {
    let mux = Mux::start(&["--metrics", "/metrics", "--header-timeout", "200ms"]);
    let mut client = Pending::connect(mux.address);
    client.write(b"POST /mcp HTTP/1.1\r\nHost: ");
    assert_eq!(client.response().status, 408);
    assert_counted(mux.address, &[("timeouts", &[("what=\"header\"", 1.0)]), ("errors", &[])]);
}
