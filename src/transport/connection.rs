//! A connected socket of our own, Unix or TCP: made by a listener, or by connecting to a server.
//!
//! **Who closes what.** Dropping the writer ends our direction alone, as closing a pipe does; the other goes on
//! until its own end. **Whether a reader is gone** without anything being written to it: a Unix socket tells at
//! once; TCP tells of a reset, but a peer that closed in good order looks like one that only ended its output
//! until the system's keep-alive finds out (after a minute of silence, and the peer's own time-out).
//!
//! Reads go through tokio, which needs no zeroed room; writes through a second descriptor of the same socket,
//! because tokio's own cannot be watched for the reader's departure (see [`super::PipeWriter`]).

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::AsFd as _,
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{
    Reader, Writer,
    listen::{self, Listening, Stream},
    socket::SharedSocket,
};

/// A connection, from which the halves are taken.
#[derive(Debug)]
pub struct Connection {
    stream: Arc<Stream>,
    peer: Option<SocketAddr>,
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct ConnectionReader(Arc<Stream>);

/// Where a server listens that speaks over a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// `HOST:PORT`, looked up when connecting.
    Tcp(String),
    /// A file.
    Unix(PathBuf),
}

impl Connection {
    /// The next connection that comes in. That one could not be accepted is logged, and the next awaited.
    ///
    /// # Cancel safety
    ///
    /// Safe: no connection is lost.
    pub async fn accept(listening: &Listening) -> Self {
        let (stream, peer) = listening.accept().await;
        Self { stream: Arc::new(stream), peer }
    }

    /// Connects to a server, within `limit`, name look-up included.
    ///
    /// # Errors
    ///
    /// What the system says, or `TimedOut`.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropped, no connection is left.
    pub async fn connect(target: &Target, limit: Duration) -> io::Result<Self> {
        let connecting = async {
            match target {
                Target::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    listen::tune(&stream);
                    let peer = stream.peer_addr()?;
                    Ok(Self { stream: Arc::new(Stream::Tcp(stream)), peer: Some(peer) })
                }
                Target::Unix(path) => {
                    let stream = UnixStream::connect(path).await?;
                    Ok(Self { stream: Arc::new(Stream::Unix(stream)), peer: None })
                }
            }
        };
        let too_slow = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {limit:?}"));
        timeout(limit, connecting).await.map_err(too_slow)?
    }

    /// The address at the other end; none of a Unix socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The two halves. To be taken once: the writer that is dropped first ends our direction for all.
    ///
    /// # Errors
    ///
    /// If there is no descriptor left for the second half, or the runtime cannot watch it.
    pub fn halves(&self) -> io::Result<(Reader, Writer)> {
        let fd = match &*self.stream {
            Stream::Tcp(stream) => stream.as_fd().try_clone_to_owned()?,
            Stream::Unix(stream) => stream.as_fd().try_clone_to_owned()?,
        };
        let reader = Reader::Connection(ConnectionReader(Arc::clone(&self.stream)));
        Ok((reader, Writer::Socket(SharedSocket::writing(fd)?)))
    }

    /// The first byte that comes, which stays to be read. `None` at the end of the stream, and on a Unix socket,
    /// where nobody comes in who cannot open the file.
    ///
    /// # Errors
    ///
    /// What the system says.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is taken.
    pub async fn peek_over_tcp(&self) -> io::Result<Option<u8>> {
        let Stream::Tcp(stream) = &*self.stream else { return Ok(None) };
        let mut first = [0];
        let len = stream.peek(&mut first).await?;
        Ok((len > 0).then_some(first[0]))
    }

    /// Reads what the peer still sends, and forgets it, until the peer ends or `limit` has passed. Call it when
    /// the writer is gone. Without it, closing a TCP socket with something unread in it resets the connection,
    /// and the peer may lose what we wrote last.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn linger(self, limit: Duration) {
        let reader = ConnectionReader(self.stream);
        let reading = async {
            let mut forgotten = BytesMut::with_capacity(FORGOTTEN_LEN);
            while let Ok(1..) = std::future::poll_fn(|cx| reader.poll_read(cx, &mut forgotten)).await {
                forgotten.clear();
            }
        };
        if timeout(limit, reading).await.is_err() {
            tracing::debug!(?limit, "the other end does not close; its connection is cut");
        }
    }
}

