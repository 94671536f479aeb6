//! The demo's client: speaks to a child's stdin and stdout, tells each message as it crosses, hashes all.
//!
//! It waits for one answer at a time, and is timed like that; its hashes are of the lines as they left and arrived, so that
//! nothing that was parsed in between can make two different messages equal.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde::Deserialize;

use super::{
    report,
    server::{DIGESTS, Digest},
};
use crate::cli::DEMO_SERVER;

/// A running server, or a proxy with a server behind it, and what was exchanged.
pub(super) struct Client {
    child: Child,
    /// `None` once ended.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    line: Vec<u8>,
    sent: Digest,
    received: Digest,
}

/// What one session sent and received, as each end saw it.
pub(super) struct Session {
    sent: Digest,
    received: Digest,
    server: Digests,
}

#[derive(Deserialize)]
struct Answer {
    result: Digests,
}

/// What the server saw.
#[derive(Deserialize)]
struct Digests {
    received: Seen,
    sent: Seen,
}

#[derive(Deserialize)]
struct Seen {
    messages: u64,
    bytes: u64,
    hash: String,
}

/// One session through the proxy; each message is told to `out` as it crosses.
pub(super) fn session(out: &mut impl Write) -> io::Result<Session> {
    let mut client = Client::start_through()?;
    for message in SESSION {
        client.send(message)?;
        report::write_message(out, report::Way::ToServer, message.as_bytes())?;
        // A notification is answered by nothing; a request's answer is the message that has a result.
        while message.contains("\"id\"") {
            let answer = client.receive()?;
            report::write_message(out, report::Way::ToClient, answer)?;
            if answer.windows(9).any(|bytes| bytes == b"\"result\":") {
                break;
            }
        }
    }
    let server = client.digests()?;
    let (sent, received) = (client.sent.clone(), client.received.clone());
    client.finish()?;
    Ok(Session { sent, received, server })
}

impl Client {
    pub(super) fn start_direct() -> io::Result<Self> {
        Self::start(Command::new(env::current_exe()?).arg(DEMO_SERVER))
    }

    pub(super) fn start_through() -> io::Result<Self> {
        let this = env::current_exe()?;
        Self::start(Command::new(&this).args(["proxy", "--"]).arg(&this).arg(DEMO_SERVER))
    }

    fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let (sent, received) = (Digest::default(), Digest::default());
        let stdout = BufReader::with_capacity(64 << 10, stdout);
        Ok(Self { child, stdin: Some(stdin), stdout, line: Vec::new(), sent, received })
    }

    /// One small call and its answer.
    pub(super) fn ping(&mut self) -> io::Result<()> {
        self.send(PING)?;
        self.receive().map(drop)
    }

    /// Ends the session and waits until everything behind it has ended too.
    pub(super) fn finish(mut self) -> io::Result<()> {
        drop(self.stdin.take());
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("a child ended with {status}"))) }
    }

    fn send(&mut self, message: &str) -> io::Result<()> {
        self.sent.add(message.as_bytes());
        self.write(message)
    }

    fn receive(&mut self) -> io::Result<&[u8]> {
        self.read()?;
        self.received.add(&self.line);
        Ok(&self.line)
    }

    /// What the server has seen. Not counted on either end.
    fn digests(&mut self) -> io::Result<Digests> {
        self.write(&format!(r#"{{"jsonrpc":"2.0","id":"digests","method":"{DIGESTS}"}}"#))?;
        self.read()?;
        let answer: Answer = serde_json::from_slice(&self.line)?;
        Ok(answer.result)
    }

    fn write(&mut self, message: &str) -> io::Result<()> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all([message, "\n"].concat().as_bytes())
    }

    fn read(&mut self) -> io::Result<()> {
        self.line.clear();
        if self.stdout.read_until(b'\n', &mut self.line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.line.pop();
        Ok(())
    }
}

impl Session {
    /// Whether every byte arrived as it was sent, both ways.
    pub(super) fn is_equal(&self) -> bool {
        self.server.received.is(&self.sent) && self.server.sent.is(&self.received)
    }

    pub(super) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { sent, received, server } = self;
        report::write_hashes(out, "client sent", sent, "server received", &server.received.hash)?;
        report::write_hashes(out, "client received", received, "server sent", &server.sent.hash)
    }
}

impl Seen {
    fn is(&self, digest: &Digest) -> bool {
        let hash = format!("{:016x}", digest.hash());
        (self.messages, self.bytes, &self.hash) == (digest.messages, digest.bytes, &hash)
    }
}

/// What the client says: a handshake, a list, and calls that most proxies change.
const SESSION: [&str; 6] = [
    r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"demo","version":"1"}}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    r#"{"jsonrpc":"2.0","id":"list","method":"tools/list"}"#,
    "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\",\"arguments\":{\"text\":\"🐈‍⬛ Zoë \u{2028} \\u00e9\\n\\ud83d\\ude00 \\/\"}}}",
    r#"{ "params":{"arguments":{"z":1.0,"a":-0,"big":9007199254740993,"huge":1e400,"z2":[ 1 , 2 ]},"name":"echo"},"method":"tools/call", "id":18446744073709551617,"jsonrpc":"2.0" }"#,
    r#"{"jsonrpc":"2.0","id":4.0,"method":"tools/call","params":{"name":"count","arguments":{},"_meta":{"progressToken":"p-1"}}}"#,
];

/// The timed call.
const PING: &str =
    r#"{"jsonrpc":"2.0","id":12345,"method":"tools/call","params":{"name":"echo","arguments":{"text":"0123"}}}"#;

/// Its length, for the report.
pub(super) const PING_LEN: usize = PING.len();
