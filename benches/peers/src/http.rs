//! HTTP/1.1 heads and bodies, as far as the mock server and the load generator need them. No sockets here.

use std::{io, ops::Range};

/// What the head of a request or a response said.
#[derive(Debug, Default)]
pub struct Head {
    /// Bytes of the head itself.
    pub len: usize,
    /// Of a request.
    pub method: String,
    pub path: String,
    /// Of a response.
    pub status: u16,
    pub body: BodyKind,
    pub is_event_stream: bool,
    pub session: Option<String>,
    /// The peer closes after this.
    pub closes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyKind {
    #[default]
    None,
    Sized(usize),
    Chunked,
    UntilClose,
}

const MAX_HEADER_COUNT: usize = 64;

impl Head {
    /// `None` while the head is incomplete.
    pub fn of_request(text: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADER_COUNT];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(len) = request.parse(text).map_err(io::Error::other)? else { return Ok(None) };
        let method = request.method.unwrap_or_default().to_owned();
        let path = request.path.unwrap_or_default().to_owned();
        let mut head = Self { len, method, path, ..Self::default() };
        head.read(request.headers);
        Ok(Some(head))
    }

    /// `None` while the head is incomplete.
    pub fn of_response(text: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADER_COUNT];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(len) = response.parse(text).map_err(io::Error::other)? else { return Ok(None) };
        let status = response.code.unwrap_or_default();
        let mut head = Self { len, status, body: BodyKind::UntilClose, ..Self::default() };
        head.read(response.headers);
        if matches!(status, 100..200 | 204 | 304) {
            head.body = BodyKind::None;
        }
        Ok(Some(head))
    }

    fn read(&mut self, headers: &[httparse::Header<'_>]) {
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let value = || std::str::from_utf8(header.value).unwrap_or_default().trim();
            if is("content-length") {
                self.body = BodyKind::Sized(value().parse().unwrap_or(0));
            } else if is("transfer-encoding") {
                self.body = BodyKind::Chunked;
            } else if is("content-type") {
                self.is_event_stream = value().starts_with("text/event-stream");
            } else if is("mcp-session-id") {
                self.session = Some(value().to_owned());
            } else if is("connection") {
                self.closes = value().eq_ignore_ascii_case("close");
            }
        }
    }
}

/// A body while it arrives: what is left of it, or of the current chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Sized(usize),
    ChunkHead,
    Chunk(usize),
    /// The line end behind a chunk.
    ChunkEnd,
    /// The empty line behind the last chunk; trailers are skipped.
    Trailer,
    UntilClose,
    Done,
}

impl From<BodyKind> for Body {
    fn from(kind: BodyKind) -> Self {
        match kind {
            BodyKind::None | BodyKind::Sized(0) => Self::Done,
            BodyKind::Sized(len) => Self::Sized(len),
            BodyKind::Chunked => Self::ChunkHead,
            BodyKind::UntilClose => Self::UntilClose,
        }
    }
}

impl Body {
    /// How many bytes of `text` are through, and which of them belong to the body. Call it again until nothing is.
    pub fn step(&mut self, text: &[u8]) -> io::Result<(usize, Range<usize>)> {
        match *self {
            Self::Done => Ok((0, 0..0)),
            Self::UntilClose => Ok((text.len(), 0..text.len())),
            Self::Sized(left) => {
                let taken = left.min(text.len());
                *self = if taken == left { Self::Done } else { Self::Sized(left - taken) };
                Ok((taken, 0..taken))
            }
            Self::Chunk(left) => {
                let taken = left.min(text.len());
                *self = if taken == left { Self::ChunkEnd } else { Self::Chunk(left - taken) };
                Ok((taken, 0..taken))
            }
            Self::ChunkHead | Self::ChunkEnd | Self::Trailer => {
                let Some(end) = memchr::memchr(b'\n', text) else { return Ok((0, 0..0)) };
                self.line(text[..end].trim_ascii())?;
                Ok((end + 1, 0..0))
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        *self = match *self {
            Self::ChunkEnd => Self::ChunkHead,
            Self::Trailer if line.is_empty() => Self::Done,
            Self::Trailer => Self::Trailer,
            _ => {
                let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
                match size.ok_or_else(|| io::Error::other("a chunk without a size"))? {
                    0 => Self::Trailer,
                    size => Self::Chunk(size),
                }
            }
        };
        Ok(())
    }
}

/// The data of the first whole event of `stream`, and where the event ends.
///
/// Several data lines are not joined: the mock server sends one, and whoever splits it is seen to have altered it.
pub fn first_event(stream: &[u8], scanned: &mut usize) -> Option<(Range<usize>, usize)> {
    let end = loop {
        let at = *scanned + memchr::memchr(b'\n', stream.get(*scanned..)?)?;
        let line_at = memchr::memrchr(b'\n', &stream[..at]).map_or(0, |before| before + 1);
        *scanned = at + 1;
        if stream[line_at..at].trim_ascii_end().is_empty() {
            break at + 1;
        }
    };
    *scanned = 0;
    let (mut at, mut data) = (0, 0..0);
    while at < end {
        let line_end = at + memchr::memchr(b'\n', &stream[at..end])?;
        if stream[at..].starts_with(b"data:") {
            let from = at + 5 + usize::from(stream[at + 5] == b' ');
            let to = line_end - usize::from(line_end > from && stream[line_end - 1] == b'\r');
            data = from..to;
        }
        at = line_end + 1;
    }
    Some((data, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(kind: BodyKind, text: &[u8], cut: usize) -> Vec<u8> {
        let (mut body, mut out, mut have) = (Body::from(kind), Vec::new(), Vec::new());
        for part in text.chunks(cut) {
            have.extend_from_slice(part);
            loop {
                let (through, range) = body.step(&have).unwrap();
                out.extend_from_slice(&have[range]);
                have.drain(..through);
                if through == 0 {
                    break;
                }
            }
        }
        assert_eq!(body, Body::Done);
        out
    }

    #[test]
    fn chunks_are_joined_however_they_are_cut() {
        let text = b"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        for cut in 1..=text.len() {
            assert_eq!(body_of(BodyKind::Chunked, text, cut), b"hello0123456789");
        }
    }

    #[test]
    fn events_end_at_an_empty_line() {
        let stream = b": hi\r\n\r\nevent: message\ndata: {\"a\":1}\nid: 7\n\ndata";
        let mut scanned = 0;
        let (data, end) = first_event(stream, &mut scanned).unwrap();
        assert_eq!((data, end), (0..0, 8));
        let (data, end) = first_event(&stream[8..], &mut scanned).unwrap();
        assert_eq!(&stream[8..][data], b"{\"a\":1}");
        assert_eq!(first_event(&stream[8 + end..], &mut scanned), None);
    }
}
