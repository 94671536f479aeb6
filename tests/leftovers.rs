//! Nothing stays behind, however a session ends: each test kills, stops or abandons a part of one and asserts
//! that the rest is gone too. That none of its processes is left is asserted when a session is dropped.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

use std::{process::Stdio, time::Duration};

use rustix::process::Signal;
use shadowcat::clock;
use support::{Ended, Launch, Output, Session, kill};

const PROXY: &str = env!("CARGO_BIN_EXE_shadowcat");

/// A ladder that is climbed at once.
const QUICK: [&str; 4] = ["--shutdown-grace", "100ms", "--kill-after", "100ms"];

/// A server with a process of its own in the background, one in a session of its own (where there is such a
/// program), and one that ignores TERM. It answers nothing and does not end by itself.
const FAMILY: &str = "
    sleep 1001 &
    if command -v setsid >/dev/null; then setsid sleep 1002 & fi
    (trap '' TERM; sleep 1003; sleep 1004) &
    echo '{\"jsonrpc\":\"2.0\",\"method\":\"ready\"}'
    wait
";

/// Says that it runs, and neither reads nor ends.
const DEAF: &str = "echo '{\"jsonrpc\":\"2.0\",\"method\":\"ready\"}'; exec 3>&1; while :; do sleep 1000; done";

/// The same, and does not listen to TERM either.
const STUBBORN: &str = "trap '' TERM; echo '{\"jsonrpc\":\"2.0\",\"method\":\"ready\"}'; while :; do sleep 1000; done";

/// A session whose server has said that it is ready.
fn ready(options: &[&str], script: &str) -> Session {
    let mut session = Session::of_script(options, script);
    assert!(session.stdout.line().contains("ready"));
    session
}

/// Everything of [`FAMILY`] is there.
fn family(session: &Session) {
    session.process("sleep 1001");
    session.process("sleep 1003");
}

/// How long something took.
fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let start = clock::now();
    let done = what();
    (done, clock::now() - start)
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

// --- one of them is killed -----------------------------------------------------------------------------------

#[test]
fn killed_client_takes_everything_along() {
    // The client is a shell that starts the proxy on pipes which only it holds.
    let script =
        "sleep 2000 | \"$0\" proxy --shutdown-grace 100ms --kill-after 100ms -- sh -c \"$1\" | sleep 2001 & wait";
    let launch = Launch::of("sh", ["-c", script, PROXY, FAMILY]);
    let mut session = launch.start();
    session.stdin = None;
    family(&session);
    let ends = ["sleep 2000", "sleep 2001"].map(|end| session.process(end));
    session.signal(Signal::KILL);
    ends.into_iter().for_each(|end| kill(end, Signal::KILL));
    session.assert_gone();
}

#[test]
fn killed_parent_ends_the_session_with_its_pipes() {
    let mut session = Launch::of("sh", ["-c", "\"$0\" proxy -- cat; exit", PROXY]).start();
    let message = "{\"jsonrpc\":\"2.0\",\"method\":\"x\"}";
    session.send(format!("{message}\n"));
    assert_eq!(session.stdout.line(), message);
    session.signal(Signal::KILL);
    assert_eq!(session.wait_unread(), None);
    // Who holds the pipes is the client; while it does, the session goes on.
    session.send(format!("{message}\n"));
    assert_eq!(session.stdout.line(), message);
    session.stdin = None;
    assert!(session.stdout.rest().is_empty());
    session.assert_gone();
}

#[test]
fn killed_proxy_takes_children_and_grandchildren_along() {
    let session = ready(&[], FAMILY);
    family(&session);
    session.signal(Signal::KILL);
    let ((), took) = timed(|| session.assert_gone());
    // TERM, and 2 s later KILL for those who ignore it.
    assert!(took < seconds(10.0), "{took:?}");
}

#[test]
fn killed_proxy_leaves_nothing_of_an_idle_server() {
    let session = Session::of_server(&[], &["cat"]);
    session.process("cat");
    session.signal(Signal::KILL);
    session.assert_gone();
}

#[test]
fn killed_keeper_ends_the_session_with_an_error() {
    // What has left the process group cannot be found without the keeper; it has to notice by itself.
    let script = "(trap '' TERM; sleep 1003; sleep 1004) & echo '{\"jsonrpc\":\"2.0\",\"method\":\"ready\"}'; wait";
    let mut session = ready(&QUICK, script);
    session.send("{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"tools/call\"}\n");
    session.process("sleep 1003");
    kill(session.process("shadowcat-keeper"), Signal::KILL);
    let Ended { code, stdout, stderr } = session.wait();
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("keeper"), "{stderr}");
    assert!(stdout.contains("\"id\":\"x\",\"error\":"), "{stdout}");
    session.assert_gone();
}

