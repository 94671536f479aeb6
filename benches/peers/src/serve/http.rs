//! The mock server over HTTP: one thread, one `epoll`, kept connections; answers are JSON, or events where several go.
//!
//! Prints `listening on ADDRESS` on stdout. Sessions are given out and not looked at again. A GET gets a stream on
//! which nothing happens. Events leave in chunks of their own, and as many in one write as the socket takes.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::event::epoll;

use crate::{
    answer::{self, Reply},
    http::{Body, Head},
    lane::Inbox,
};

/// Serves until it is killed, or its parent is gone and nobody reads its stdout.
pub fn serve() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &socket, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    println!("listening on {}", socket.local_addr()?);
    let mut connections = HashMap::new();
    let (mut next, mut events) = (LISTENER + 1, Vec::with_capacity(256));
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let key = event.data.u64();
            if key == LISTENER {
                let (stream, _) = socket.accept()?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                epoll::add(&poll, &stream, epoll::EventData::new_u64(next), epoll::EventFlags::IN)?;
                connections.insert(next, Connection::new(stream));
                next += 1;
            } else if let Some(connection) = connections.get_mut(&key) {
                // A connection that failed, or ended, is dropped, and with it its registration.
                if connection.serve(&poll, key).is_err() {
                    connections.remove(&key);
                }
            }
        }
    }
}

const LISTENER: u64 = 0;

struct Connection {
    stream: TcpStream,
    inbox: Inbox,
    request: Option<(Head, Body, Vec<u8>)>,
    out: Vec<u8>,
    sent: usize,
    waits_for_room: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, inbox: Inbox::default(), request: None, out: Vec::new(), sent: 0, waits_for_room: false }
    }

    fn serve(&mut self, poll: &impl std::os::fd::AsFd, key: u64) -> io::Result<()> {
        if !self.waits_for_room {
            match self.inbox.fill(&mut self.stream) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => while self.advance()? {},
            }
        }
        self.flush()?;
        let waits = self.sent < self.out.len();
        if waits != self.waits_for_room {
            self.waits_for_room = waits;
            let interest = if waits { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
            epoll::modify(poll, &self.stream, epoll::EventData::new_u64(key), interest)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// One step through what was read; `false` when more must be read first.
    fn advance(&mut self) -> io::Result<bool> {
        let through = match &mut self.request {
            None => {
                let Some(head) = Head::of_request(self.inbox.bytes())? else { return Ok(false) };
                self.inbox.consume(head.len);
                let body = Body::from(head.body);
                self.request = Some((head, body, Vec::new()));
                1
            }
            Some((_, body, joined)) => {
                let (through, range) = body.step(self.inbox.bytes())?;
                joined.extend_from_slice(&self.inbox.bytes()[range]);
                self.inbox.consume(through);
                through
            }
        };
        if let Some((head, _, message)) = self.request.take_if(|(_, body, _)| *body == Body::Done) {
            match head.method.as_str() {
                // Some ask for authorization servers first.
                _ if head.path != "/mcp" => {
                    self.out.extend_from_slice(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
                }
                "POST" => post(&message, &mut self.out),
                "GET" => self.out.extend_from_slice(EVENTS),
                _ => self.out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            }
        }
        Ok(through > 0)
    }
}

const EVENTS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
    transfer-encoding: chunked\r\n\r\n";

static SESSIONS: AtomicU64 = AtomicU64::new(1);

fn post(message: &[u8], out: &mut Vec<u8>) {
    let mut last = Vec::new();
    let session = match answer::answer(message, &mut last) {
        Reply::Nothing => {
            out.extend_from_slice(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
            return;
        }
        Reply::Many { count, token } => {
            out.extend_from_slice(EVENTS);
            let mut data = Vec::new();
            for index in 1..=count {
                data.clear();
                answer::notification(&token, index, &mut data);
                event(&data, out);
            }
            event(&last, out);
            out.extend_from_slice(b"0\r\n\r\n");
            return;
        }
        Reply::One => String::new(),
        Reply::Opened => format!("mcp-session-id: {:032x}\r\n", SESSIONS.fetch_add(1, Ordering::Relaxed)),
    };
    let len = last.len();
    // Writing to a vector does not fail.
    _ = write!(out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{session}content-length: {len}\r\n\r\n");
    out.append(&mut last);
}

fn event(data: &[u8], out: &mut Vec<u8>) {
    _ = write!(out, "{:x}\r\nevent: message\ndata: ", "event: message\ndata: \n\n".len() + data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n\r\n");
}
