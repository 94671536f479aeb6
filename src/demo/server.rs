//! The demo's MCP server: newline-delimited JSON-RPC on stdin and stdout, a few tools, and a hash of
//! everything that came and went.
//!
//! It passes arguments back byte for byte, so that what a client sends can be compared with what it gets. It
//! is no example of how to write a server: it answers just what the demo asks.

use std::{
    hash::{DefaultHasher, Hasher as _},
    io::{self, BufRead, Write},
    process::ExitCode,
};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::{Failure, RUNTIME};

/// Serves stdin until it ends.
pub(crate) fn serve() -> Result<ExitCode, Failure> {
    let mut server = Server { out: io::stdout().lock(), received: Digest::default(), sent: Digest::default() };
    match server.run(io::stdin().lock()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::new(RUNTIME, format!("demo server: {error}"))),
    }
}

/// How many messages, how many bytes, and a hash over all of them in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Digest {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    hasher: DefaultHasher,
}

struct Server<W> {
    out: W,
    received: Digest,
    sent: Digest,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: String,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Call<'a> {
    name: String,
    #[serde(borrow)]
    arguments: &'a RawValue,
    #[serde(borrow, rename = "_meta")]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "progressToken")]
    progress_token: &'a RawValue,
}

impl Digest {
    pub(super) fn add(&mut self, message: &[u8]) {
        self.messages += 1;
        self.bytes += message.len() as u64;
        self.hasher.write(message);
        // A boundary, or two messages could be one.
        self.hasher.write_u8(b'\n');
    }

    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

impl<W: Write> Server<W> {
    fn run(&mut self, mut input: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line)? > 0 {
            let message = line.strip_suffix(b"\n").unwrap_or(&line);
            let request: Request<'_> = serde_json::from_slice(message)?;
            if request.method != DIGESTS {
                self.received.add(message);
            }
            if let Some(id) = request.id {
                self.answer(id.get(), &request)?;
                self.out.flush()?;
            }
            line.clear();
        }
        Ok(())
    }

    fn answer(&mut self, id: &str, request: &Request<'_>) -> io::Result<()> {
        match request.method.as_str() {
            "initialize" => self.send(format_args!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"shadowcat-demo","version":"{}"}}}}}}"#,
                env!("CARGO_PKG_VERSION"),
            )),
            "tools/list" => self.send(format_args!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":[{{"name":"echo","inputSchema":{{"type":"object"}}}},{{"name":"count","inputSchema":{{"type":"object"}}}}]}}}}"#,
            )),
            "tools/call" => self.call(id, request.params),
            "ping" => self.send(format_args!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)),
            DIGESTS => self.digests(id),
            _ => self.send(format_args!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"method not found"}}}}"#
            )),
        }
    }

    fn call(&mut self, id: &str, params: Option<&RawValue>) -> io::Result<()> {
        let call: Call<'_> = serde_json::from_str(params.map_or("null", RawValue::get))?;
        if let ("count", Some(meta)) = (call.name.as_str(), &call.meta) {
            let token = meta.progress_token;
            for step in 1..=STEPS {
                self.send(format_args!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{step},"total":{STEPS}}}}}"#,
                ))?;
            }
        }
        let arguments = call.arguments.get();
        self.send(format_args!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"structuredContent":{arguments}}}}}"#
        ))
    }

    /// What we have seen so far; this answer itself is not counted.
    fn digests(&mut self, id: &str) -> io::Result<()> {
        let [received, sent] = [&self.received, &self.sent].map(|digest| {
            let Digest { messages, bytes, .. } = digest;
            format!(r#"{{"messages":{messages},"bytes":{bytes},"hash":"{:016x}"}}"#, digest.hash())
        });
        writeln!(self.out, r#"{{"jsonrpc":"2.0","id":{id},"result":{{"received":{received},"sent":{sent}}}}}"#)
    }

    fn send(&mut self, message: std::fmt::Arguments<'_>) -> io::Result<()> {
        let message = message.to_string();
        self.sent.add(message.as_bytes());
        writeln!(self.out, "{message}")
    }
}

/// The method that asks what was seen. Neither it nor its answer is counted.
pub(super) const DIGESTS: &str = "demo/digests";

/// Progress notifications of one `count`.
const STEPS: u32 = 3;
