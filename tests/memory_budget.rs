//! `--memory-budget`: more and larger messages than it can hold at a time. All of them arrive or are refused with the
//! numbers, none waits for ever, and the proxy holds no more than it may. Real processes, real sockets.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[path = "support/exposition.rs"]
#[expect(dead_code, reason = "shared: no test file needs all of it")]
mod exposition;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/mux.rs"]
mod mux;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "hostile/upstream.rs"]
mod upstream;

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use client::{Pending, Request, Response};
use exposition::Scrape;
use mux::{Call, Mux, assert_refused, call, echoed, run};
use rustix::process::Signal;
use serde_json::Value;
use support::{Launch, Session, eventually};
use temp::TempDir;
use upstream::{Asked, Upstream};

const MIB: usize = 1 << 20;

/// As long as `--memory-timeout` is where many wait for their turn: a slow machine takes its time with each.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// A call of `len` bytes and a bit, and its arguments.
fn long_call(id: &str, len: usize) -> (Call, String) {
    let arguments = format!("{{\"text\":\"{}\"}}", "x".repeat(len));
    (call(id, "echo", &arguments), arguments)
}

/// The proxy's process; the other of that name is its keeper.
fn proxy(session: &Session) -> u32 {
    let processes = session.processes();
    processes.iter().find(|process| process.words.contains(" proxy ")).map(|process| process.pid).unwrap()
}

/// The most memory that a process has had, in bytes.
fn peak(pid: u32) -> usize {
    status(pid, "VmHWM:")
}

/// The memory that it has.
fn resident(pid: u32) -> usize {
    status(pid, "VmRSS:")
}