impl ConnectionReader {
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        loop {
            let read = match &*self.0 {
                Stream::Tcp(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_read_buf(buf)
                }
                Stream::Unix(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_read_buf(buf)
                }
            };
            match read {
                // What was known of its readiness is forgotten now, so the next look waits.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Room for what nobody reads.
const FORGOTTEN_LEN: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::IoSlice};

    use super::*;
    use crate::transport::listen::Address;

    /// Both ends of a connection over loopback.
    async fn tcp() -> (Connection, Connection) {
        let listening = Listening::bind(&Address::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
        let target = Target::Tcp(listening.local_addr().unwrap().unwrap().to_string());
        let (here, there) = tokio::join!(Connection::connect(&target, SOON), Connection::accept(&listening));
        (here.unwrap(), there)
    }

    fn unix() -> (Connection, Connection) {
        let (here, there) = UnixStream::pair().unwrap();
        let of = |stream| Connection { stream: Arc::new(Stream::Unix(stream)), peer: None };
        (of(here), of(there))
    }

    async fn read(reader: &mut Reader) -> BytesMut {
        let mut buf = BytesMut::with_capacity(64);
        poll_fn(|cx| reader.poll_read(cx, &mut buf)).await.unwrap();
        buf
    }

    async fn write(writer: &mut Writer, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| writer.poll_write(cx, &[IoSlice::new(b""), IoSlice::new(bytes)])).await
    }

    async fn ends_one_way((here, there): (Connection, Connection)) {
        let ((mut reader, mut writer), (mut their_reader, mut their_writer)) =
            (here.halves().unwrap(), there.halves().unwrap());
        assert_eq!(write(&mut writer, b"last").await.unwrap(), 4);
        drop(writer);
        assert_eq!(read(&mut their_reader).await, "last");
        assert_eq!(read(&mut their_reader).await, "");
        // A peer that has ended its output still reads, and is not taken for gone.
        poll_fn(|cx| {
            assert!(their_writer.poll_reader_gone(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        write(&mut their_writer, b"answer").await.unwrap();
        assert_eq!(read(&mut reader).await, "answer");
    }

    #[tokio::test]
    async fn each_direction_ends_on_its_own() {
        ends_one_way(tcp().await).await;
        ends_one_way(unix()).await;
    }

    #[tokio::test]
    async fn reader_that_is_gone_is_noticed_without_writing() {
        let (here, there) = unix();
        let (_reader, mut writer) = here.halves().unwrap();
        drop(there);
        poll_fn(|cx| writer.poll_reader_gone(cx)).await;
        assert_eq!(write(&mut writer, b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);

        let (here, there) = tcp().await;
        let (mut reader, mut writer) = here.halves().unwrap();
        write(&mut writer, b"unread").await.unwrap();
        // With something unread in it, its end is a reset.
        let Stream::Tcp(stream) = &*there.stream else { panic!("TCP was asked for") };
        stream.readable().await.unwrap();
        drop(there);
        poll_fn(|cx| writer.poll_reader_gone(cx)).await;
        assert_eq!(read(&mut reader).await, "");
        assert_eq!(write(&mut writer, b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn peer_that_sends_on_still_gets_what_was_written_last() {
        let (here, there) = tcp().await;
        let ((mut reader, mut writer), (their_reader, mut their_writer)) =
            (here.halves().unwrap(), there.halves().unwrap());
        write(&mut writer, b"nobody reads this").await.unwrap();
        write(&mut their_writer, b"last words").await.unwrap();
        drop((their_reader, their_writer));
        let client = async {
            assert_eq!(read(&mut reader).await, "last words");
            assert_eq!(read(&mut reader).await, "");
            drop((reader, writer, here));
        };
        tokio::join!(client, there.linger(SOON));
    }

    const SOON: Duration = Duration::from_secs(30);
}
