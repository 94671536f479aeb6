//! What a process writes, for a client that may or may not read it.

use std::{io::Read, sync::mpsc, thread};

use super::DEADLINE;

/// What a process writes, read only when a test asks for it, and never waited for without a bound.
pub(crate) struct Output {
    /// `None` once closed.
    demand: Option<mpsc::Sender<()>>,
    chunks: mpsc::Receiver<Vec<u8>>,
    unread: Vec<u8>,
}

impl Output {
    pub(crate) fn new(mut source: impl Read + Send + 'static) -> Self {
        let (demand, demanded) = mpsc::channel();
        let (told, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut chunk = vec![0; 64 << 10];
            while demanded.recv().is_ok() {
                // An error, such as that of a terminal whose other end is gone, is an end.
                let len = source.read(&mut chunk).unwrap_or(0);
                if told.send(chunk[..len].to_owned()).is_err() {
                    break;
                }
            }
        });
        Self { demand: Some(demand), chunks, unread: Vec::new() }
    }

    /// One that is closed. Replacing another by it closes that one's descriptor.
    pub(crate) fn closed() -> Self {
        Self { demand: None, chunks: mpsc::channel().1, unread: Vec::new() }
    }

    /// What one read brings; empty at the end.
    pub(crate) fn chunk(&mut self) -> Vec<u8> {
        if !self.unread.is_empty() {
            return std::mem::take(&mut self.unread);
        }
        match &self.demand {
            Some(demand) if demand.send(()).is_ok() => {
                let chunk = self.chunks.recv_timeout(DEADLINE).expect("output in time");
                let text = String::from_utf8_lossy(&chunk);
                assert!(!text.contains("what left is not what came in"), "found by --verify: {text}");
                chunk
            }
            _ => Vec::new(),
        }
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            let mut chunk = self.chunk();
            assert!(!chunk.is_empty(), "the output ended within {:?}", String::from_utf8_lossy(&line));
            if let Some(end) = chunk.iter().position(|&byte| byte == b'\n') {
                self.unread = chunk.split_off(end + 1);
                line.extend_from_slice(&chunk[..end]);
                return String::from_utf8(line).unwrap();
            }
            line.append(&mut chunk);
        }
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        let mut taken = Vec::with_capacity(len);
        while taken.len() < len {
            let mut chunk = self.chunk();
            assert!(!chunk.is_empty(), "the output ended after {} of {len} bytes", taken.len());
            self.unread = chunk.split_off(chunk.len().min(len - taken.len()));
            taken.append(&mut chunk);
        }
        taken
    }

    /// Lines up to the first that contains `text`, which is returned.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Everything up to the end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        loop {
            let mut chunk = self.chunk();
            if chunk.is_empty() {
                return rest;
            }
            rest.append(&mut chunk);
        }
    }
}
