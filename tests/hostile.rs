//! Hostile peers on every side of every link. Each does its worst once, by tables: what comes of it is a row's
//! outcome, memory stays within a bound, a neighbour goes on being served, nothing panics, nothing is left.
//!
//! The real program as its own process, raw sockets as peers, real children. What a peer may cost over time is in
//! `memory.rs`.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[path = "hostile/answers.rs"]
mod answers;
#[path = "hostile/bomb.rs"]
mod bomb;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/http2.rs"]
mod http2;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/legacy.rs"]
mod legacy;
#[path = "hostile/lines.rs"]
mod lines;
#[path = "hostile/listening.rs"]
mod listening;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/meter.rs"]
mod meter;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/mux.rs"]
mod mux;
#[path = "hostile/requests.rs"]
mod requests;
#[path = "hostile/secure.rs"]
mod secure;
#[path = "hostile/servers.rs"]
mod servers;
#[path = "hostile/stage.rs"]
mod stage;
#[path = "hostile/streams.rs"]
mod streams;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;
#[path = "hostile/upstream.rs"]
mod upstream;

use std::{
    fs,
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
};

use client::Request;
use mux::{call, echoed};
use stage::{OPTIONS, Stage};
use support::{Launch, Session};
use temp::TempDir;
use upstream::{Asked, NEIGHBOUR, Upstream};

/// A proxy for HTTP clients, in front of what `server` names.
fn listening(options: &[&str], server: &[&str]) -> (Session, SocketAddr) {
    let listen = ["proxy", "--listen", "127.0.0.1:0"];
    let mut session = Launch::new([&listen[..], &OPTIONS, options, server].concat()).start();
    let line = session.stderr.line_with("listening on http://");
    // Where there are several servers, a name stands before the path.
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
    (session, address)
}

/// One right call to the fixture, by a client of 2026-07-28.
fn echo(address: SocketAddr) {
    let mut response = call("\"n\"", "echo", "[1]").modern().send(address);
    // Where the machine is slow, the answer is an event.
    let status = response.status;
    let text = if response.is_events() { response.data() } else { response.text() };
    assert_eq!((status, text), (200, echoed("\"n\"", "[1]")));
}

#[test]
fn hostile_http_clients_of_a_command() {
    let fixture = mux::fixture().into_os_string().into_string().unwrap();
    let (session, address) = listening(&[], &["--", &fixture]);
    let mut stage = Stage::new(session, move || echo(address));
    requests::against_mux(&mut stage, address);
    stage.end();
}

const RESULT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 36\r\n\r\n\
    {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}";

/// One right call to a server that is over HTTP.
fn ask(address: SocketAddr) {
    ask_at("/mcp", address);
}

