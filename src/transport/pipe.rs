//! Both ends of pipes: our own, a child's, and our standard streams where they are pipes.
//!
//! A pipe holds 64 KiB, so that a long message crosses it in pieces, with a change of processes for each. One that
//! [`widening`](PipeReader::widening) was asked for is made larger when it is first found full. What a pipe holds is the
//! system's memory, and what all pipes of a user may hold together is bounded (`pipe-user-pages-soft`, 64 MiB; beyond that,
//! new ones hold 8 KiB): so it is for a process that has a few pipes, not for one with hundreds of children.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe::Receiver,
};

use super::{poll_io, poll_write_closed, watch};

/// The reading end of a pipe.
#[derive(Debug)]
pub struct PipeReader {
    pipe: Receiver,
    may_widen: bool,
}

/// The writing end of a pipe, watched for its reader's departure.
///
/// Not `tokio::net::unix::pipe::Sender`: asking that one whether the reader is gone, while the pipe has
/// room, means to forget that it has room, after which a write would wait for news that never comes. Here a
/// write is tried before readiness is asked for.
#[derive(Debug)]
pub struct PipeWriter {
    pipe: AsyncFd<OwnedFd>,
    may_widen: bool,
}

impl PipeReader {
    /// Takes over the reading end of a pipe.
    ///
    /// # Errors
    ///
    /// If it is no pipe, or the runtime cannot watch it. Puts the pipe into non-blocking mode.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Receiver::from_owned_fd(fd).map(Self::from)
    }

    /// Lets the pipe be made larger, once a read brings all that it can hold.
    #[must_use]
    pub fn widening(self) -> Self {
        Self { may_widen: true, ..self }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.pipe), cx, buf);
        if self.may_widen && matches!(read, Poll::Ready(Ok(len)) if len >= PIPE_LEN) {
            self.may_widen = false;
            widen(&self.pipe);
        }
        read
    }
}

impl From<Receiver> for PipeReader {
    fn from(pipe: Receiver) -> Self {
        Self { pipe, may_widen: false }
    }
}

impl PipeWriter {
    /// Takes over the writing end of a pipe, which must be in non-blocking mode.
    ///
    /// # Errors
    ///
    /// If the runtime cannot watch it.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { pipe: watch(fd, Interest::WRITABLE)?, may_widen: false })
    }

    /// Lets the pipe be made larger, once a write fills it.
    #[must_use]
    pub fn widening(self) -> Self {
        Self { may_widen: true, ..self }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = poll_io(&self.pipe, cx, |fd| rustix::io::writev(fd, slices));
        if self.may_widen && matches!(written, Poll::Ready(Ok(len)) if len >= PIPE_LEN) {
            self.may_widen = false;
            widen(&self.pipe);
        }
        written
    }

    pub(super) fn poll_reader_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        poll_write_closed(&self.pipe, cx)
    }
}

/// Makes a pipe larger, unless somebody has, and where the system can and allows it. Nothing depends on it.
fn widen(pipe: &impl AsFd) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if rustix::pipe::fcntl_getpipe_size(pipe).is_ok_and(|size| size < WIDE_PIPE_LEN)
        && let Err(error) = rustix::pipe::fcntl_setpipe_size(pipe, WIDE_PIPE_LEN)
    {
        tracing::debug!(%error, "a pipe was found full, and may not be made larger");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = pipe;
}

/// What a pipe holds unless somebody made it larger.
const PIPE_LEN: usize = 64 << 10;
/// What a pipe is made to hold: as much as is read at once.
#[cfg(any(target_os = "linux", target_os = "android"))]
const WIDE_PIPE_LEN: usize = 256 << 10;

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use std::{future::poll_fn, io::Write as _};

    use rustix::{
        io::ioctl_fionbio,
        pipe::{fcntl_getpipe_size, fcntl_setpipe_size},
    };

    use super::*;

    /// How much a pipe of `size` holds, behind one read or write of `len` bytes.
    async fn size_behind(size: usize, len: usize, may_widen: bool, is_read: bool) -> io::Result<usize> {
        let (read, mut write) = io::pipe()?;
        fcntl_setpipe_size(&read, size)?;
        let bytes = vec![0; len];
        let (size, moved) = if is_read {
            write.write_all(&bytes)?;
            let mut reader = PipeReader::new(read.into())?;
            reader.may_widen = may_widen;
            let mut buf = BytesMut::with_capacity(2 * PIPE_LEN);
            let moved = poll_fn(|cx| reader.poll_read(cx, &mut buf)).await?;
            (fcntl_getpipe_size(&reader.pipe)?, moved)
        } else {
            ioctl_fionbio(&write, true)?;
            let mut writer = PipeWriter::new(write.into())?;
            writer.may_widen = may_widen;
            let moved = poll_fn(|cx| writer.poll_write(cx, &[IoSlice::new(&bytes)])).await?;
            (fcntl_getpipe_size(&writer.pipe)?, moved)
        };
        assert_eq!(moved, len);
        Ok(size)
    }

    #[tokio::test]
    async fn pipe_is_made_larger_once_it_was_full_and_only_if_it_may_be() {
        for is_read in [true, false] {
            let sizes = [(PIPE_LEN, true, WIDE_PIPE_LEN), (PIPE_LEN - 1, true, PIPE_LEN), (PIPE_LEN, false, PIPE_LEN)];
            for (len, may_widen, size) in sizes {
                assert_eq!(size_behind(PIPE_LEN, len, may_widen, is_read).await.unwrap(), size);
            }
            // Somebody made it larger than we would.
            let large = 2 * WIDE_PIPE_LEN;
            assert_eq!(size_behind(large, PIPE_LEN, true, is_read).await.unwrap(), large);
        }
    }
}