fn status(pid: u32, key: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Sends a request and awaits the answer for as long as the proxy may let it wait for its turn.
fn patient(request: &Request, address: SocketAddr) -> Response {
    let socket = TcpStream::connect(address).unwrap();
    let mut pending = Pending::of(socket.try_clone().unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (head, body) = request.parts(address);
    pending.write(&[head.as_bytes(), body].concat());
    pending.response()
}

/// A request of which the last byte is missing, and that byte.
fn all_but_one(mux: &Mux, call: &Call) -> (Pending, u8) {
    let request = call.modern();
    let (head, body) = request.parts(mux.address);
    let (last, rest) = body.split_last().unwrap();
    let mut pending = Pending::connect(mux.address);
    pending.write(head.as_bytes());
    pending.write(rest);
    (pending, *last)
}

#[test]
fn many_long_bodies_before_a_small_budget_all_come_through() {
    let mux = Mux::start(&["--max-frame-len", "4MiB", "--memory-budget", "20MiB", "--memory-timeout", "5m"]);
    let before = peak(proxy(&mux.session));
    thread::scope(|scope| {
        for client in 0..16 {
            let address = mux.address;
            scope.spawn(move || {
                let id = format!("\"{client}\"");
                let (call, arguments) = long_call(&id, 3 * MIB);
                // Not an assertion on texts of 3 MiB. Where the machine is slow, the answer is an event.
                assert!(patient(&call.modern(), address).text().contains(&echoed(&id, &arguments)), "{id}");
            });
        }
    });
    let (after, budget) = (peak(proxy(&mux.session)), 20 * MIB);
    // Allocators keep a little of what was freed; 16 messages at a time would be 48 MiB.
    assert!(after - before < 2 * budget, "{after} bytes, {before} before, a budget of {budget}");
}

#[test]
fn long_body_that_stands_still_is_cut_and_the_next_goes_on() {
    let options = ["--max-frame-len", "4MiB", "--memory-budget", "13MiB", "--body-timeout", "1s"];
    let mux = Mux::start(&options);
    let (stalled, _) = all_but_one(&mux, &long_call("1", 3 * MIB).0);
    let (other, arguments) = long_call("2", 3 * MIB);
    assert_eq!(mux.ask(&other), echoed("2", &arguments));
    assert_eq!(stalled.response().status, 408);
}

#[test]
fn long_body_that_finds_no_room_in_time_is_refused_with_the_numbers_and_small_ones_go_on() {
    let options = ["--max-frame-len", "8MiB", "--memory-budget", "17MiB", "--memory-timeout", "500ms"];
    let mux = Mux::start(&options);
    let (call_one, arguments) = long_call("1", 7 * MIB);
    let (mut first, last) = all_but_one(&mux, &call_one);
    for _ in 0..10 {
        // Until the proxy has read the first, which the second would overtake otherwise.
        mux.ask(&call("0", "echo", "{}"));
    }
    let (second, _) = all_but_one(&mux, &long_call("2", 2 * MIB).0);
    let refused = second.response();
    assert_eq!(refused.header("retry-after"), Some("5"));
    let text = assert_refused(refused, 503, -32603, &Value::Null);
    for word in ["500ms", "17825792", "memory budget"] {
        assert!(text.contains(word), "{text}");
    }
    assert_eq!(mux.ask(&call("3", "echo", "{}")), echoed("3", "{}"));
    first.write(&[last]);
    assert!(first.response().text().contains(&echoed("1", &arguments)));
}

/// A line of about `len` bytes, without its end.
fn long_line(id: &str, len: usize) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x","params":{{"text":"{}"}}}}"#, "x".repeat(len))
}

#[test]
fn long_line_arrives_exactly_within_a_budget_for_one_and_the_buffer_is_given_back() {
    // One that reads all of a message before it answers, as servers do; `cat` would want room for it twice.
    let script = ["grep", "--line-buffered", "jsonrpc"];
    let mut session = Session::of_server(
        &["--max-frame-len", "32MiB", "--memory-budget", "44MiB", "--shutdown-grace", "1ms"],
        &script,
    );
    // Once through, so that it has started when it is measured.
    let short = long_line("0", 1);
    session.send(short.clone() + "\n");
    assert_eq!(session.stdout.line(), short);
    let pid = proxy(&session);
    let before = peak(pid);
    let line = long_line("1", 24 * MIB) + "\n";
    session.send(&line);
    assert!(session.stdout.take(line.len()) == line.as_bytes());
    let taken = peak(pid) - before;
    assert!(taken < line.len() + 8 * MIB, "{taken} bytes for a line of {}", line.len());
    eventually("its memory is given back", || resident(pid) < before + 8 * MIB);
    session.signal(Signal::TERM);
}

#[test]
fn long_line_that_finds_no_room_is_an_error_to_its_asker_and_the_session_goes_on() {
    let (here, there) = (TempDir::new().unwrap(), "lines.sock");
    let socket = here.join(there);
    let listen = format!("unix:{}", socket.display());
    let options = ["proxy", "--listen", &listen, "--max-frame-len", "4MiB", "--memory-budget", "13MiB"];
    let mut proxy = Launch::new([&options[..], &["--memory-timeout", "500ms", "--", "cat"]].concat()).start();
    proxy.stderr.line_with("listening");
    let connect = || UnixStream::connect(&socket).unwrap();
    let (mut first, mut second) = (connect(), BufReader::new(connect()));
    let (one, two) = (long_line("1", 3 * MIB), long_line("2", 3 * MIB));
    first.write_all(&one.as_bytes()[..2 * MIB]).unwrap();
    // Nobody waits for it yet, so it may stand still.
    second.get_mut().write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"y\"}\n").unwrap();
    let mut line = String::new();
    second.read_line(&mut line).unwrap();
    second.get_mut().write_all((two + "\n").as_bytes()).unwrap();
    line.clear();
    second.read_line(&mut line).unwrap();
    for word in ["\"id\":2,\"error\"", "500ms", "13631488"] {
        assert!(line.contains(word), "{line}");
    }
    second.get_mut().write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"z\"}\n").unwrap();
    line.clear();
    second.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"jsonrpc\":\"2.0\",\"method\":\"z\"}\n");
    // While another waited, the first stood still for as long, and was cut for it.
    first.write_all(&one.as_bytes()[2 * MIB..]).unwrap();
    first.write_all(b"\n").unwrap();
    line.clear();
    BufReader::new(first).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"jsonrpc\":\"2.0\",\"id\":1,"), "{}", line.len());
    proxy.signal(Signal::TERM);
}

const WAIT: &str = r#"{"jsonrpc":"2.0","id":1,"method":"wait"}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// Answers what does not wait.
fn answer_unless_wait(asked: &Asked, to: &mut TcpStream) -> io::Result<bool> {
    if asked.body == WAIT.as_bytes() {
        // Until the other side leaves.
        return to.read(&mut [0]).map(|_| false);
    }
    to.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").map(|()| true)
}

