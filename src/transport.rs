//! Ways to move bytes: our own stdio, a child's pipes, sockets, an in-memory pair.
//!
//! A transport knows nothing of messages; it reads into the caller's buffer, writes slices, and can tell
//! that its reader is gone also when there is nothing to write. Frames are cut and decided on in
//! [`crate::link`].

#[cfg(unix)]
pub mod connection;
pub mod http;
pub mod listen;
pub mod memory;
#[cfg(unix)]
pub mod pipe;
#[cfg(unix)]
pub mod socket;
pub mod stdio;

#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::io::{AsyncWrite, DuplexStream};
#[cfg(unix)]
use tokio::io::{Interest, unix::AsyncFd};

#[cfg(unix)]
pub use self::pipe::{PipeReader, PipeWriter};

/// The reading end of a byte stream. A closed set, so an enum.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reader {
    /// A pipe of our own, or one we reopened.
    #[cfg(unix)]
    Pipe(PipeReader),
    /// A socket we share with others, whose flags are left alone.
    #[cfg(unix)]
    Socket(socket::SharedSocket),
    /// A connection of our own.
    #[cfg(unix)]
    Connection(connection::ConnectionReader),
    /// Anything else on our stdin: a helper thread reads.
    Stdin(tokio::io::Stdin),
    /// One end of [`memory::pair`].
    Memory(DuplexStream),
}

/// The writing end of a byte stream. Dropping it closes it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Writer {
    /// A pipe of our own, or one we reopened.
    #[cfg(unix)]
    Pipe(PipeWriter),
    /// A socket, whose flags are left alone: one we share with others, or a connection of our own.
    #[cfg(unix)]
    Socket(socket::SharedSocket),
    /// Anything else on our stdout: a helper thread writes.
    Stdout(tokio::io::Stdout),
    /// One end of [`memory::pair`].
    Memory(DuplexStream),
}

impl Reader {
    /// Takes over the reading end of a pipe.
    ///
    /// # Errors
    ///
    /// If it is no pipe, or the runtime cannot watch it. Puts the pipe into non-blocking mode.
    #[cfg(unix)]
    pub fn pipe(fd: OwnedFd) -> io::Result<Self> {
        PipeReader::new(fd).map(Self::Pipe)
    }

    /// Lets a pipe be made larger once it was found full; changes nothing elsewhere. See [`pipe`].
    #[must_use]
    pub fn widening(self) -> Self {
        match self {
            #[cfg(unix)]
            Self::Pipe(pipe) => Self::Pipe(pipe.widening()),
            other => other,
        }
    }

    /// Reads what is there to the end of `buf`, at most its spare capacity; 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// What the system says, except that a connection reset is an end like any other.
    ///
    /// # Cancel safety
    ///
    /// Nothing is read unless `Ready` is returned.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        let read = match self {
            #[cfg(unix)]
            Self::Pipe(pipe) => pipe.poll_read(cx, buf),
            #[cfg(unix)]
            Self::Socket(socket) => socket.poll_read(cx, buf),
            #[cfg(unix)]
            Self::Connection(reader) => reader.poll_read(cx, buf),
            Self::Stdin(stdin) => tokio_util::io::poll_read_buf(Pin::new(stdin), cx, buf),
            Self::Memory(stream) => tokio_util::io::poll_read_buf(Pin::new(stream), cx, buf),
        };
        read.map(|read| match read {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            other => other,
        })
    }
}

impl Writer {
    /// Lets a pipe be made larger once it was found full; changes nothing elsewhere. See [`pipe`].
    #[must_use]
    pub fn widening(self) -> Self {
        match self {
            #[cfg(unix)]
            Self::Pipe(pipe) => Self::Pipe(pipe.widening()),
            other => other,
        }
    }

    /// Writes as much of `slices`, in order, as there is room for.
    ///
    /// # Errors
    ///
    /// What the system says; `BrokenPipe` when the reader is gone.
    ///
    /// # Cancel safety
    ///
    /// Nothing is written unless `Ready` is returned; the rest of the slices must then be written next.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            #[cfg(unix)]
            Self::Pipe(pipe) => pipe.poll_write(cx, slices),
            #[cfg(unix)]
            Self::Socket(socket) => socket.poll_write(cx, slices),
            // One slice after the other: the helper thread copies into its own buffer anyway.
            Self::Stdout(stdout) => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                first.map_or(Poll::Ready(Ok(0)), |slice| Pin::new(stdout).poll_write(cx, slice))
            }
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Pushes out what a helper thread may still hold; nothing to do elsewhere.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Stdout(stdout) => Pin::new(stdout).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Ready when the reader at the other end is gone, also when nothing is being written. Never ready
    /// where the system cannot tell.
    pub fn poll_reader_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            #[cfg(unix)]
            Self::Pipe(pipe) => pipe.poll_reader_gone(cx),
            #[cfg(unix)]
            Self::Socket(socket) => socket.poll_reader_gone(cx),
            Self::Stdout(_) | Self::Memory(_) => Poll::Pending,
        }
    }
}

/// Asks the runtime to watch a descriptor.
#[cfg(unix)]
#[expect(deprecated, reason = "for types that may lie about their descriptor; an `OwnedFd` cannot")]
fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}

/// Tries `write`, and only where there is no room waits for readiness.
#[cfg(unix)]
fn poll_io(
    fd: &AsyncFd<OwnedFd>,
    cx: &mut Context<'_>,
    mut write: impl FnMut(&OwnedFd) -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        match write(fd.get_ref()) {
            Err(rustix::io::Errno::AGAIN) => {}
            Err(rustix::io::Errno::INTR) => continue,
            done => return Poll::Ready(done.map_err(io::Error::from)),
        }
        // Room may have come since; clearing forgets only what was known before, and the next try tells.
        match fd.poll_write_ready(cx) {
            Poll::Ready(ready) => ready?.clear_ready(),
            Poll::Pending => return Poll::Pending,
        }
    }
}

#[cfg(unix)]
fn poll_write_closed(fd: &AsyncFd<OwnedFd>, cx: &mut Context<'_>) -> Poll<()> {
    while let Poll::Ready(ready) = fd.poll_write_ready(cx) {
        let Ok(mut ready) = ready else { return Poll::Ready(()) };
        if ready.ready().is_write_closed() {
            return Poll::Ready(());
        }
        ready.clear_ready();
    }
    Poll::Pending
}