#[test]
fn killed_server_ends_the_session_and_its_own_children() {
    let mut session = ready(&QUICK, FAMILY);
    family(&session);
    kill(session.process("sh -c"), Signal::KILL);
    let Ended { code, stderr, .. } = session.wait();
    assert_eq!(code, Some(1));
    assert!(stderr.contains("signal 9"), "{stderr}");
    session.assert_gone();
}

#[test]
fn killed_server_is_not_a_failure_of_a_client_that_is_done() {
    let mut session = ready(&["--shutdown-grace", "30s"], DEAF);
    session.stdin = None;
    // Or it might die before it has anything to leave behind.
    session.process("sleep 1000");
    kill(session.process("sh -c"), Signal::KILL);
    assert_eq!(session.wait_unread(), Some(0));
}

// --- one of them does not end --------------------------------------------------------------------------------

#[test]
fn server_that_ignores_its_end_gets_a_signal() {
    let mut session = ready(&["--shutdown-grace", "300ms", "--kill-after", "60s"], DEAF);
    let (ended, took) = timed(|| session.end());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took >= seconds(0.3), "{took:?}");
    assert!(ended.stderr.contains("Terminate") && !ended.stderr.contains("Kill"), "{ended:?}");
}

#[test]
fn server_that_ignores_its_end_and_the_signal_is_killed() {
    let mut session = ready(&["--shutdown-grace", "200ms", "--kill-after", "300ms"], STUBBORN);
    let (ended, took) = timed(|| session.end());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took >= seconds(0.5), "{took:?}");
    assert!(ended.stderr.contains("Terminate") && ended.stderr.contains("Kill"), "{ended:?}");
}

#[test]
fn stubborn_server_is_killed_after_five_and_two_seconds() {
    let mut session = ready(&[], STUBBORN);
    let (ended, took) = timed(|| session.end());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!((seconds(7.0)..seconds(20.0)).contains(&took), "{took:?}");
}

#[test]
fn stopped_server_is_killed_too() {
    let mut session = ready(&QUICK, DEAF);
    kill(session.process("sh -c"), Signal::STOP);
    assert_eq!(session.end().code, Some(0));
}

#[test]
fn process_left_behind_with_our_pipes_does_not_keep_us() {
    let script = "while read line; do :; done; sleep 1005 & echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}'";
    let mut session = Session::of_script(&[], script);
    session.send("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\n");
    session.stdin = None;
    let (ended, took) = timed(|| session.wait());
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 1), "{ended:?}");
    assert!(took < seconds(10.0), "{took:?}");
    session.assert_gone();
}

// --- signals -------------------------------------------------------------------------------------------------

#[test]
fn requested_stop_is_a_clean_end() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut session = ready(&QUICK, FAMILY);
        family(&session);
        session.signal(signal);
        let stdin = session.stdin.take();
        let ended = session.wait();
        assert_eq!(ended.code, Some(0), "{signal:?}: {ended:?}");
        session.assert_gone();
        drop(stdin);
    }
}

#[test]
fn each_further_signal_takes_the_next_step_at_once() {
    let mut session = ready(&["--shutdown-grace", "1h", "--kill-after", "1h", "--log-level", "info"], STUBBORN);
    for step in ["told to stop", "Terminate", "Kill"] {
        session.signal(Signal::TERM);
        session.stderr.line_with(step);
    }
    assert_eq!(session.wait().code, Some(0));
}

// --- surroundings --------------------------------------------------------------------------------------------

#[test]
fn parent_that_ignores_its_children_changes_nothing() {
    // A shell cannot do it, and not every `env` can.
    let script = r#"
        if env --ignore-signal=CHLD true 2>/dev/null; then
            exec env --ignore-signal=CHLD "$0" proxy -- cat
        fi
        exec "$0" proxy -- cat
    "#;
    let mut session = Launch::of("sh", ["-c", script, PROXY]).start();
    session.send("{\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n");
    session.stdout.line();
    let ended = session.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn program_that_cannot_be_started_leaves_no_keeper() {
    let session = Launch::new(["proxy", "--", "no-such-program-4711"]).stdin(Stdio::null()).start();
    assert_eq!(session.wait_unread(), Some(2));
    session.assert_gone();
}

#[test]
fn gone_client_with_requests_in_flight_takes_everything_along() {
    let mut session = ready(&QUICK, FAMILY);
    family(&session);
    session.send("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\n");
    session.stdin = None;
    session.stdout = Output::closed();
    assert_eq!(session.wait_unread(), Some(0));
    session.assert_gone();
}