/// Asks on a connection that is kept.
fn ask_on(kept: &TcpStream, address: SocketAddr) -> Response {
    begin_on(kept, PING, address).response()
}

fn begin_on(kept: &TcpStream, message: &str, address: SocketAddr) -> Pending {
    let request = Request::post(message);
    let (head, body) = request.parts(address);
    let mut pending = Pending::of(kept.try_clone().unwrap());
    pending.write(&[head.replace("Connection: close\r\n", "").as_bytes(), body].concat());
    pending
}

#[test]
fn exchanges_of_a_relay_beyond_the_budget_are_refused_with_a_time_to_come_back_and_give_all_of_it_back() {
    let upstream = Upstream::start(answer_unless_wait);
    let options = ["proxy", "--listen", "127.0.0.1:0", "--metrics", "/metrics", "--max-frame-len", "4MiB"];
    let mut proxy = Launch::new([&options[..], &["--memory-budget", "13MiB", &upstream.url()]].concat()).start();
    let line = proxy.stderr.line_with("listening on http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/mcp")).unwrap().parse().unwrap();
    let held = || Scrape::of(address, "/metrics").get("shadowcat_buffer_bytes");
    let before = held();
    let kept = TcpStream::connect(address).unwrap();
    assert_eq!(ask_on(&kept, address).text(), "{}");
    let mut others: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(address).unwrap()).collect();
    for other in &others {
        assert_eq!(ask_on(other, address).text(), "{}");
    }
    // Those that find no room for their connection are not accepted. What is left then has room for an exchange or two,
    // which those take that have a connection already.
    let waiting: Vec<Pending> = (0..200).map(|_| Request::post(WAIT).begin(address)).collect();
    let (mut refused, mut waiting_too) = (None, Vec::new());
    eventually("there is no room for an exchange", || {
        if let Some(other) = others.pop() {
            waiting_too.push(begin_on(&other, WAIT, address));
        }
        let mut response = ask_on(&kept, address);
        let (status, retry_after) = (response.status, response.header("retry-after").map(str::to_owned));
        let text = String::from_utf8(response.read_all().unwrap()).unwrap();
        refused = (status != 200).then_some((status, retry_after, text));
        refused.is_some()
    });
    let (status, retry_after, text) = refused.unwrap();
    assert_eq!((status, retry_after.as_deref()), (503, Some("5")), "{text}");
    assert!(text.contains("memory budget of 13631488 bytes is used up"), "{text}");
    drop((waiting, waiting_too, others));
    eventually("there is room again", || ask_on(&kept, address).status == 200);
    drop(kept);
    // The connection to the server waits for another exchange, for a while.
    eventually("all of it is given back", || held() <= before);
    proxy.signal(Signal::TERM);
}

/// What a shared child says of a request has no room beside the many bodies that are half here. Its client is told so,
/// under the id of its request, and when to come again.
#[test]
fn answer_that_finds_no_room_is_refused_with_its_id_and_when_to_come_again() {
    let mux = Mux::start(&["--max-frame-len", "1MiB", "--memory-budget", "24MiB", "--body-timeout", "5m"]);
    mux.ask(&call("0", "echo", "{}"));
    // 60 KiB each, in all more than there is for everybody; whoever finds no room waits for a turn.
    let _stalled: Vec<_> = (0..90).map(|_| all_but_one(&mux, &long_call("1", 60 << 10).0)).collect();
    let flood = run("\"mine\"", r#"{"flood":1}"#).token("1").modern();
    let mut refused = None;
    eventually("there is no room", || {
        let response = mux.send(&flood);
        assert!(matches!(response.status, 200 | 503), "{response:?}");
        refused = (response.status == 503).then_some(response);
        refused.is_some()
    });
    let response = refused.unwrap();
    assert_eq!(response.header("retry-after"), Some("5"));
    let text = assert_refused(response, 503, -32603, &Value::from("mine"));
    assert!(text.contains("the memory budget of 25165824 bytes is used up"), "{text}");
    // Nobody read too slowly.
    assert_eq!(mux.ask(&call("3", "echo", "{}")), echoed("3", "{}"));
}
