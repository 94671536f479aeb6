//! A child's stderr: drained always, passed on line by line.
//!
//! A server whose stderr is full stands still, so whoever takes the lines must not make this wait for long.
//! stderr is free text (MCP "stdio"): nothing is concluded from it. Lines longer than [`MAX_LINE`] are cut into pieces.
//! The [last of them](LastWords) are remembered, for who asks what became of the child.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use bytes::{Buf as _, BytesMut};

use tokio::sync::watch;

use super::last_words::LastWords;
use crate::transport::Reader;

/// The reader of a child's stderr and the taker of its lines.
#[derive(Debug)]
pub struct ServerLog<F> {
    reader: Reader,
    line: F,
    buf: BytesMut,
    /// Prefix of `buf` known to hold no LF. Invariant: `scanned <= buf.len() < MAX_LINE` between reads.
    scanned: usize,
    /// What was said last. A channel, because who asks runs beside [`run`](Self::run).
    words: watch::Sender<LastWords>,
}

impl<F: AsyncFnMut(&[u8])> ServerLog<F> {
    /// Passes each line, without its line end, to `line`.
    pub fn new(reader: Reader, line: F) -> Self {
        Self { reader, line, buf: BytesMut::new(), scanned: 0, words: watch::Sender::default() }
    }

    /// What was said last, whenever it is looked at.
    pub fn last_words(&self) -> watch::Receiver<LastWords> {
        self.words.subscribe()
    }

    /// Reads to the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop; what was read of an unfinished line is lost with it.
    pub async fn run(mut self) {
        while let Ok(1..) = poll_fn(|cx| self.poll_read(cx)).await {
            self.take_lines().await;
        }
        if !self.buf.is_empty() {
            let line = self.buf.split();
            self.pass(&line).await;
        }
    }

    /// Holds a buffer only for what was read: a server may say nothing for hours.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buf.reserve(READ_SIZE);
        let read = self.reader.poll_read(cx, &mut self.buf);
        if read.is_pending() && self.buf.is_empty() {
            self.buf = BytesMut::new();
        }
        read
    }

    async fn take_lines(&mut self) {
        loop {
            let piece = self.buf.get(..=MAX_LINE).unwrap_or(&self.buf);
            let unseen = piece.get(self.scanned..).unwrap_or_default();
            if let Some(len) = unseen.iter().position(|&byte| byte == b'\n') {
                let line = self.buf.split_to(self.scanned + len);
                self.buf.advance(1);
                self.pass(line.strip_suffix(b"\r").unwrap_or(&line)).await;
            } else if self.buf.len() >= MAX_LINE {
                let piece = self.buf.split_to(MAX_LINE);
                self.pass(&piece).await;
            } else {
                self.scanned = self.buf.len();
                return;
            }
            self.scanned = 0;
        }
    }

    async fn pass(&mut self, line: &[u8]) {
        // Remembered first: passing it on may wait for whoever reads our stderr.
        self.words.send_modify(|words| words.note(line));
        (self.line)(line).await;
    }
}

/// Longest piece that is passed on at once, in bytes.
pub const MAX_LINE: usize = 8 << 10;
const READ_SIZE: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::transport::memory;

    #[tokio::test]
    async fn lines_come_whole_and_floods_in_pieces() {
        let (mut here, there) = memory::pair(64);
        let mut lines = Vec::new();
        let flood = [&b"one\r\ntwo\n\n"[..], &[b'x'; MAX_LINE + 10], b"\nlast"].concat();
        let write = async {
            let mut left = &flood[..];
            while !left.is_empty() {
                let len = poll_fn(|cx| here.writer.poll_write(cx, &[IoSlice::new(left)])).await.unwrap();
                left = &left[len..];
            }
            drop(here);
        };
        let read = ServerLog::new(there.reader, async |line: &[u8]| lines.push(line.to_owned())).run();
        tokio::join!(write, read);
        let lens: Vec<usize> = lines.iter().map(Vec::len).collect();
        assert_eq!(lens, [3, 3, 0, MAX_LINE, 10, 4]);
        assert_eq!((&lines[0][..], &lines[5][..]), (&b"one"[..], &b"last"[..]));
    }
}
