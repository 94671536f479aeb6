//! One way to the server that is never waited for: a pair of pipes with a message a line, or an HTTP connection.
//!
//! Sends and receives what there is room for and what is there; who waits is the load generator. Knows no ids.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    net::TcpStream,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::http::{self, Body, Head};

/// Bytes that were read and not yet used.
#[derive(Debug, Default)]
pub struct Inbox {
    buf: Vec<u8>,
    /// `start <= scanned <= end <= buf.len()`: used up, known to hold no newline, read.
    start: usize,
    scanned: usize,
    end: usize,
}

const READ_LEN: usize = 128 << 10;

impl Inbox {
    /// One read; 0 is the end.
    pub fn fill(&mut self, from: &mut impl Read) -> io::Result<usize> {
        if self.buf.len() - self.end < READ_LEN {
            self.buf.copy_within(self.start..self.end, 0);
            (self.end, self.scanned, self.start) = (self.end - self.start, self.scanned - self.start, 0);
            self.buf.resize((2 * self.end).max(self.end + READ_LEN), 0);
        }
        let len = from.read(&mut self.buf[self.end..])?;
        self.end += len;
        Ok(len)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    pub fn consume(&mut self, len: usize) {
        self.start += len;
        self.scanned = self.scanned.max(self.start);
        if self.start == self.end {
            (self.start, self.scanned, self.end) = (0, 0, 0);
        }
    }

    /// The next whole line, without its end.
    pub fn line(&mut self) -> Option<&[u8]> {
        let Some(found) = memchr::memchr(b'\n', &self.buf[self.scanned..self.end]) else {
            self.scanned = self.end;
            return None;
        };
        let range = self.start..self.scanned + found;
        self.consume(range.len() + 1);
        Some(self.buf[range].trim_ascii_end())
    }
}

/// Bytes on their way.
#[derive(Debug, Default)]
struct Outbox {
    buf: Vec<u8>,
    sent: usize,
}

impl Outbox {
    fn flush(&mut self, to: &mut File) -> io::Result<()> {
        while self.sent < self.buf.len() {
            match to.write(&self.buf[self.sent..]) {
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.buf.clear();
        self.sent = 0;
        Ok(())
    }
}

/// What came over a lane.
#[derive(Debug)]
pub enum Got<'a> {
    Message(&'a [u8]),
    /// An HTTP exchange is over.
    End {
        status: u16,
        session: Option<&'a str>,
    },
}

#[derive(Debug)]
pub struct Lane {
    reader: File,
    writer: File,
    inbox: Inbox,
    outbox: Outbox,
    framing: Framing,
}

#[derive(Debug)]
enum Framing {
    Lines,
    Http(Box<Exchanges>),
}

/// HTTP exchanges, one after another.
#[derive(Debug)]
struct Exchanges {
    front: Front,
    /// What is being answered.
    exchange: Option<(Head, Body)>,
    /// Of its body, what is not used yet.
    joined: Vec<u8>,
    /// Of `joined`, what is known to hold no end of an event: `scanned <= joined.len()`.
    scanned: usize,
}

/// What every request to an HTTP front says.
#[derive(Debug, Clone, Default)]
pub struct Front {
    pub host: String,
    pub path: String,
    /// Whole header lines.
    pub headers: String,
}

impl Lane {
    pub fn lines(reader: OwnedFd, writer: OwnedFd) -> io::Result<Self> {
        for fd in [&reader, &writer] {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok(Self::new(reader.into(), writer.into(), Framing::Lines))
    }

    pub fn http(stream: TcpStream, front: Front) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let framing = Framing::Http(Box::new(Exchanges { front, exchange: None, joined: Vec::new(), scanned: 0 }));
        Ok(Self::new(OwnedFd::from(stream.try_clone()?).into(), OwnedFd::from(stream).into(), framing))
    }

    fn new(reader: File, writer: File, framing: Framing) -> Self {
        Self { reader, writer, inbox: Inbox::default(), outbox: Outbox::default(), framing }
    }

    pub fn is_http(&self) -> bool {
        matches!(self.framing, Framing::Http(_))
    }

    /// Queues a message; `flush` sends it.
    pub fn queue(&mut self, message: &[u8]) {
        let out = &mut self.outbox.buf;
        match &self.framing {
            Framing::Lines => {
                out.extend_from_slice(message);
                out.push(b'\n');
            }
            Framing::Http(exchanges) => {
                exchanges.front.head("POST", "content-type: application/json\r\n", message.len(), out);
                out.extend_from_slice(message);
            }
        }
    }

    /// Queues a GET or a DELETE.
    pub fn queue_method(&mut self, method: &str) {
        if let Framing::Http(exchanges) = &self.framing {
            exchanges.front.head(method, "", 0, &mut self.outbox.buf);
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.outbox.flush(&mut self.writer)
    }

    pub fn has_unsent(&self) -> bool {
        !self.outbox.buf.is_empty()
    }

    pub fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    pub fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// One read, and `each` for all that is whole now.
    pub fn receive(&mut self, each: &mut dyn FnMut(Got<'_>)) -> io::Result<()> {
        let is_over = match self.inbox.fill(&mut self.reader) {
            Ok(len) => len == 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let Self { inbox, framing, .. } = self;
        match framing {
            Framing::Lines => {
                while let Some(line) = inbox.line() {
                    each(Got::Message(line));
                }
            }
            Framing::Http(exchanges) => {
                let Exchanges { exchange, joined, scanned, .. } = &mut **exchanges;
                while advance(inbox, exchange, joined, scanned, each)? {}
                if is_over && matches!(exchange, Some((_, Body::UntilClose))) {
                    end(exchange, joined, each);
                }
            }
        }
        if is_over { Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed")) } else { Ok(()) }
    }
}

impl Front {
    fn head(&self, method: &str, more: &str, len: usize, out: &mut Vec<u8>) {
        let Self { host, path, headers } = self;
        let accept = if method == "GET" { "text/event-stream" } else { "application/json, text/event-stream" };
        // Writing to a vector does not fail.
        _ = write!(out, "{method} {path} HTTP/1.1\r\nhost: {host}\r\naccept: {accept}\r\n{more}{headers}");
        _ = if len > 0 { write!(out, "content-length: {len}\r\n\r\n") } else { write!(out, "\r\n") };
    }
}

/// One step through what was read; `false` when more must be read first.
fn advance(
    inbox: &mut Inbox,
    exchange: &mut Option<(Head, Body)>,
    joined: &mut Vec<u8>,
    scanned: &mut usize,
    each: &mut dyn FnMut(Got<'_>),
) -> io::Result<bool> {
    let Some((head, body)) = exchange else {
        let Some(head) = Head::of_response(inbox.bytes())? else { return Ok(false) };
        inbox.consume(head.len);
        // An informational answer is followed by the real one.
        if head.status >= 200 {
            let body = Body::from(head.body);
            *exchange = Some((head, body));
            end_if_done(exchange, joined, each);
        }
        return Ok(true);
    };
    let (through, Range { start, end }) = body.step(inbox.bytes())?;
    joined.extend_from_slice(&inbox.bytes()[start..end]);
    inbox.consume(through);
    if head.is_event_stream && end > start {
        let mut used = 0;
        while let Some((data, len)) = http::first_event(&joined[used..], scanned) {
            if !data.is_empty() {
                each(Got::Message(&joined[used..][data]));
            }
            used += len;
        }
        joined.drain(..used);
    }
    end_if_done(exchange, joined, each);
    Ok(through > 0)
}

fn end_if_done(exchange: &mut Option<(Head, Body)>, joined: &mut Vec<u8>, each: &mut dyn FnMut(Got<'_>)) {
    if matches!(exchange, Some((_, Body::Done))) {
        end(exchange, joined, each);
    }
}

fn end(exchange: &mut Option<(Head, Body)>, joined: &mut Vec<u8>, each: &mut dyn FnMut(Got<'_>)) {
    let Some((head, _)) = exchange.take() else { return };
    if !head.is_event_stream && !joined.is_empty() {
        each(Got::Message(joined));
    }
    joined.clear();
    each(Got::End { status: head.status, session: head.session.as_deref() });
}
