//! `shadowcat pipe` as a person uses it: a process between two pipes.

#![expect(clippy::expect_used, reason = "a test that cannot go on should stop")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command, Stdio},
};

/// Output, what was said on stderr, and the exit code.
fn filtered(args: &[&str], input: &[u8]) -> (String, String, i32) {
    let mut child = started(args);
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    // A filter that stops early breaks the pipe.
    let _ = writer.join().expect("no panic");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    (out, err, output.status.code().expect("no signal"))
}

fn started(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_shadowcat"))
        .arg("pipe")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

const EVENTS: &[u8] =
    b": hello\r\nid: 7\nevent: token\ndata: {\"a\":1}\n\ndata: {\"b\":\rdata: 2}\n\ndata: [DONE]\n\ndata\n\ndata: lost";

#[test]
fn lines_pass_byte_for_byte() {
    let input = b"{\"a\":1.0}\r\n\n\xff\x00 any bytes \rbut LF\nlast";
    let mut child = started(&[]);
    child.stdin.take().expect("piped").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.stdout, b"{\"a\":1.0}\n\xff\x00 any bytes \rbut LF\nlast\n");
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
}

#[test]
fn events_become_lines_and_a_line_end_inside_is_refused_unless_told_otherwise() {
    let (out, err, code) = filtered(&["--from", "sse"], EVENTS);
    assert_eq!((out.as_str(), code), ("{\"a\":1}\n[DONE]\n", 1));
    assert_eq!(err.lines().count(), 1);
    assert!(err.contains("frame at byte 43") && err.contains("--newlines"), "{err}");

    let (out, _, code) = filtered(&["--from", "sse", "--newlines", "space"], EVENTS);
    assert_eq!((out.as_str(), code), ("{\"a\":1}\n{\"b\": 2}\n[DONE]\n", 0));
    let (out, err, code) = filtered(&["--from", "sse", "--json", "envelope"], EVENTS);
    assert_eq!((out.as_str(), code), ("{\"a\":1}\n{\"b\": 2}\n", 1));
    assert!(err.contains("frame at byte 65"), "only [DONE] is no JSON: {err}");
}

#[test]
fn events_become_objects() {
    let (out, err, code) = filtered(&["--from", "sse", "--to", "events"], EVENTS);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let expect = [("token", "{\"a\":1}"), ("message", "{\"b\":\n2}"), ("message", "[DONE]"), ("message", "")];
    for (line, (event, data)) in lines.iter().zip(expect) {
        assert_eq!(*line, serde_json::json!({"event": event, "data": data, "id": "7"}));
    }
    assert_eq!((lines.len(), err.as_str(), code), (4, "", 0));
    let (out, _, _) = filtered(&["--to", "events"], b"x\"y\n");
    assert_eq!(out, "{\"event\":\"message\",\"data\":\"x\\\"y\",\"id\":\"\"}\n");
}

#[test]
fn events_written_again_say_the_same() {
    let (out, _, code) = filtered(&["--from", "sse", "--to", "sse"], EVENTS);
    let expect = "event: token\nid: 7\ndata: {\"a\":1}\n\ndata: {\"b\":\ndata: 2}\n\ndata: [DONE]\n\ndata: \n\n";
    assert_eq!((out.as_str(), code), (expect, 0));
    let [first, second] = [EVENTS, out.as_bytes()].map(|sse| filtered(&["--from", "sse", "--to", "events"], sse).0);
    assert_eq!(first, second);
}

