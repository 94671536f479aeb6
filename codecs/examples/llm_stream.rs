//! A language model's answer, token by token, from a stream that may break off: each token is here when its event is, the
//! stream is resumed where it ended, and an answer that was cut is never taken for a whole one.
//!
//! ```sh
//! cargo run -p shadowcat-codecs --example llm_stream                         # a stream that breaks off, made up
//! curl -sN "$URL" | cargo run -p shadowcat-codecs --example llm_stream -- -  # yours, from stdin
//! ```

use std::{
    env,
    io::{self, Read, Write},
    thread,
    time::Duration,
};

use bytes::BytesMut;
use shadowcat_codecs::{
    Limits,
    sse::{EventTable, SseDecoder},
};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut answer = Answer::default();
    if env::args().nth(1).as_deref() == Some("-") {
        let end = answer.read(io::stdin().lock(), &mut out)?;
        return if end == End::Whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
    }
    follow(&mut answer, made_up, &mut out)
}

/// Reads to the end of the answer, over as many connections as that takes. `connect` is given the id of the last event
/// that is here, for the header `Last-Event-ID`.
#[expect(clippy::disallowed_methods, reason = "this program has nothing to do meanwhile")]
pub(crate) fn follow<R: Read>(
    answer: &mut Answer,
    mut connect: impl FnMut(Option<&str>) -> R,
    out: &mut impl Write,
) -> io::Result<()> {
    for _ in 0..MAX_CONNECTIONS {
        let body = connect(answer.last_id.as_deref());
        if answer.read(body, out)? == End::Whole {
            return Ok(());
        }
        // As long as the server asks for, or else as long as browsers wait.
        thread::sleep(answer.retry.unwrap_or(Duration::from_secs(3)));
    }
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// What outlives a connection.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    last_id: Option<String>,
    retry: Option<Duration>,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server said that this was all.
    Whole,
    BrokeOff,
}

impl Answer {
    /// Reads one body, and writes each token when it is here.
    pub(crate) fn read(&mut self, mut body: impl Read, out: &mut impl Write) -> io::Result<End> {
        // One decoder for one body: what an earlier one left unfinished is nobody's event.
        let mut decoder = SseDecoder::new(Limits::default());
        let (mut table, mut buf, mut chunk) = (EventTable::new(), BytesMut::new(), [0; 4096]);
        loop {
            let len = match body.read(&mut chunk) {
                Ok(0) => return Ok(End::BrokeOff),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Ok(End::BrokeOff),
            };
            buf.extend_from_slice(chunk.get(..len).unwrap_or_default());
            loop {
                match decoder.decode(&mut buf, &mut table) {
                    Ok(Some(batch)) => {
                        for event in batch.iter() {
                            if event.data() == b"[DONE]" {
                                return Ok(End::Whole);
                            }
                            self.take(event.data(), out)?;
                        }
                        table.recycle(batch);
                    }
                    Ok(None) => break,
                    // With limit and offset; the next event is whole.
                    Err(error) => writeln!(out, "[skipped: {error}]")?,
                }
            }
            // Both as of the last event that ended; an empty id is one that was taken back.
            self.retry = decoder.retry().or(self.retry);
            if let Some(id) = decoder.last_id() {
                self.last_id = (!id.is_empty()).then(|| String::from_utf8_lossy(id).into_owned());
            }
        }
    }

    /// The token in the data of an event, in the form of many servers.
    fn take(&mut self, data: &[u8], out: &mut impl Write) -> io::Result<()> {
        let chunk: serde_json::Value = serde_json::from_slice(data)?;
        let token = chunk.pointer("/choices/0/delta/content").and_then(serde_json::Value::as_str).unwrap_or_default();
        self.text.push_str(token);
        out.write_all(token.as_bytes())?;
        out.flush()
    }
}

/// A server that goes away in the middle of an event, the first time.
pub(crate) fn made_up(last_id: Option<&str>) -> &'static [u8] {
    match last_id {
        None => {
            b"retry: 10\n\n: keep-alive\n\n\
              id: 1\ndata: {\"choices\":[{\"delta\":{\"content\":\"Exact \"}}]}\n\n\
              id: 2\ndata: {\"choices\":[{\"delta\":{\"con"
        }
        Some("1") => {
            b"id: 2\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"bytes\"}}]}\r\n\r\n\
              id: 3\ndata: {\"choices\":\ndata: [{\"delta\":{\"content\":\".\\n\"}}]}\n\n\
              data: [DONE]\n\n"
        }
        Some(_) => b"",
    }
}

/// Most connections for one answer.
const MAX_CONNECTIONS: usize = 5;
