//! `shadowcat doctor`: our own listener is found to be well, and each fault of a raw server is told, with what to do.

#![cfg(unix)]
#![cfg(test)]

#[path = "doctor/faulty.rs"]
mod faulty;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

use std::env;

use rustix::process::Signal;
use serde_json::Value;

use faulty::{Fault, Faulty};
use support::{DEADLINE, Ended, Launch};

/// Findings, by what they are about.
struct Examined {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Examined {
    fn of(ended: &Ended) -> Self {
        assert_eq!(ended.stderr, "");
        let findings = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { code: ended.code, findings }
    }

    fn text(&self, check: &str, member: &str) -> &str {
        let found = self.findings.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {:?}", self.findings))[member].as_str().unwrap_or_default()
    }

    #[track_caller]
    fn assert(&self, check: &str, outcome: &str, seen: &[&str], advice: &str) {
        assert_eq!(self.text(check, "outcome"), outcome, "{:?}", self.findings);
        for words in seen {
            assert!(self.text(check, "seen").contains(words), "no {words:?} in {:?}", self.findings);
        }
        assert!(self.text(check, "advice").contains(advice), "no {advice:?} in {:?}", self.findings);
    }

    /// All other findings than these are ok, or could not be looked at.
    #[track_caller]
    fn assert_rest_ok(&self, but: &[&str]) {
        for finding in &self.findings {
            let is_fine = finding["outcome"] == "ok" || finding["outcome"] == "skipped";
            assert!(is_fine || but.iter().any(|check| finding["check"] == *check), "{finding}");
        }
    }
}

fn examine(options: &[&str], url: &str) -> Examined {
    let args = [&["doctor", "--json"], options, &[url]].concat();
    Examined::of(&Launch::new(args).start().end())
}

fn of_fault(fault: Fault) -> (Examined, Faulty) {
    let server = Faulty::start(fault);
    // Those whose streams end are waited for.
    let ends = matches!(fault, Fault::EndsStreams | Fault::IsModern);
    (examine(&["--idle", if ends { "1m" } else { "100ms" }], &server.url), server)
}

// --- who is well ---------------------------------------------------------------------------------------------

#[test]
fn our_own_listener_is_well_and_nothing_is_left_in_it() {
    let test = env::current_exe().unwrap();
    let fixture = test.ancestors().nth(2).unwrap().join("examples/fixture_server");
    assert!(fixture.exists(), "`cargo build --example fixture_server` first; `cargo test` without `--test` does it");
    let fixture = fixture.into_os_string().into_string().unwrap();
    let mut proxy = Launch::new(["proxy", "--listen", "127.0.0.1:0", "--", &fixture]).start();
    let line = proxy.stderr.line();
    let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
    let well = examine(&["--idle", "100ms"], url);
    assert_eq!(well.code, Some(0), "{:?}", well.findings);
    assert!(well.findings.iter().all(|finding| finding["outcome"] == "ok"), "{:?}", well.findings);
    well.assert("speaks", "ok", &["MCP 2025-11-25", "HTTP/1.1"], "");
    well.assert("sizes", "ok", &["4 MiB pass"], "");
    well.assert("stream", "ok", &["opened an event stream"], "");
    well.assert("goodbye", "ok", &["DELETE"], "");
    support::eventually("the session's child is gone", || {
        !proxy.processes().iter().any(|process| process.words.starts_with(&fixture))
    });
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code, Some(0));
}

#[test]
fn text_says_the_same_in_lines_of_72_columns() {
    let server = Faulty::start(Fault::Nothing);
    let Ended { code, stdout, stderr } = Launch::new(["doctor", "--idle", "0", &server.url]).start().end();
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.lines().all(|line| line.chars().count() <= 72), "{stdout}");
    for line in ["ok      session     kept: 8 of 8", "ok      guarded     foreign Origin: refused (403)"] {
        assert!(stdout.contains(line), "{stdout}");
    }
}

// --- who is not ----------------------------------------------------------------------------------------------

#[test]
fn stream_that_is_held_back_is_a_problem() {
    let (found, _server) = of_fault(Fault::HoldsStreamsBack);
    assert_eq!(found.code, Some(1));
    found.assert("stream", "problem", &["not even a head"], "proxy_buffering off");
    found.assert_rest_ok(&["stream"]);
}

