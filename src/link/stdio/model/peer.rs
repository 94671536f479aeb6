//! One end of a session as a test plays it: what it still has to write, what it has written whole, what it reads.

use std::{
    collections::VecDeque,
    io::IoSlice,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;

use crate::transport::{Reader, Writer};

/// A client or a server.
#[derive(Debug)]
pub(super) struct Peer {
    reader: Option<Reader>,
    /// `None` once its stream has ended.
    writer: Option<Writer>,
    unsent: Vec<u8>,
    /// Bytes the pipe has taken, and bytes there are.
    written: u64,
    end: u64,
    /// What is not yet written whole, in order.
    unfinished: VecDeque<Said>,
    unread: Vec<u8>,
    pub(super) has_heard_end: bool,
}

/// A message, as its sender knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) line: String,
    pub(super) what: What,
    /// Offset in the sender's stream behind its last byte, without the line end; and with it.
    end: u64,
    line_end: u64,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A request with this id: passed on, or refused with an error.
    Ask(String),
    /// An answer, and one too long to be passed on: its asker gets an error.
    Answer(String),
    OverlongAnswer(String),
    Cancel(String),
    Note,
    /// Goes nowhere.
    Noise,
}

impl What {
    /// Whether the other side may not see it.
    pub(super) fn may_stay_behind(&self) -> bool {
        matches!(self, Self::Noise | Self::OverlongAnswer(_) | Self::Ask(_))
    }
}

impl Said {
    pub(super) fn len(&self) -> u64 {
        self.line.len() as u64 + 1
    }
}

impl Peer {
    pub(super) fn new(reader: Reader, writer: Writer) -> Self {
        Self {
            reader: Some(reader),
            writer: Some(writer),
            unsent: Vec::new(),
            written: 0,
            end: 0,
            unfinished: VecDeque::new(),
            unread: Vec::new(),
            has_heard_end: false,
        }
    }

    /// Whether it can still say something.
    pub(super) fn can_say(&self) -> bool {
        self.writer.is_some()
    }

    pub(super) fn is_reading(&self) -> bool {
        self.reader.is_some()
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.writer.is_some() && !self.unsent.is_empty()
    }

    /// Puts a message at the end of what is to be written.
    pub(super) fn say(&mut self, what: What, line: String, line_end: &str) {
        if !self.can_say() {
            return;
        }
        let end = self.end + line.len() as u64;
        self.end = end + line_end.len() as u64;
        self.unsent.extend_from_slice(line.as_bytes());
        self.unsent.extend_from_slice(line_end.as_bytes());
        let line_end = end + line_end.find('\n').map_or(0, |at| at as u64 + 1);
        self.unfinished.push_back(Said { line, what, end, line_end });
    }

    /// Writes at most `len` bytes, and returns what is whole now. Whoever reads no more is not written to.
    pub(super) fn write(&mut self, len: usize) -> Vec<Said> {
        let len = len.min(self.unsent.len());
        let Some(writer) = self.writer.as_mut().filter(|_| len > 0) else { return Vec::new() };
        let written = writer.poll_write(&mut Context::from_waker(Waker::noop()), &[IoSlice::new(&self.unsent[..len])]);
        match written {
            Poll::Ready(Ok(written)) => {
                self.unsent.drain(..written);
                self.written += written as u64;
            }
            Poll::Ready(Err(_)) => self.writer = None,
            Poll::Pending => {}
        }
        // With its line end: until then it could be longer.
        self.whole(|said, written| said.line_end <= written)
    }

    /// Ends the stream. A last message is whole without a line end, too.
    pub(super) fn end(&mut self) -> Vec<Said> {
        self.writer = None;
        self.whole(|said, written| said.end <= written)
    }

    pub(super) fn read_no_more(&mut self) {
        self.reader = None;
    }

    /// Reads at most `len` bytes, and returns the lines that are whole now.
    pub(super) fn read(&mut self, len: usize) -> Vec<String> {
        let Some(reader) = &mut self.reader else { return Vec::new() };
        let mut buf = BytesMut::with_capacity(len);
        if let Poll::Ready(read) = reader.poll_read(&mut Context::from_waker(Waker::noop()), &mut buf) {
            self.has_heard_end |= read.unwrap() == 0;
            self.unread.extend_from_slice(&buf);
        }
        let Some(end) = self.unread.iter().rposition(|&byte| byte == b'\n') else { return Vec::new() };
        let lines = String::from_utf8(self.unread.drain(..=end).collect()).unwrap();
        lines.split_terminator('\n').map(str::to_owned).collect()
    }

    /// Bytes of a line that has no end yet.
    pub(super) fn unread_len(&self) -> usize {
        self.unread.len()
    }

    /// Bytes of a message that is not yet written whole.
    pub(super) fn begun_len(&self) -> u64 {
        let begin = self.unfinished.front().map_or(self.written, |said| said.end - said.line.len() as u64);
        self.written.saturating_sub(begin)
    }

    fn whole(&mut self, is_whole: impl Fn(&Said, u64) -> bool) -> Vec<Said> {
        let count = self.unfinished.iter().take_while(|said| is_whole(said, self.written)).count();
        self.unfinished.drain(..count).collect()
    }
}
