//! A client of one front: opens a session, opens lanes, waits for what comes with a deadline.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    process::{ChildStdin, ChildStdout},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{
    lane::{Front, Got, Lane},
    message, process,
};

/// How long a single answer may take, unless said otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub enum Client {
    Stdio(Box<Lane>),
    Http(SocketAddr, Front),
}

impl Client {
    pub fn stdio(stdin: ChildStdin, stdout: ChildStdout) -> io::Result<Self> {
        Ok(Self::Stdio(Box::new(Lane::lines(OwnedFd::from(stdout), OwnedFd::from(stdin))?)))
    }

    pub fn http(address: SocketAddr, path: &str) -> Self {
        let headers = "mcp-protocol-version: 2025-11-25\r\n".to_owned();
        Self::Http(address, Front { host: address.to_string(), path: path.to_owned(), headers })
    }

    /// The handshake. An HTTP client has its session's header from then on.
    pub fn open(&mut self, patience: Duration) -> io::Result<()> {
        let until = Instant::now() + patience;
        let mut lanes = self.lanes(1)?;
        let (answer, session) = ask(&mut lanes[0], message::INITIALIZE.as_bytes(), until)?;
        if memchr::memmem::find(&answer, b"\"protocolVersion\"").is_none() {
            return Err(io::Error::other(format!("initialize was answered by {}", answer.escape_ascii())));
        }
        if let (Self::Http(_, front), Some(session)) = (&mut *self, session) {
            front.headers.push_str(&format!("mcp-session-id: {session}\r\n"));
        }
        let mut lanes = self.lanes(1)?;
        lanes[0].queue(message::INITIALIZED.as_bytes());
        if lanes[0].is_http() { end_of_exchange(&mut lanes[0], until).map(drop) } else { lanes[0].flush() }
    }

    /// Fresh HTTP connections in this session, or the one pair of pipes.
    pub fn lanes(&mut self, count: usize) -> io::Result<Lanes<'_>> {
        match self {
            Self::Stdio(lane) => Ok(Lanes::One(lane)),
            Self::Http(address, front) => {
                let open = || Lane::http(TcpStream::connect(*address)?, front.clone());
                (0..count).map(|_| open()).collect::<io::Result<_>>().map(Lanes::Many)
            }
        }
    }

    /// Ends the session of an HTTP client; an error is the front's affair.
    pub fn close(&mut self) {
        if let Ok(Lanes::Many(mut lanes)) = self.lanes(1) {
            lanes[0].queue_method("DELETE");
            _ = end_of_exchange(&mut lanes[0], Instant::now() + Duration::from_secs(1));
        }
    }
}

#[derive(Debug)]
pub enum Lanes<'a> {
    One(&'a mut Lane),
    Many(Vec<Lane>),
}

impl std::ops::Deref for Lanes<'_> {
    type Target = [Lane];

    fn deref(&self) -> &[Lane] {
        match self {
            Self::One(lane) => std::slice::from_ref(lane),
            Self::Many(lanes) => lanes,
        }
    }
}

impl std::ops::DerefMut for Lanes<'_> {
    fn deref_mut(&mut self) -> &mut [Lane] {
        match self {
            Self::One(lane) => std::slice::from_mut(lane),
            Self::Many(lanes) => lanes,
        }
    }
}

/// Waits until a lane has something to read, or took some of what was not sent; at most until `until`. Tells in
/// `ready` which can be read.
pub fn wait(lanes: &mut [Lane], ready: &mut Vec<usize>, until: Instant) -> io::Result<()> {
    ready.clear();
    let has_unsent = lanes.iter().any(Lane::has_unsent);
    let readers = lanes.iter().map(|lane| PollFd::from_borrowed_fd(lane.reader(), PollFlags::IN));
    let mut fds: Vec<_> = readers.collect();
    if has_unsent {
        let writers = lanes.iter().filter(|lane| lane.has_unsent());
        fds.extend(writers.map(|lane| PollFd::from_borrowed_fd(lane.writer(), PollFlags::OUT)));
    }
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || process::is_stopped() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        }
        // Short enough to notice a signal that came just before.
        let left = left.min(Duration::from_millis(500));
        let timeout = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let can_read = fds[..lanes.len()].iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    ready.extend(can_read.map(|(index, _)| index));
    lanes.iter_mut().filter(|lane| lane.has_unsent()).try_for_each(Lane::flush)
}

/// Sends a request and waits for its answer, and for the end of the exchange.
fn ask(lane: &mut Lane, request: &[u8], until: Instant) -> io::Result<(Vec<u8>, Option<String>)> {
    lane.queue(request);
    if lane.is_http() {
        return end_of_exchange(lane, until);
    }
    let (mut answer, mut ready) = (None, Vec::new());
    lane.flush()?;
    loop {
        wait(std::slice::from_mut(lane), &mut ready, until)?;
        if !ready.is_empty() {
            lane.receive(&mut |got| {
                if let Got::Message(message) = got
                    && answer.is_none()
                {
                    answer = Some(message.to_vec());
                }
            })?;
        }
        if let Some(answer) = answer {
            return Ok((answer, None));
        }
    }
}

/// The last message of the exchange, and the session it named.
pub fn end_of_exchange(lane: &mut Lane, until: Instant) -> io::Result<(Vec<u8>, Option<String>)> {
    let (mut last, mut ready) = (Vec::new(), Vec::new());
    lane.flush()?;
    let mut end = None;
    loop {
        wait(std::slice::from_mut(lane), &mut ready, until)?;
        if !ready.is_empty() {
            let received = lane.receive(&mut |got| match got {
                Got::Message(message) => last = message.to_vec(),
                Got::End { status, session } => end = Some((status, session.map(str::to_owned))),
            });
            match end {
                Some((200..300, session)) => return Ok((last, session)),
                Some((status, _)) => {
                    return Err(io::Error::other(format!("HTTP status {status}: {}", last.escape_ascii())));
                }
                None => received?,
            }
        }
    }
}
