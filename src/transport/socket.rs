//! A connected socket that other processes hold too, as Node gives its children for stdio.
//!
//! Such a socket cannot be reopened, and non-blocking mode is a flag of the shared description: setting it
//! would change it under the other holders. So each call says `MSG_DONTWAIT`, and `MSG_NOSIGNAL` on writes.

use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, BytesMut};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, sendmsg, shutdown},
};
use tokio::io::{Interest, unix::AsyncFd};

/// A socket whose flags are left alone.
#[derive(Debug)]
pub struct SharedSocket {
    fd: AsyncFd<OwnedFd>,
    /// Whether dropping this ends our direction of the connection for all holders.
    ends: Ends,
}

#[derive(Debug, PartialEq, Eq)]
enum Ends {
    Nothing,
    Writing,
}

impl SharedSocket {
    pub(super) fn reading(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: super::watch(fd, Interest::READABLE)?, ends: Ends::Nothing })
    }

    pub(super) fn writing(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: super::watch(fd, Interest::WRITABLE)?, ends: Ends::Writing })
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.fd.poll_read_ready(cx))?;
            // Zeroing the room first is the price of safe code here; it is small next to the call.
            let (filled, room) = (buf.len(), buf.chunk_mut().len());
            buf.resize(filled + room, 0);
            let spare = buf.get_mut(filled..).unwrap_or_default();
            let read = recv(ready.get_inner(), spare, RecvFlags::DONTWAIT).map(|(len, _)| len);
            buf.truncate(filled + read.unwrap_or(0));
            match read {
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                done => return Poll::Ready(done.map_err(io::Error::from)),
            }
        }
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        super::poll_io(&self.fd, cx, |fd| {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            // A reset is how TCP says that the reader is gone.
            sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), flags)
                .map_err(|error| if error == Errno::CONNRESET { Errno::PIPE } else { error })
        })
    }

    pub(super) fn poll_reader_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        super::poll_write_closed(&self.fd, cx)
    }
}

impl Drop for SharedSocket {
    fn drop(&mut self) {
        if self.ends == Ends::Writing {
            // Others may hold the socket open; the peer must see our end all the same. If it is gone
            // already there is nobody to tell.
            let _ = shutdown(self.fd.get_ref(), Shutdown::Write);
        }
    }
}