#[test]
fn lines_become_events_and_come_back() {
    let lines = "{\"a\":1}\nplain\n{\"c\":\"\u{2028}\"}\n";
    let (events, _, code) = filtered(&["--to", "sse"], lines.as_bytes());
    assert_eq!((events.as_str(), code), ("data: {\"a\":1}\n\ndata: plain\n\ndata: {\"c\":\"\u{2028}\"}\n\n", 0));
    assert_eq!(filtered(&["--from", "sse"], events.as_bytes()).0, lines);

    let (out, err, code) = filtered(&["--to", "sse"], b"a\rb\nc\n");
    assert_eq!((out.as_str(), code), ("data: c\n\n", 1));
    assert!(err.contains("frame at byte 0"), "{err}");
    assert_eq!(filtered(&["--to", "sse", "--newlines", "space"], b"a\rb\n").0, "data: a b\n\n");
    // White space between JSON tokens, which an event can only carry as LF.
    assert_eq!(filtered(&["--to", "sse", "--json", "strict"], b"[1,\r2]\n").0, "data: [1,\ndata: 2]\n\n");
}

#[test]
fn what_fails_the_check_is_skipped_passed_or_the_end() {
    let input = b"{\"a\":1}\n[DONE]\n42\n[1,]\n{\"b\":2}\n";
    let (out, err, code) = filtered(&["--json", "strict"], input);
    assert_eq!((out.as_str(), code), ("{\"a\":1}\n42\n{\"b\":2}\n", 1));
    let mut lines = err.lines();
    assert!(lines.next().is_some_and(|line| line.contains("frame at byte 8 refused")), "{err}");
    assert!(lines.next().is_some_and(|line| line.contains("frame at byte 18 refused")), "{err}");
    assert_eq!(lines.next(), None);

    let (out, err, code) = filtered(&["--json", "strict", "--on-invalid", "pass"], input);
    assert_eq!((out.as_bytes(), err.lines().count(), code), (&input[..], 2, 0));
    let (out, err, code) = filtered(&["--json", "strict", "--on-invalid", "stop"], input);
    assert_eq!((out.as_str(), err.lines().count(), code), ("{\"a\":1}\n", 1, 1));
}

#[test]
fn long_frame_is_refused_and_the_next_one_passes() {
    let (out, err, code) = filtered(&["--max-frame-len", "4"], b"1234\n12345\n1\n");
    assert_eq!((out.as_str(), code), ("1234\n1\n", 1));
    assert_eq!(err, "shadowcat: frame at byte 5 refused: longer than the limit of 4 bytes\n");
    let (out, _, code) = filtered(&["--from", "sse", "--max-frame-len", "4"], b"data: 12345\n\ndata: 1234\n\n");
    assert_eq!((out.as_str(), code), ("1234\n", 1));
}

#[test]
fn each_token_is_there_before_the_next_one_is_sent() {
    let mut child = started(&["--from", "sse"]);
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    for token in ["Hel", "lo", "[DONE]"] {
        write!(stdin, "data: {token}\n\n").expect("it reads");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it writes");
        assert_eq!(line, format!("{token}\n"));
    }
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn broken_pipe_is_a_quiet_end() {
    let mut child = started(&[]);
    let mut stdin = child.stdin.take().expect("piped");
    drop(child.stdout.take());
    while stdin.write_all(&[b'\n'; 1 << 14]).and_then(|()| stdin.write_all(b"line\n")).is_ok() {}
    let mut err = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("UTF-8");
    assert_eq!((err.as_str(), child.wait().expect("it ends").code()), ("", Some(0)));
}

#[test]
fn file_is_read_and_a_missing_one_is_named() {
    let path = std::env::temp_dir().join(format!("shadowcat-filter-{}", std::process::id()));
    std::fs::write(&path, "a\nb\n").expect("a file");
    let name = path.to_str().expect("UTF-8");
    let (out, err, code) = filtered(&["--stats", name], b"");
    std::fs::remove_file(&path).expect("still there");
    assert_eq!((out.as_str(), code), ("a\nb\n", 0));
    assert!(err.starts_with("2 frames, 4 bytes in, 4 bytes out, 0 refused"), "{err}");
    let (_, err, code) = filtered(&[name], b"");
    assert_eq!(code, 1);
    assert!(err.contains(name) && err.lines().count() == 1, "{err}");
}