#[test]
fn limit_on_bodies_is_told_with_whose_it_is() {
    let (found, server) = of_fault(Fault::HasAProxyWithALimit);
    assert_eq!(found.code, Some(1));
    let seen = ["between 64 KiB and 1 MiB", "something before the server (nginx/1.26)", "413"];
    found.assert("sizes", "problem", &seen, "client_max_body_size");
    found.assert_rest_ok(&["sizes"]);
    // Of exactly the size that is told.
    assert!(server.seen().iter().any(|line| line.ends_with(" 65536")), "{:?}", server.seen());
    assert!(server.seen().iter().any(|line| line.ends_with(" 1048576")), "{:?}", server.seen());
}

#[test]
fn server_that_any_page_may_ask_is_a_warning() {
    let (found, _server) = of_fault(Fault::ChecksNobody);
    assert_eq!(found.code, Some(0));
    found.assert("guarded", "warning", &["Origin: accepted", "Host: accepted"], "DNS rebinding");
    found.assert_rest_ok(&["guarded"]);
}

#[test]
fn session_that_is_lost_is_a_problem() {
    let (found, server) = of_fault(Fault::LosesSessions);
    assert_eq!(found.code, Some(1));
    found.assert("session", "problem", &["8 of 8", "404"], "Mcp-Session-Id");
    // Also a session that nobody seems to know is ended.
    assert!(server.seen().iter().any(|line| line.starts_with("DELETE /mcp")), "{:?}", server.seen());
}

#[test]
fn connections_that_are_not_kept_compression_and_streams_that_end_are_told() {
    let (found, _server) = of_fault(Fault::ClosesConnections);
    assert_eq!(found.code, Some(0));
    found.assert("connection", "warning", &["4 new connections for 4 requests"], "keepalive");
    let (found, _server) = of_fault(Fault::Compresses);
    assert_eq!(found.code, Some(1));
    found.assert("on the way", "problem", &["via: 1.1 gate", "content-encoding"], "compression");
    let (found, _server) = of_fault(Fault::EndsStreams);
    assert_eq!(found.code, Some(0));
    found.assert("idle", "warning", &["closed after", "1 piece came"], "read timeout");
}

#[test]
fn token_that_is_wanted_is_explained_and_used() {
    let server = Faulty::start(Fault::WantsAToken);
    let found = examine(&["--idle", "0"], &server.url);
    assert_eq!(found.code, Some(1));
    found.assert("speaks", "problem", &["401", "resource_metadata=\"https://a.example/"], "OAuth");
    let found = examine(&["--idle", "0", "--header", "Authorization: Bearer t0ken"], &server.url);
    assert_eq!(found.code, Some(0), "{:?}", found.findings);
    found.assert_rest_ok(&[]);
}

// --- other revisions, and nobody -----------------------------------------------------------------------------

#[test]
fn other_revisions_are_told_apart() {
    let (found, _server) = of_fault(Fault::HasTwoEndpoints);
    assert_eq!(found.code, Some(0));
    found.assert("speaks", "warning", &["HTTP+SSE of 2024-11-05"], "shadowcat proxy");
    let (found, server) = of_fault(Fault::IsModern);
    assert_eq!(found.code, Some(0), "{:?}", found.findings);
    found.assert("speaks", "ok", &["MCP 2026-07-28"], "");
    found.assert("session", "ok", &["none"], "");
    found.assert("sizes", "ok", &["4 MiB pass"], "");
    found.assert("stream", "ok", &["subscriptions/listen opened"], "");
    found.assert("idle", "warning", &["closed"], "");
    found.assert_rest_ok(&["idle"]);
    assert!(!server.seen().iter().any(|line| line.starts_with("DELETE")), "{:?}", server.seen());
}

#[test]
fn nobody_is_2() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = examine(&[], &format!("http://{nobody}/mcp"));
    assert_eq!((found.code, found.findings.len()), (Some(2), 1));
    found.assert("reachable", "problem", &["refused"], "nobody listens there");
}

#[test]
fn session_is_ended_also_when_somebody_interrupts() {
    let server = Faulty::start(Fault::HoldsStreamsBack);
    let mut doctor = Launch::new(["doctor", &server.url]).start();
    server.listened.recv_timeout(DEADLINE).unwrap();
    doctor.signal(Signal::INT);
    let Ended { code, stderr, .. } = doctor.wait();
    assert_eq!(code, Some(1));
    assert!(stderr.contains("stopped before it was done"), "{stderr}");
    assert!(server.seen().iter().any(|line| line.starts_with("DELETE /mcp")), "{:?}", server.seen());
}