fn ask_at(path: &str, address: SocketAddr) {
    let ping = Request::post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).with(NEIGHBOUR, "yes");
    let response = ping.at(path).send(address);
    assert_eq!((response.status, &*response.text()), (200, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
}

fn answer_rightly(_: &Asked, stream: &mut TcpStream) -> io::Result<bool> {
    stream.write_all(RESULT).map(|()| true)
}

#[test]
fn hostile_http_2_clients() {
    let upstream = Upstream::start(answer_rightly);
    let (session, address) = listening(&[], &[&upstream.url()]);
    let mut stage = Stage::new(session, move || ask(address));
    frames::against(&mut stage, address);
    stage.end();
}

#[test]
fn hostile_http_2_clients_of_a_command() {
    let fixture = mux::fixture().into_os_string().into_string().unwrap();
    let (session, address) = listening(&[], &["--", &fixture]);
    let mut stage = Stage::new(session, move || echo(address));
    frames::against(&mut stage, address);
    stage.end();
}

#[test]
fn hostile_http_clients_of_a_url() {
    for check in ["warn", "strict"] {
        let upstream = Upstream::start(answer_rightly);
        let (session, address) = listening(&["--header-check", check], &[&upstream.url()]);
        let mut stage = Stage::new(session, move || ask(address));
        requests::against_relay(&mut stage, address, &upstream, check == "strict");
        stage.end();
    }
}

#[test]
fn hostile_http_servers_of_an_http_client() {
    let upstream = Upstream::start(answers::answer);
    let (session, address) = listening(&[], &[&upstream.url()]);
    let mut stage = Stage::new(session, move || ask(address));
    answers::against_relay(&mut stage, address);
    stage.end();
}

#[test]
fn hostile_http_servers_of_a_client_that_speaks_lines() {
    let upstream = Upstream::start(answers::answer);
    let mut session = Launch::new([&["proxy"], &OPTIONS[..], &[&upstream.url()]].concat()).start();
    answers::warm_up(&mut session);
    let mut stage = Stage::alone(session);
    answers::against_dial(&mut stage);
    stage.end();
}

/// An answer that does not come is not waited for for long, nor what is asked if nobody takes even that; and a connection
/// is kept however slow the machine is.
const PATIENCE: [&str; 8] = [
    "--response-timeout-for",
    "x/silence=300ms",
    "--response-timeout-for",
    "ping=off",
    "--response-timeout",
    "2s",
    "--upstream-idle-timeout",
    "5m",
];

#[test]
fn hostile_http_2_servers_of_an_http_client() {
    let (calm, hostile) = (Upstream::start(answer_rightly), secure::Secure::start(servers::serve));
    let here = TempDir::new().unwrap();
    let file = here.join("servers.toml");
    let servers = format!(
        "[servers.calm]\nurl = \"{}\"\n[servers.rows]\nurl = \"{}\"\nca = [\"{}\"]\n",
        calm.url(),
        hostile.url(),
        hostile.certificate.display()
    );
    fs::write(&file, servers).unwrap();
    let options = [&["--config", file.to_str().unwrap()], &PATIENCE[..]].concat();
    let (session, address) = listening(&options, &[]);
    let mut stage = Stage::new(session, move || ask_at("/calm/mcp", address));
    servers::against_relay(&mut stage, address, &hostile);
    stage.end();
}

#[test]
fn hostile_http_2_servers_of_a_client_that_speaks_lines() {
    let hostile = secure::Secure::start(servers::serve);
    let (certificate, url) = (hostile.certificate.to_str().unwrap(), hostile.url());
    let options = [&["proxy"], &OPTIONS[..], &PATIENCE, &["--ca", certificate, &url]].concat();
    let mut session = Launch::new(options).start();
    servers::warm_up(&hostile, &mut session);
    let mut stage = Stage::alone(session);
    servers::against_dial(&mut stage, &hostile);
    stage.end();
}

/// A proxy for a client on stdin, in front of what `server` names, that has answered already.
fn piped(server: &[&str]) -> Stage {
    answering(Launch::new([&["proxy"], &OPTIONS[..], server].concat()).start())
}

/// Where a client has been answered already.
fn answering(mut session: Session) -> Stage {
    session.send(WARM_UP);
    assert!(session.stdout.line().starts_with(r#"{"jsonrpc":"2.0","id":1,"result""#));
    Stage::alone(session)
}

const WARM_UP: &str = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n";

#[test]
fn hostile_lines_of_a_client_for_a_command() {
    let fixture = mux::fixture().into_os_string().into_string().unwrap();
    let mut stage = piped(&["--", &fixture]);
    lines::clients_against(&mut stage, false);
    stage.end();
}

#[test]
fn hostile_lines_of_a_client_for_a_url() {
    let upstream = Upstream::start(lines::answer_rightly);
    let mut stage = piped(&[&upstream.url()]);
    lines::clients_against(&mut stage, true);
    stage.end();
}

#[test]
fn hostile_lines_of_a_child_for_a_client_that_speaks_lines() {
    let fixture = mux::fixture().into_os_string().into_string().unwrap();
    let mut stage = piped(&["--", &fixture]);
    lines::children_against_pipe(&mut stage);
    stage.end();
}

#[test]
fn hostile_lines_of_a_child_for_http_clients() {
    let fixture = mux::fixture().into_os_string().into_string().unwrap();
    let (session, address) = listening(&[], &["--", &fixture]);
    let mut stage = Stage::new(session, move || echo(address));
    lines::children_against_mux(&mut stage, address);
    stage.end();
}

#[test]
fn hostile_lines_of_a_child_for_its_own_client() {
    let fixture = mux::fixture().into_os_string().into_string().unwrap();
    let (session, address) = listening(&[], &["--", &fixture]);
    // Events of a session are kept for a while, so that its streams can be resumed.
    let mut stage = Stage::new(session, move || echo(address)).keeping(8 << 20);
    lines::children_against_owner(&mut stage, address);
    stage.end();
}

#[test]
fn hostile_lines_of_a_client_for_a_socket() {
    let here = TempDir::new().unwrap();
    let mut stage = piped(&[&listening::server(&here.join("server"))]);
    lines::clients_against(&mut stage, false);
    stage.end();
}

#[test]
fn hostile_lines_of_a_client_on_a_socket() {
    let here = TempDir::new().unwrap();
    let fixture = mux::fixture().into_os_string().into_string().unwrap();
    let mut stage = answering(listening::client(&here.join("lines"), &["--", &fixture]));
    lines::clients_against(&mut stage, false);
    stage.end();
}

#[test]
fn hostile_lines_of_a_server_on_a_socket() {
    let here = TempDir::new().unwrap();
    let mut stage = piped(&[&listening::server(&here.join("server"))]);
    lines::children_against_pipe(&mut stage);
    stage.end();
}

#[test]
fn hostile_lines_of_a_child_for_a_client_on_a_socket() {
    let here = TempDir::new().unwrap();
    let fixture = mux::fixture().into_os_string().into_string().unwrap();
    let mut stage = answering(listening::client(&here.join("lines"), &["--", &fixture]));
    lines::children_against_pipe(&mut stage);
    stage.end();
}

#[test]
fn hostile_lines_of_a_child_for_a_client_over_http_and_sse() {
    let fixture = mux::fixture().into_os_string().into_string().unwrap();
    let (session, address) = listening(&["--legacy-sse"], &["--", &fixture]);
    // Events of a session are kept for a while, so that its streams can be resumed.
    let mut stage = Stage::new(session, move || echo(address)).keeping(8 << 20);
    lines::children_against_sse(&mut stage, address);
    stage.end();
}
